#include "udpgate/redis/internal/connection.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/internal/util/thread.h"
#include "udpgate/internal/util/unshared_status.h"
#include "udpgate/redis/internal/tcp_socket.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::ErrnoToStatus;
using udpgate::internal::MutexLock;
using udpgate::internal::StartThread;
using udpgate::internal::SysCallResult;
using udpgate::internal::ThreadRole;
using udpgate::internal::Unshared;

constexpr size_t kReadBytes = 16 * 1024;
// Limits what a flooding peer gets of one iteration.
constexpr int kReadsPerIterationMax = 16;

uint64_t RandomSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

RedisOptions WithDefaults(RedisOptions options) {
  if (options.clock == nullptr) options.clock = Clock::Monotonic();
  if (options.log_sink == nullptr) {
    options.log_sink = [](LogSeverity /*severity*/,
                          absl::string_view /*message*/) {};
  }
  return options;
}

bool IsMessage(const redisReply& reply) {
  return reply.type == REDIS_REPLY_ARRAY && reply.elements > 0 &&
         ReplyText(*reply.element[0]) == "message";
}

}  // namespace

Connection::Connection(RedisOptions options, std::shared_ptr<HostLookup> lookup,
                       absl::string_view what_for,
                       absl::string_view thread_name, ConnectionOwner* owner,
                       const FrameLimits& limits)
    : options_(WithDefaults(std::move(options))),
      text_prefix_(
          absl::StrCat("Redis ", options_.address, " (", what_for, "): ")),
      finder_(std::move(lookup), options_.address_source),
      thread_name_(thread_name),
      owner_(owner),
      limits_(limits),
      health_(Unavailable("not connected yet")),
      backoff_(options_.reconnect_backoff_min, options_.reconnect_backoff_max,
               RandomSeed()),
      password_(options_.password_file, options_.password),
      log_(options_.clock, options_.log_sink, options_.outage_log,
           absl::StrCat("Redis ", options_.address), what_for) {}

