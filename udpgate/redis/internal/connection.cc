#include "udpgate/redis/internal/connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/internal/util/thread.h"
#include "udpgate/internal/util/unshared_status.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::ErrnoToStatus;
using udpgate::internal::MutexLock;
using udpgate::internal::StartThread;
using udpgate::internal::SysCallResult;
using udpgate::internal::SysCalls;
using udpgate::internal::ThreadRole;
using udpgate::internal::Unshared;

constexpr absl::Duration kLogInterval = absl::Seconds(2);
constexpr size_t kReadBytes = 16 * 1024;
// Limits what a flooding peer gets of one iteration.
constexpr int kReadsPerIterationMax = 16;
// Of an error reply, in logs and errors.
constexpr size_t kQuotedBytesMax = 200;
// Error kinds of Redis, such as WRONGPASS, are shorter.
constexpr size_t kErrorKindBytesMax = 16;

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

// Temporary states of Redis (https://redis.io/docs/reference/
// protocol-spec/#simple-errors: the first word is the kind).
bool IsTemporary(absl::string_view error) {
  for (const absl::string_view kind :
       {"LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN",
        "NOREPLICAS", "OOM", "ERR max number of clients"}) {
    if (absl::StartsWith(error, kind)) return true;
  }
  return false;
}

}  // namespace

Connection::Connection(RedisOptions options, std::shared_ptr<HostLookup> lookup,
                       absl::string_view what_for,
                       absl::string_view thread_name, ConnectionOwner* owner,
                       const FrameLimits& limits)
    : options_(WithDefaults(std::move(options))),
      text_prefix_(
          absl::StrCat("Redis ", options_.address, " (", what_for, "): ")),
      lookup_(std::move(lookup)),
      thread_name_(thread_name),
      owner_(owner),
      limits_(limits),
      health_(Unavailable("not connected yet")),
      backoff_(options_.reconnect_backoff_min, options_.reconnect_backoff_max,
               RandomSeed()),
      lost_limiter_(options_.clock, kLogInterval) {}

absl::Status Connection::Start() {
  const SysCallResult wakeup = sys_calls_->EventFd();
  if (!wakeup.ok()) return ErrnoToStatus(wakeup.error, "eventfd");
  mailbox_->wakeup.Reset(wakeup.value);
  retry_nanoseconds_ = Now();
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

void Connection::Wake() { sys_calls_->EventFdAdd(mailbox_->wakeup.get()); }

absl::Status Connection::Health() const {
  MutexLock lock(&health_mutex_);
  return Unshared(health_);
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
  if (state_ == State::kWaiting && Now() >= retry_nanoseconds_) BeginAttempt();
  const int64_t owner_nanoseconds = owner_->OnIteration(Now());
  if (!output_.empty()) Flush();
  WaitForEvents(std::min(owner_nanoseconds, NextDeadline()));
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
      return connect_deadline_nanoseconds_;
    case State::kLoggingIn:
    case State::kConnected:
      break;
  }
  if (!commands_.empty()) return commands_.front().deadline_nanoseconds;
  return replied_nanoseconds_ +
         absl::ToInt64Nanoseconds(options_.ping_interval);
}

void Connection::CheckDeadlines() {
  if (state_ == State::kWaiting || Now() < NextDeadline()) return;
  if (state_ == State::kConnecting) {
    Drop(Unavailable(
        absl::StrCat("connect timed out after ",
                     absl::FormatDuration(options_.command_timeout))));
  } else if (!commands_.empty()) {
    Drop(Unavailable(absl::StrCat(
        "no reply within ", absl::FormatDuration(options_.command_timeout))));
  } else if (state_ == State::kConnected && !owner_->OnIdle()) {
    Queue(Command::Kind::kPing, {"PING"});
  }
}

void Connection::WaitForEvents(int64_t until_nanoseconds) {
  std::array<pollfd, 2> polled{};
  polled[0] = {mailbox_->wakeup.get(), POLLIN, 0};
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
  if (polled[0].revents != 0) {
    sys_calls_->EventFdReset(mailbox_->wakeup.get());
  }
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
  const absl::StatusOr<HostPort> host_port = HostPort::Parse(options_.address);
  ++lookup_number_;
  {
    MutexLock lock(&mailbox_->mutex);
    mailbox_->awaited_number = lookup_number_;
    mailbox_->is_full = false;
  }
  lookup_->Lookup(
      host_port->host, options_.command_timeout,
      [mailbox = mailbox_, port = host_port->port, number = lookup_number_](
          absl::StatusOr<std::vector<SocketAddress>> found) {
        if (found.ok()) {
          for (SocketAddress& address : *found) {
            address = address.WithPort(port);
          }
        }
        {
          MutexLock lock(&mailbox->mutex);
          if (mailbox->awaited_number != number) return;
          mailbox->found = std::move(found);
          mailbox->is_full = true;
        }
        SysCalls::Real()->EventFdAdd(mailbox->wakeup.get());
      });
  TakeLookup();  // an IP address is resolved inline
}

