#include "udpgate/takeover/predecessor.h"

#include <errno.h>
#include <sys/socket.h>

#include <chrono>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/clock.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/gate_reader.h"
#include "udpgate/takeover/internal/host_state.h"
#include "udpgate/takeover/internal/message_fields.h"
#include "udpgate/takeover/internal/messages.h"
#include "udpgate/takeover/internal/notes.h"

namespace udpgate {
namespace takeover {

using internal::Channel;
using internal::Incoming;

using udpgate::internal::HandedGate;
using udpgate::internal::Handover;
using udpgate::internal::UniqueFd;

absl::Status PredecessorOptions::Validate() const {
  if (absl::Status status = internal::ToUnixAddress(socket_path).status();
      !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket_path: ", status.message()));
  }
  if (step_timeout < absl::Milliseconds(10) ||
      step_timeout > absl::Minutes(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("step_timeout: ", absl::FormatDuration(step_timeout),
                     " is not 10 ms to 1 minute"));
  }
  if (disconnects_timeout < absl::ZeroDuration() ||
      disconnects_timeout > absl::Minutes(1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "disconnects_timeout: ", absl::FormatDuration(disconnects_timeout),
        " is not 0 to 1 minute"));
  }
  return absl::OkStatus();
}

class Predecessor::Impl {
 public:
  explicit Impl(PredecessorOptions options) : options_(std::move(options)) {}

  absl::Status Connect();
  void FillIn(ProxyOptions* options);
  int TakeSocket(const std::string& name);
  std::map<std::string, int> TakeFlowDescriptors();
  absl::StatusOr<TakenOver> TakeOver(Proxy* proxy, OnHostState on_host_state);
  absl::StatusOr<std::string> ReadNotes(absl::Duration timeout) {
    if (!has_notes_ || channel_ == nullptr) return std::string();
    channel_->BeginStage(timeout);
    return internal::ReceiveNotes(channel_.get());
  }
  void Release() {
    channel_.reset();
    extra_sockets_.clear();
    flow_descriptors_.clear();
  }
  const SocketAddress& listen_address() const { return listen_address_; }

 private:
  absl::Status ReadGate(Incoming message);
  absl::StatusOr<TakenOver> TakeOver(Handover* handover);
  absl::StatusOr<HandedGate> ReadSessions(Handover* handover);
  absl::Status ReadMessage(Incoming message, internal::GateReader* reader);
  absl::Status CheckCancelled() const {
    if (options_.is_cancelled == nullptr || !options_.is_cancelled()) {
      return absl::OkStatus();
    }
    return absl::CancelledError("this process is shutting down");
  }

  const PredecessorOptions options_;
  std::unique_ptr<Channel> channel_;
  uint64_t hash_seed_ = 0;
  bool has_notes_ = false;
  int64_t late_count_ = 0;
  OnHostState on_host_state_;
  SocketAddress listen_address_;
  std::vector<UniqueFd> listen_fds_;
  std::map<std::string, UniqueFd> extra_sockets_;
  std::map<std::string, UniqueFd> flow_descriptors_;
};

absl::Status Predecessor::Impl::Connect() {
  const std::string& path = options_.socket_path;
  const absl::StatusOr<sockaddr_un> address = internal::ToUnixAddress(path);
  if (!address.ok()) return address.status();
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) {
    return udpgate::internal::ErrnoToStatus(errno, "socket");
  }
  // connect(2) blocks while the backlog of the listener is full (unix(7)).
  const timeval timeout = absl::ToTimeval(options_.step_timeout);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout,
               sizeof(timeout));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address),
                sizeof(*address)) != 0) {
    return udpgate::internal::ErrnoToStatus(errno,
                                            absl::StrCat("connect ", path));
  }
  channel_ = std::make_unique<Channel>(std::move(socket));
  channel_->BeginStage(options_.step_timeout);
  absl::Status status = channel_->CheckPeer().status();
  if (!status.ok()) return status;
  nlohmann::json hello = internal::NewMessage("hello");
  hello["version"] = internal::kVersion;
  status = internal::SendMessage(hello, channel_.get());
  if (!status.ok()) return status;
  absl::StatusOr<Incoming> message =
      internal::ReceiveMessage("gate", channel_.get());
  if (!message.ok()) return message.status();
  return ReadGate(*std::move(message));
}