absl::Status Connection::Start() {
  if (absl::Status status = finder_.Start(); !status.ok()) return status;
  retry_nanoseconds_ = Now();
  if (password_.has_file()) next_password_check_nanoseconds_ = Now();
  absl::StatusOr<std::thread> thread =
      StartThread(thread_name_, ThreadRole::kControlPlane, [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

void Connection::Stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  Wake();
  thread_.join();
  socket_.Reset();
  SetHealth(Unavailable("stopped"));
}

absl::Status Connection::Health() const {
  MutexLock lock(&health_mutex_);
  return Unshared(health_);
}

absl::Status Connection::WorkHealth() const {
  MutexLock lock(&health_mutex_);
  return Unshared(health_.ok() ? loss_ : health_);
}

void Connection::SetHealth(const absl::Status& health) {
  MutexLock lock(&health_mutex_);
  health_ = Unshared(health);
}

absl::Status Connection::Unavailable(absl::string_view what) const {
  return absl::UnavailableError(absl::StrCat(text_prefix_, what));
}

void Connection::Run() {
  while (!stopping_.load()) PollOnce();
}

void Connection::PollOnce() {
  TakeLookup();
  CheckMove();
  CheckPassword();
  CheckUp();
  if (state_ == State::kWaiting && Now() >= retry_nanoseconds_) BeginAttempt();
  const int64_t owner_nanoseconds = owner_->OnIteration(Now());
  if (!output_.empty()) Flush();
  WaitForEvents(
      std::min({owner_nanoseconds, NextDeadline(), log_.Flush(),
                next_password_check_nanoseconds_, next_checkup_nanoseconds_}));
  // After reading, since a reply may have arrived in time.
  CheckDeadlines();
}

int64_t Connection::NextDeadline() const {
  switch (state_) {
    case State::kWaiting:
      return retry_nanoseconds_;
    case State::kLookingUp:
      return kNever;  // the HostLookup has the time limit
    case State::kConnecting:
    case State::kHandshaking:
      return connect_deadline_nanoseconds_;
    case State::kLoggingIn:
    case State::kConnected:
      break;
  }
  if (!commands_.empty()) {
    return std::min(commands_.front().deadline_nanoseconds,
                    next_silence_check_nanoseconds_);
  }
  return replied_nanoseconds_ +
         absl::ToInt64Nanoseconds(options_.ping_interval);
}

void Connection::CheckDeadlines() {
  if (state_ == State::kWaiting || Now() < NextDeadline()) return;
  if (state_ == State::kConnecting) {
    Drop(Unavailable(
        absl::StrCat("connect timed out after ",
                     absl::FormatDuration(options_.command_timeout))));
  } else if (state_ == State::kHandshaking) {
    Drop(Unavailable(
        absl::StrCat("no TLS handshake within ",
                     absl::FormatDuration(options_.command_timeout),
                     has_received_ ? "" : "; does the server speak TLS?")));
  } else if (!commands_.empty()) {
    CheckSilence();
  } else if (state_ == State::kConnected && !owner_->OnIdle()) {
    Queue(Command::Kind::kPing, {"PING"});
  }
}

void Connection::CheckSilence() {
  if (IsUnacknowledged(socket_.get())) {
    DropClosed(Unavailable("the network no longer delivers to Redis"));
    return;
  }
  if (Now() < commands_.front().deadline_nanoseconds) {
    next_silence_check_nanoseconds_ =
        Now() + absl::ToInt64Nanoseconds(options_.command_timeout / 4);
    return;
  }
  Drop(Unavailable(absl::StrCat(
           "no reply within ", absl::FormatDuration(options_.command_timeout))),
       RedisProblem::kSilent);
}

void Connection::WaitForEvents(int64_t until_nanoseconds) {
  std::array<pollfd, 2> polled{};
  polled[0] = {finder_.wakeup_fd(), POLLIN, 0};
  polled[1] = {socket_.get(), POLLIN,
               0};  // poll(2) ignores a negative descriptor
  if (state_ == State::kConnecting) {
    polled[1].events = POLLOUT;
  } else if (!output_.empty()) {
    polled[1].events |= POLLOUT;
  }
  int timeout_milliseconds = -1;
  if (until_nanoseconds != kNever) {
    // Rounded up, since a wait that ends early would be repeated.
    timeout_milliseconds = static_cast<int>(std::clamp<int64_t>(
        (until_nanoseconds - Now() + 999'999) / 1'000'000, 0, INT_MAX));
  }
  if (poll(polled.data(), polled.size(), timeout_milliseconds) <= 0) return;
  if (polled[0].revents != 0) finder_.ResetWakeup();
  if (polled[1].revents == 0 || stopping_.load()) return;
  if (state_ == State::kConnecting) {
    FinishConnect();
    return;
  }
  if (polled[1].revents & POLLOUT) Flush();
  if (socket_.is_open() && (polled[1].revents & ~POLLOUT) != 0) Read();
}

void Connection::BeginAttempt() {
  ++attempts_;
  attempt_nanoseconds_ = Now();
  if (absl::StartsWith(options_.address, "unix:")) {
    ConnectUnix();
  } else {
    BeginLookup();
  }
}

void Connection::BeginLookup() {
  state_ = State::kLookingUp;
  LookUp();
}

void Connection::LookUp() {
  finder_.Begin(options_.address, options_.command_timeout);
  TakeLookup();  // an IP address is resolved inline
}

void Connection::TakeLookup() {
  if (state_ != State::kLookingUp && !is_checking_name_) return;
  const auto taken = finder_.Take();
  if (!taken.has_value()) return;
  const absl::StatusOr<AddressFinder::Addresses>& found = *taken;
  if (state_ != State::kLookingUp) {
    is_checking_name_ = false;
    if (found.ok()) CheckAddress(*found);
    check_reason_.clear();
    return;
  }
  if (!found.ok()) {
    Drop(Unavailable(found.status().message()));
    return;
  }
  ConnectTcp((*found)[(attempts_ - 1) % found->size()]);
}

void Connection::ConnectTcp(const SocketAddress& address) {
  if (std::exchange(peer_, address) != address) {
    role_closes_ = 0;
    next_role_nanoseconds_ = INT64_MIN;
  }
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(address.family(), &storage);
  Connect(address.family(), reinterpret_cast<const sockaddr*>(&storage), size);
}

void Connection::ConnectUnix() {
  const absl::string_view path = absl::StripPrefix(options_.address, "unix:");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  Connect(AF_UNIX, reinterpret_cast<const sockaddr*>(&address),
          sizeof(address));
}

void Connection::Connect(int family, const sockaddr* address, socklen_t size) {
  const SysCallResult made =
      sys_calls_->Socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (!made.ok()) {
    Drop(Unavailable(ErrnoToStatus(made.error, "socket").message()));
    return;
  }
  socket_.Reset(made.value);
  if (family != AF_UNIX) SetTcpOptions(socket_.get());
  state_ = State::kConnecting;
  connect_deadline_nanoseconds_ =
      Now() + absl::ToInt64Nanoseconds(options_.command_timeout);
  const SysCallResult connected =
      sys_calls_->Connect(socket_.get(), address, size);
  if (connected.ok()) {
    OnConnectDone();
  } else if (connected.error != EINPROGRESS) {
    Drop(Unavailable(ErrnoToStatus(connected.error, "connect").message()));
  }
}

void Connection::FinishConnect() {
  int error = 0;
  socklen_t size = sizeof(error);
  const SysCallResult got = sys_calls_->GetSockOpt(socket_.get(), SOL_SOCKET,
                                                   SO_ERROR, &error, &size);
  if (!got.ok()) error = got.error;
  if (error != 0) {
    Drop(Unavailable(ErrnoToStatus(error, "connect").message()));
    return;
  }
  OnConnectDone();
}

void Connection::OnConnectDone() {
  if (options_.transport == nullptr) {
    LogIn();
  } else {
    BeginHandshake();
  }
}

void Connection::BeginHandshake() {
  state_ = State::kHandshaking;
  connect_deadline_nanoseconds_ =
      Now() + absl::ToInt64Nanoseconds(options_.command_timeout);
  absl::StatusOr<std::unique_ptr<RedisTransport>> transport =
      options_.transport->Create(HostPort::Parse(finder_.target())->host);
  if (!transport.ok()) {
    Drop(transport.status());
    return;
  }
  transport_ = *std::move(transport);
  if (absl::Status status = transport_->Start(&output_); !status.ok()) {
    Drop(status);
  }
}

void Connection::Send(absl::Span<const absl::string_view> arguments) {
  if (finder_.source() != nullptr && finder_.source()->must_ask()) {
    Queue(Command::Kind::kAsking, {"ASKING"});
  }
  Queue(Command::Kind::kOwner, arguments);
}

void Connection::Queue(Command::Kind kind,
                       absl::Span<const absl::string_view> arguments) {
  std::string bytes;
  std::string* const plain = transport_ == nullptr ? &output_ : &bytes;
  absl::StrAppend(plain, "*", arguments.size(), "\r\n");
  for (const absl::string_view argument : arguments) {
    absl::StrAppend(plain, "$", argument.size(), "\r\n", argument, "\r\n");
  }
  if (transport_ != nullptr) transport_->Send(bytes, &output_);
  if (commands_.empty()) {
    next_silence_check_nanoseconds_ =
        Now() + absl::ToInt64Nanoseconds(options_.command_timeout / 2);
  }
  commands_.push_back(
      {kind, Now() + absl::ToInt64Nanoseconds(options_.command_timeout),
       std::string(*arguments.begin())});
}

void Connection::Flush() {
  while (!output_.empty()) {
    const ssize_t sent = send(socket_.get(), output_.data(), output_.size(),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      output_.erase(0, static_cast<size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    // If Redis sent an error before it closed (too many clients), `Read`
    // reports that.
    if (errno != EAGAIN && errno != EPIPE && errno != ECONNRESET) {
      DropClosed(Unavailable(ErrnoToStatus(errno, "send").message()));
      return;
    }
    if (errno != EAGAIN) output_.clear();
    return;
  }
}

void Connection::Read() {
  std::array<char, kReadBytes> buffer;
  for (int reads = 0; reads < kReadsPerIterationMax; ++reads) {
    const ssize_t size =
        recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      OnEndOfStream(errno == ECONNRESET
                        ? "closed the connection"
                        : ErrnoToStatus(errno, "recv").message());
      return;
    }
    if (size == 0) {
      OnEndOfStream("closed the connection");
      return;
    }
    const absl::string_view bytes(buffer.data(), static_cast<size_t>(size));
    if (!(transport_ == nullptr ? Consume(bytes) : Decrypt(bytes))) return;
    has_received_ = true;
    if (static_cast<size_t>(size) < buffer.size()) return;
  }
}

bool Connection::Decrypt(absl::string_view bytes) {
  std::string plain;
  const absl::Status status = transport_->Receive(bytes, &plain, &output_);
  if (state_ == State::kHandshaking && transport_->is_ready()) LogIn();
  if (!plain.empty() && !Consume(plain)) return false;
  if (status.ok()) return true;
  if (!output_.empty()) Flush();  // an alert, which the server may log
  if (!socket_.is_open()) return false;
  if (absl::IsUnavailable(status)) {
    DropClosed(status);
  } else {
    Drop(status);
  }
  return false;
}

bool Connection::Consume(absl::string_view bytes) {
  // A server that expects TLS may send an alert (RFC 8446 section 5.1).
  if (state_ == State::kLoggingIn && !has_received_ && transport_ == nullptr &&
      bytes[0] == '\x15') {
    Drop(Unavailable("the server expects TLS"), RedisProblem::kTls);
    return false;
  }
  const int64_t begin_nanoseconds = Now();
  const absl::Status fed = reader_->Feed(bytes);
  for (;;) {
    const absl::StatusOr<Reply> reply = reader_->Next();
    if (!reply.ok()) {
      Drop(reply.status());
      return false;
    }
    if (*reply == nullptr) break;
    // Whole replies only: a peer that sends single bytes is not alive.
    replied_nanoseconds_ = Now();
    Dispatch(**reply);
    if (!socket_.is_open() || stopping_.load()) return false;
  }
  if (!fed.ok()) {
    Drop(fed);
    return false;
  }
  // Time spent in the owner does not count against the deadlines.
  const int64_t spent_nanoseconds = Now() - begin_nanoseconds;
  for (Command& command : commands_) {
    command.deadline_nanoseconds += spent_nanoseconds;
  }
  return true;
}

void Connection::Dispatch(const redisReply& reply) {
  if (state_ == State::kConnected && IsMessage(reply)) {
    owner_->OnMessage(reply);
    return;
  }
  if (commands_.empty()) {
    if (reply.type == REDIS_REPLY_ERROR) {
      DropForError(reply);
    } else {
      Drop(absl::DataLossError("unexpected reply"));
    }
    return;
  }
  has_reply_ = state_ == State::kConnected;
  const Command::Kind kind = commands_.front().kind;
  commands_.pop_front();
  switch (kind) {
    case Command::Kind::kAuth:
    case Command::Kind::kSelect:
    case Command::Kind::kLoginRole:
    case Command::Kind::kLastLogin:
      OnLoginReply(reply, kind);
      return;
    case Command::Kind::kPing:
      // Any reply shows that Redis is alive, an error too.
      if (reply.type != REDIS_REPLY_ERROR) return;
      OnErrorReply(reply);
      if (IsLoginRevoked(reply)) {
        DropClosed(ErrorToStatus(reply), RedisProblem::kLogin);
      }
      return;
    case Command::Kind::kRole:
      OnRoleReply(reply);
      return;
    case Command::Kind::kAuthAgain:
      OnAuthAgainReply(reply);
      return;
    case Command::Kind::kAsking:
      return;  // the reply to the command itself tells
    case Command::Kind::kOwner:
      has_owner_reply_ = true;
      refusals_ = 0;
      if (FollowError(reply)) return;
      if (!postponed_recovery_.empty() && reply.type != REDIS_REPLY_ERROR) {
        LogRecovery(std::exchange(postponed_recovery_, {}));
      }
      owner_->OnReply(reply);
      return;
  }
}

void Connection::DropClosed(const absl::Status& why, RedisProblem problem) {
  is_closed_in_use_ = state_ == State::kConnected;
  Drop(why, problem);
}

void Connection::Drop(const absl::Status& why, RedisProblem problem) {
  was_closed_in_use_ = std::exchange(is_closed_in_use_, false);
  is_checking_name_ = false;
  const absl::Status named =
      absl::StartsWith(why.message(), text_prefix_)
          ? why
          : absl::Status(why.code(), absl::StrCat(text_prefix_, why.message()));
  const int64_t now_nanoseconds = Now();
  // A connection that was lost soon counts as a failed attempt, so that a Redis
  // that accepts and closes is not retried in a loop. Not if a reply was too
  // large, since that is not a failure of Redis.
  if (state_ == State::kConnected && is_working_ &&
      (absl::IsResourceExhausted(why) ||
       now_nanoseconds - connected_nanoseconds_ >=
           absl::ToInt64Nanoseconds(options_.reconnect_backoff_max))) {
    backoff_.Reset();
  }
  socket_.Reset();
  transport_.reset();
  next_checkup_nanoseconds_ = kNever;
  // A proxy may end a connection because of a command that it does not know.
  const bool awaits_role = std::any_of(
      commands_.begin(), commands_.end(), [](const Command& command) {
        return command.kind == Command::Kind::kRole;
      });
  if (awaits_role && was_closed_in_use_) {
    ++role_closes_;
    PostponeRole();
  }
  has_received_ = false;
  output_.clear();
  commands_.clear();
  state_ = State::kWaiting;
  retry_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(backoff_.Next());
  earliest_retry_nanoseconds_ =
      (was_closed_in_use_ ? attempt_nanoseconds_ : now_nanoseconds) +
      absl::ToInt64Nanoseconds(options_.reconnect_backoff_min);
  has_reply_ = false;
  has_owner_reply_ = false;
  is_working_ = false;
  postponed_recovery_.clear();
  {
    MutexLock lock(&health_mutex_);
    health_ = Unshared(named);
    loss_ = Unshared(named);
  }
  problem_.store(problem);
  if (!is_following_) log_.Lost(named.message(), problem);
  if (finder_.source() != nullptr) finder_.source()->Lost();
  is_dropping_ = true;
  owner_->OnLost(named);
  is_dropping_ = false;
}

void Connection::ReconnectSoon() {
  if (state_ != State::kWaiting || refusals_ >= kRefusalsMax) return;
  retry_nanoseconds_ =
      std::min(retry_nanoseconds_, earliest_retry_nanoseconds_);
  if (!is_dropping_ && Now() >= retry_nanoseconds_) BeginAttempt();
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