void Connection::TakeLookup() {
  if (state_ != State::kLookingUp && !is_checking_name_) return;
  absl::StatusOr<std::vector<SocketAddress>> found;
  {
    MutexLock lock(&mailbox_->mutex);
    if (!mailbox_->is_full) return;
    mailbox_->is_full = false;
    found = std::move(mailbox_->found);
  }
  if (state_ != State::kLookingUp) {
    is_checking_name_ = false;
    if (found.ok()) CheckAddress(*found);
    return;
  }
  if (!found.ok()) {
    Drop(Unavailable(found.status().message()));
    return;
  }
  ConnectTcp((*found)[(attempts_ - 1) % found->size()]);
}

void Connection::OnErrorReply(const redisReply& error) {
  if (state_ != State::kConnected || !peer_.is_valid() || is_checking_name_ ||
      !IsTemporary(ReplyText(error)) || Now() < next_check_nanoseconds_) {
    return;
  }
  next_check_nanoseconds_ =
      Now() + absl::ToInt64Nanoseconds(kAddressCheckInterval);
  is_checking_name_ = true;
  LookUp();
  // An inline result (an IP address, a cached name) is handled in the next
  // iteration, since `Drop` must not run while a reply is processed.
}

void Connection::CheckAddress(const std::vector<SocketAddress>& found) {
  const bool is_found =
      std::find(found.begin(), found.end(), peer_) != found.end();
  if (is_found && found.size() == 1) return;
  DropClosed(Unavailable(absl::StrCat(
      peer_.ToString(), " replies with errors, and the host name has ",
      is_found ? "more addresses" : "another address now")));
}

void Connection::ConnectTcp(const SocketAddress& address) {
  peer_ = address;
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
  if (family != AF_UNIX) SetTcpOptions();
  state_ = State::kConnecting;
  connect_deadline_nanoseconds_ =
      Now() + absl::ToInt64Nanoseconds(options_.command_timeout);
  const SysCallResult connected =
      sys_calls_->Connect(socket_.get(), address, size);
  if (connected.ok()) {
    LogIn();
  } else if (connected.error != EINPROGRESS) {
    Drop(Unavailable(ErrnoToStatus(connected.error, "connect").message()));
  }
}

// Failures are ignored: the options do not change what is sent.
void Connection::SetTcpOptions() {
  const auto set = [this](int level, int name, int value) {
    sys_calls_->SetSockOpt(socket_.get(), level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  // PINGs detect a dead peer sooner; keepalive preserves the state of
  // firewalls.
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
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
  LogIn();
}

void Connection::LogIn() {
  state_ = State::kLoggingIn;
  reader_ = std::make_unique<ReplyReader>(limits_);
  replied_nanoseconds_ = Now();
  if (!options_.username.empty()) {
    Queue(Command::Kind::kAuth, {"AUTH", options_.username, options_.password});
  } else if (!options_.password.empty()) {
    Queue(Command::Kind::kAuth, {"AUTH", options_.password});
  }
  if (options_.database != 0) {
    Queue(Command::Kind::kSelect, {"SELECT", absl::StrCat(options_.database)});
  }
  // Always sent: the reply shows that this is Redis, that the login is
  // complete, and that the data is loaded.
  Queue(Command::Kind::kLastLogin, {"PING"});
}

void Connection::OnLoginReply(const redisReply& reply, Command::Kind kind) {
  const bool is_last = kind == Command::Kind::kLastLogin;
  if (kind == Command::Kind::kAuth && reply.type == REDIS_REPLY_ERROR) {
    // The text may quote the password, truncated or with other line breaks.
    // Only the first word, the kind of the error in capitals, is safe to show.
    const absl::string_view text = ReplyText(reply);
    const absl::string_view kind_of_error = text.substr(0, text.find(' '));
    const bool is_kind = std::all_of(kind_of_error.begin(), kind_of_error.end(),
                                     absl::ascii_isupper);
    Drop(absl::FailedPreconditionError(absl::StrCat(
        "login rejected", is_kind ? ": " : "",
        is_kind ? kind_of_error.substr(0, kErrorKindBytesMax) : "")));
    return;
  }
  // A user without permission for PING is logged in, too.
  const bool may_not_ping = is_last && reply.type == REDIS_REPLY_ERROR &&
                            absl::StartsWith(ReplyText(reply), "NOPERM");
  if (reply.type != REDIS_REPLY_STATUS && !may_not_ping) {
    Drop(reply.type == REDIS_REPLY_ERROR
             ? ErrorToStatus(reply)
             : absl::DataLossError(
                   "unexpected reply during login; is this a Redis server?"));
    return;
  }
  if (!is_last) return;
  state_ = State::kConnected;
  connected_nanoseconds_ = Now();
  SetHealth(absl::OkStatus());
  owner_->OnConnected();
}

void Connection::Send(std::initializer_list<absl::string_view> arguments) {
  Queue(Command::Kind::kOwner, arguments);
}

void Connection::Queue(Command::Kind kind,
                       std::initializer_list<absl::string_view> arguments) {
  absl::StrAppend(&output_, "*", arguments.size(), "\r\n");
  for (const absl::string_view argument : arguments) {
    absl::StrAppend(&output_, "$", argument.size(), "\r\n", argument, "\r\n");
  }
  commands_.push_back(
      {kind, Now() + absl::ToInt64Nanoseconds(options_.command_timeout)});
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
      DropClosed(Unavailable(ErrnoToStatus(errno, "recv").message()));
      return;
    }
    if (size == 0) {
      DropClosed(Unavailable("closed the connection"));
      return;
    }
    if (!Consume({buffer.data(), static_cast<size_t>(size)})) return;
    if (static_cast<size_t>(size) < buffer.size()) return;
  }
}