absl::Status Predecessor::Impl::ReadGate(Incoming message) {
  if (absl::Status status = internal::CheckVersion(message.fields);
      !status.ok()) {
    return status;
  }
  const absl::StatusOr<uint64_t> seed =
      internal::ReadNumber(message.fields, "hash_seed");
  if (!seed.ok()) return seed.status();
  hash_seed_ = *seed;
  const auto has_notes = message.fields.find("has_notes");
  has_notes_ = has_notes != message.fields.end() && *has_notes == true;
  const nlohmann::json& names = message.fields["sockets"];
  if (!names.is_array() || names.size() != message.descriptors.size()) {
    return absl::InvalidArgumentError(
        "the old process sent sockets without names");
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (!names[i].is_string()) continue;
    absl::string_view name = names[i].get_ref<const std::string&>();
    UniqueFd& descriptor = message.descriptors[i];
    if (name == "listen") {
      listen_fds_.push_back(std::move(descriptor));
    } else if (absl::ConsumePrefix(&name, internal::kFlowPrefix)) {
      flow_descriptors_[std::string(name)] = std::move(descriptor);
    } else {
      extra_sockets_[std::string(name)] = std::move(descriptor);
    }
  }
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  if (listen_fds_.empty() ||
      ::getsockname(listen_fds_.front().get(),
                    reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    return absl::InvalidArgumentError("the old process sent no listen socket");
  }
  listen_address_ = SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&name), size);
  return absl::OkStatus();
}

void Predecessor::Impl::FillIn(ProxyOptions* options) {
  options->client_hash_seed = hash_seed_;
  options->listen_address = listen_address_;
  options->listener_count = static_cast<int>(listen_fds_.size());
  options->listen_fds.clear();
  for (UniqueFd& fd : listen_fds_) {
    options->listen_fds.push_back(fd.Release());
  }
}

int Predecessor::Impl::TakeSocket(const std::string& name) {
  const auto found = extra_sockets_.find(name);
  return found == extra_sockets_.end() ? -1 : found->second.Release();
}

std::map<std::string, int> Predecessor::Impl::TakeFlowDescriptors() {
  std::map<std::string, int> taken;
  for (auto& [name, fd] : flow_descriptors_) taken[name] = fd.Release();
  flow_descriptors_.clear();
  return taken;
}

absl::StatusOr<TakenOver> Predecessor::Impl::TakeOver(
    Proxy* proxy, OnHostState on_host_state) {
  on_host_state_ = std::move(on_host_state);
  absl::StatusOr<TakenOver> taken = TakeOver(proxy->handover());
  if (!taken.ok()) {
    internal::SendError(taken.status(), channel_.get());
    return taken;
  }
  if (absl::Status status = proxy->Start(); !status.ok()) return status;
  // Until here `pause` is the time at which the pause began.
  taken->pause =
      absl::Nanoseconds(Clock::Monotonic()->NowNanoseconds()) - taken->pause;
  return taken;
}

// Up to `let_go` of the old process.
absl::StatusOr<TakenOver> Predecessor::Impl::TakeOver(Handover* handover) {
  absl::Status status = handover->ListenForDisconnects();
  if (!status.ok()) return status;
  absl::StatusOr<HandedGate> gate = ReadSessions(handover);
  if (!gate.ok()) return gate.status();
  TakenOver taken;
  taken.session_count = static_cast<int64_t>(gate->sessions.size());
  taken.late_count = late_count_;
  taken.pause = absl::Nanoseconds(gate->pause_began_nanoseconds);
  status = handover->TakeOver(*std::move(gate));
  if (status.ok()) status = CheckCancelled();
  if (status.ok()) {
    status =
        internal::SendMessage(internal::NewMessage("complete"), channel_.get());
  }
  if (status.ok()) {
    status = internal::ReceiveMessage("let_go", channel_.get()).status();
  }
  if (!status.ok()) return status;
  return taken;
}