bool Connection::Consume(absl::string_view bytes) {
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
    Drop(reply.type == REDIS_REPLY_ERROR
             ? ErrorToStatus(reply)
             : absl::DataLossError("unexpected reply"));
    return;
  }
  const Command::Kind kind = commands_.front().kind;
  commands_.pop_front();
  switch (kind) {
    case Command::Kind::kAuth:
    case Command::Kind::kSelect:
    case Command::Kind::kLastLogin:
      OnLoginReply(reply, kind);
      return;
    case Command::Kind::kPing:
      // Any reply shows that Redis is alive, an error too.
      if (reply.type == REDIS_REPLY_ERROR) OnErrorReply(reply);
      return;
    case Command::Kind::kOwner:
      owner_->OnReply(reply);
      return;
  }
}

void Connection::DropClosed(const absl::Status& why) {
  is_closed_in_use_ = state_ == State::kConnected;
  Drop(why);
}

void Connection::Drop(const absl::Status& why) {
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
  if (state_ == State::kConnected &&
      (absl::IsResourceExhausted(why) ||
       now_nanoseconds - connected_nanoseconds_ >=
           absl::ToInt64Nanoseconds(options_.reconnect_backoff_max))) {
    backoff_.Reset();
  }
  socket_.Reset();
  output_.clear();
  commands_.clear();
  state_ = State::kWaiting;
  retry_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(backoff_.Next());
  earliest_retry_nanoseconds_ =
      now_nanoseconds +
      absl::ToInt64Nanoseconds(options_.reconnect_backoff_min);
  SetHealth(named);
  LogLost(named);
  owner_->OnLost(named);
}

void Connection::ReconnectSoon() {
  if (state_ != State::kWaiting) return;
  retry_nanoseconds_ =
      std::min(retry_nanoseconds_, earliest_retry_nanoseconds_);
  if (Now() >= retry_nanoseconds_) BeginAttempt();
}

absl::Status Connection::ErrorToStatus(const redisReply& error) const {
  const absl::string_view text = ReplyText(error);
  std::string quoted = absl::StrCat(
      "replied \"", absl::CHexEscape(text.substr(0, kQuotedBytesMax)), "\"");
  if (!options_.password.empty() &&
      absl::StrContains(text, options_.password)) {
    quoted = "replied with an error that contains the password";
  }
  absl::Status status = Unavailable(quoted);
  if (IsTemporary(text)) return status;
  return absl::FailedPreconditionError(status.message());
}

void Connection::LogLost(const absl::Status& why) {
  // Once per outage, and again if the reason changes.
  if (!is_recovery_logged_ && why.message() == lost_logged_) return;
  int64_t suppressed;
  if (!lost_limiter_.Admit(&suppressed)) return;
  is_recovery_logged_ = false;
  lost_logged_ = std::string(why.message());
  options_.log_sink(LogSeverity::kWarning,
                    suppressed == 0
                        ? absl::StrCat(why.message(), "; retrying")
                        : absl::StrCat(why.message(), "; retrying (",
                                       suppressed, " failures not shown)"));
}

void Connection::LogRecovery(absl::string_view what) {
  // At most once per logged failure, so at a limited rate.
  if (is_recovery_logged_) return;
  is_recovery_logged_ = true;
  lost_logged_.clear();
  options_.log_sink(LogSeverity::kInfo, absl::StrCat(text_prefix_, what));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