absl::Status Predecessor::Impl::ReadMessage(Incoming message,
                                            internal::GateReader* reader) {
  if (message.type != "host_state") return reader->Read(std::move(message));
  absl::StatusOr<internal::HostState> host_state =
      internal::ReadHostState(message);
  if (!host_state.ok()) return host_state.status();
  if (on_host_state_ != nullptr) {
    on_host_state_(std::move(host_state->state), host_state->is_late);
  }
  return absl::OkStatus();
}

absl::StatusOr<HandedGate> Predecessor::Impl::ReadSessions(Handover* handover) {
  internal::GateReader reader;
  channel_->BeginStage(options_.step_timeout);
  absl::Status status =
      internal::SendMessage(internal::NewMessage("sockets"), channel_.get());
  if (!status.ok()) return status;
  for (;;) {
    absl::StatusOr<Incoming> message = internal::ReceiveMessage(channel_.get());
    if (!message.ok()) return message.status();
    if (message->type == "sockets_end") break;
    status = ReadMessage(*std::move(message), &reader);
    if (!status.ok()) return status;
  }
  status = handover->Prepare(reader.sessions());
  if (!status.ok()) return status;
  // Each disconnect event must reach one of the two processes.
  constexpr absl::Duration kLookInterval = absl::Milliseconds(2);
  const auto deadline = std::chrono::steady_clock::now() +
                        absl::ToChronoNanoseconds(options_.disconnects_timeout);
  while (!handover->HearsDisconnects() &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(kLookInterval));
  }
  status = CheckCancelled();
  if (!status.ok()) return status;
  channel_->BeginStage(options_.step_timeout);
  nlohmann::json pause = internal::NewMessage("pause");
  pause["keeps_flows"] = handover->KeepsFlows();
  pause["reads_rows"] = true;
  status = internal::SendMessage(pause, channel_.get());
  if (!status.ok()) return status;
  reader.BeginState();
  while (!reader.has_state()) {
    absl::StatusOr<Incoming> message = internal::ReceiveMessage(channel_.get());
    if (!message.ok()) return message.status();
    status = ReadMessage(*std::move(message), &reader);
    if (!status.ok()) return status;
  }
  late_count_ = reader.late_count();
  return reader.Take();
}

absl::StatusOr<std::unique_ptr<Predecessor>> Predecessor::Connect(
    PredecessorOptions options) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  auto impl = std::make_unique<Impl>(std::move(options));
  if (absl::Status status = impl->Connect(); !status.ok()) return status;
  return std::unique_ptr<Predecessor>(new Predecessor(std::move(impl)));
}

Predecessor::Predecessor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Predecessor::~Predecessor() = default;

const SocketAddress& Predecessor::listen_address() const {
  return impl_->listen_address();
}

void Predecessor::FillIn(ProxyOptions* options) { impl_->FillIn(options); }

int Predecessor::TakeSocket(const std::string& name) {
  return impl_->TakeSocket(name);
}

std::map<std::string, int> Predecessor::TakeFlowDescriptors() {
  return impl_->TakeFlowDescriptors();
}

absl::StatusOr<TakenOver> Predecessor::TakeOver(Proxy* proxy,
                                                OnHostState on_host_state) {
  return impl_->TakeOver(proxy, std::move(on_host_state));
}

absl::StatusOr<std::string> Predecessor::ReadNotes(absl::Duration timeout) {
  return impl_->ReadNotes(timeout);
}

void Predecessor::Release() { impl_->Release(); }

}  // namespace takeover
}  // namespace udpgate
