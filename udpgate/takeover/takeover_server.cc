#include "udpgate/takeover/takeover_server.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/thread.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/gate_sender.h"
#include "udpgate/takeover/internal/host_state.h"
#include "udpgate/takeover/internal/known_sessions.h"
#include "udpgate/takeover/internal/messages.h"
#include "udpgate/takeover/internal/notes.h"

namespace udpgate {
namespace takeover {

using internal::Channel;
using internal::Incoming;

using udpgate::internal::HandedGate;
using udpgate::internal::HandedSession;
using udpgate::internal::Mutex;
using udpgate::internal::MutexLock;
using udpgate::internal::UniqueFd;

absl::Status TakeoverServerOptions::Validate() const {
  if (absl::Status status = internal::ToUnixAddress(socket_path).status();
      !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket_path: ", status.message()));
  }
  for (const auto& [name, value] :
       {std::make_pair("step_timeout", step_timeout),
        std::make_pair("pause_max", pause_max)}) {
    if (value < absl::Milliseconds(10) || value > absl::Minutes(1)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": ", absl::FormatDuration(value),
                       " is not 10 ms to 1 minute"));
    }
  }
  return absl::OkStatus();
}

namespace {

bool IsSameFile(const std::string& path, const struct stat& file) {
  struct stat other {};
  return !path.empty() && ::lstat(path.c_str(), &other) == 0 &&
         other.st_dev == file.st_dev && other.st_ino == file.st_ino;
}

}  // namespace

class TakeoverServer::Impl {
 public:
  Impl(TakeoverServerOptions options, Proxy* proxy,
       std::function<void()> on_handed_over)
      : options_(std::move(options)),
        proxy_(proxy),
        on_handed_over_(std::move(on_handed_over)),
        stop_fd_(::eventfd(0, EFD_CLOEXEC)) {}

  absl::Status Start();
  void Stop();
  void AwaitSuccessor(absl::Duration timeout, std::string notes);

 private:
  absl::Status Listen();
  void Run();
  void SendNotes(Channel* channel);
  // One connection. OK if the new process has taken over.
  absl::Status Serve(Channel* channel);
  // The steps of it. While all traffic is forwarded: `hello` and `gate`, then
  // copies of the sockets, which are noted in `known`.
  absl::Status Greet(udpgate::internal::Handover* handover, Channel* channel);
  absl::Status SendSockets(udpgate::internal::Handover* handover,
                           internal::KnownSessions* known, Channel* channel);
  // From `pause` on. The number of sessions that were handed over.
  absl::StatusOr<size_t> HandOver(udpgate::internal::Handover* handover,
                                  internal::KnownSessions* known,
                                  Channel* channel);
  absl::Status SendHostState(bool is_late, Channel* channel) const {
    if (options_.host_state == nullptr) return absl::OkStatus();
    return internal::SendHostState(options_.host_state(is_late), is_late,
                                   channel);
  }
  absl::Status Give(const HandedGate& gate, internal::KnownSessions* known,
                    Channel* channel);
  void Log(LogSeverity severity, const std::string& text) const {
    if (options_.log_sink != nullptr) options_.log_sink(severity, text);
  }

  const TakeoverServerOptions options_;
  Proxy* const proxy_;
  const std::function<void()> on_handed_over_;
  const UniqueFd stop_fd_;
  UniqueFd listen_fd_;
  struct stat socket_file_ {};
  std::thread thread_;
  // The current connection, for Stop.
  Mutex mutex_;
  udpgate::internal::ConditionVariable changed_;
  Channel* channel_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_finished_ ABSL_GUARDED_BY(mutex_) = false;
  // The notes of the host program, once it has called AwaitSuccessor.
  bool has_notes_ ABSL_GUARDED_BY(mutex_) = false;
  std::string notes_ ABSL_GUARDED_BY(mutex_);
};

absl::Status TakeoverServer::Impl::Start() {
  if (!stop_fd_.is_open())
    return udpgate::internal::ErrnoToStatus(errno, "eventfd");
  if (absl::Status status = Listen(); !status.ok()) return status;
  absl::StatusOr<std::thread> thread = udpgate::internal::StartThread(
      "udpgate-takeover", udpgate::internal::ThreadRole::kControlPlane,
      [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

absl::Status TakeoverServer::Impl::Listen() {
  const std::string& path = options_.socket_path;
  const absl::StatusOr<sockaddr_un> address = internal::ToUnixAddress(path);
  if (!address.ok()) return address.status();
  const auto* const name = reinterpret_cast<const sockaddr*>(&*address);
  const auto failed = [&path](const char* call) {
    return udpgate::internal::ErrnoToStatus(errno,
                                            absl::StrCat(call, " ", path));
  };
  listen_fd_.Reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  UniqueFd probe(
      ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listen_fd_.is_open() || !probe.is_open()) return failed("socket");
  struct stat file {};
  if (::lstat(path.c_str(), &file) == 0) {
    if (!S_ISSOCK(file.st_mode)) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": the file exists and is not a socket"));
    }
    // EAGAIN: another process listens, and its backlog is full.
    if (!IsSameFile(options_.predecessor_path, file) &&
        (::connect(probe.get(), name, sizeof(*address)) == 0 ||
         errno == EAGAIN)) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": another gateway listens there"));
    }
    ::unlink(path.c_str());
  }
  // Before bind: the file never has another mode (net/unix/af_unix.c of Linux
  // takes it from the socket).
  if (::fchmod(listen_fd_.get(), S_IRUSR | S_IWUSR) != 0) {
    return failed("fchmod");
  }
  if (::bind(listen_fd_.get(), name, sizeof(*address)) != 0) {
    return failed("bind");
  }
  if (::lstat(path.c_str(), &socket_file_) != 0) return failed("lstat");
  constexpr int kWaitingMax = 4;
  if (::listen(listen_fd_.get(), kWaitingMax) != 0) return failed("listen");
  return absl::OkStatus();
}

void TakeoverServer::Impl::Stop() {
  {
    MutexLock lock(&mutex_);
    is_stopping_ = true;
    if (channel_ != nullptr) channel_->Shutdown();
    changed_.SignalAll();
  }
  const uint64_t one = 1;
  if (::write(stop_fd_.get(), &one, sizeof(one)) != sizeof(one)) return;
  if (thread_.joinable()) thread_.join();
  if (!listen_fd_.is_open()) return;
  listen_fd_.Reset();
  if (IsSameFile(options_.socket_path, socket_file_)) {
    ::unlink(options_.socket_path.c_str());
  }
}

void TakeoverServer::Impl::AwaitSuccessor(absl::Duration timeout,
                                          std::string notes) {
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&mutex_);
  notes_ = std::move(notes);
  has_notes_ = true;
  changed_.SignalAll();
  while (!is_finished_ && std::chrono::steady_clock::now() < deadline) {
    changed_.WaitFor(&mutex_, deadline - std::chrono::steady_clock::now());
  }
}

// The new process can serve without notes.
void TakeoverServer::Impl::SendNotes(Channel* channel) {
  std::string notes;
  {
    MutexLock lock(&mutex_);
    while (!has_notes_ && !is_stopping_) changed_.Wait(&mutex_);
    notes = std::move(notes_);
  }
  channel->BeginStage(options_.step_timeout);
  (void)internal::SendNotes(notes, channel);
}

void TakeoverServer::Impl::Run() {
  pollfd events[] = {{listen_fd_.get(), POLLIN, 0},
                     {stop_fd_.get(), POLLIN, 0}};
  for (;;) {
    // All signals are blocked, so nothing interrupts the wait.
    ::poll(events, 2, -1);
    if (events[1].revents != 0) return;
    UniqueFd socket(
        ::accept4(listen_fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.is_open()) {
      // Out of descriptors, poll(2) would return immediately.
      constexpr int kPauseMilliseconds = 10;
      ::poll(&events[1], 1, kPauseMilliseconds);
      continue;
    }
    Channel channel(std::move(socket));
    {
      MutexLock lock(&mutex_);
      if (is_stopping_) return;
      channel_ = &channel;
    }
    absl::Status status = Serve(&channel);
    if (!status.ok()) {
      if (!absl::IsCancelled(status)) {
        Log(LogSeverity::kWarning,
            absl::StrCat("takeover failed, this process continues to serve: ",
                         status.message()));
      }
      internal::SendError(status, &channel);
    } else {
      SendNotes(&channel);
      // A message or the end of the connection: the new process no longer needs
      // this one.
      channel.BeginStage(absl::InfiniteDuration());
      (void)channel.Receive();
    }
    MutexLock lock(&mutex_);
    channel_ = nullptr;
    if (!status.ok()) continue;
    is_finished_ = true;
    changed_.SignalAll();
    return;
  }
}

absl::Status TakeoverServer::Impl::Serve(Channel* channel) {
  channel->BeginStage(options_.step_timeout);
  const absl::StatusOr<pid_t> peer = channel->CheckPeer();
  if (!peer.ok()) return peer.status();
  udpgate::internal::Handover* const handover = proxy_->handover();
  absl::Status status = Greet(handover, channel);
  if (!status.ok()) return status;
  internal::KnownSessions known;
  status = SendSockets(handover, &known, channel);
  if (!status.ok()) return status;
  const absl::StatusOr<size_t> session_count =
      HandOver(handover, &known, channel);
  if (!session_count.ok()) return session_count.status();
  Log(LogSeverity::kInfo, absl::StrCat("process ", *peer, " has taken over ",
                                       *session_count, " sessions"));
  on_handed_over_();
  return absl::OkStatus();
}

absl::Status TakeoverServer::Impl::Greet(udpgate::internal::Handover* handover,
                                         Channel* channel) {
  const absl::StatusOr<Incoming> hello =
      internal::ReceiveMessage("hello", channel);
  if (absl::IsUnavailable(hello.status())) {
    // A probe whether this process listens, see Listen.
    return absl::CancelledError("connection closed without a request");
  }
  if (!hello.ok()) return hello.status();
  if (absl::Status status = internal::CheckVersion(hello->fields);
      !status.ok()) {
    return status;
  }
  nlohmann::json gate_message = internal::NewMessage("gate");
  gate_message["version"] = internal::kVersion;
  gate_message["hash_seed"] = handover->hash_seed();
  gate_message["has_notes"] = true;
  nlohmann::json& names = gate_message["sockets"] = nlohmann::json::array();
  const absl::StatusOr<std::vector<UniqueFd>> listen_sockets =
      handover->CopyListenSockets();
  if (!listen_sockets.ok()) return listen_sockets.status();
  std::vector<int> descriptors;
  for (const UniqueFd& socket : *listen_sockets) {
    names.push_back("listen");
    descriptors.push_back(socket.get());
  }
  for (const auto& [name, fd] : options_.extra_sockets) {
    names.push_back(name);
    descriptors.push_back(fd);
  }
  const auto flow_descriptors = handover->CopyFlowDescriptors();
  if (descriptors.size() + flow_descriptors.size() <=
      internal::kDescriptorsPerMessageMax) {
    for (const auto& [name, fd] : flow_descriptors) {
      names.push_back(absl::StrCat(internal::kFlowPrefix, name));
      descriptors.push_back(fd.get());
    }
  }
  return internal::SendMessage(gate_message, channel, descriptors);
}

absl::Status TakeoverServer::Impl::SendSockets(
    udpgate::internal::Handover* handover, internal::KnownSessions* known,
    Channel* channel) {
  channel->BeginStage(options_.step_timeout);
  if (absl::Status status =
          internal::ReceiveMessage("sockets", channel).status();
      !status.ok()) {
    return status;
  }
  absl::Status status = SendHostState(/*is_late=*/false, channel);
  if (!status.ok()) return status;
  status = handover->VisitSockets(
      [&](std::vector<HandedSession> sessions) -> absl::Status {
        internal::KnownSessions none;
        absl::Status sent = internal::SendSessions(sessions, &none, channel);
        for (const HandedSession& session : sessions) known->Add(session);
        return sent;
      });
  if (!status.ok()) return status;
  return internal::SendMessage(internal::NewMessage("sockets_end"), channel);
}

absl::StatusOr<size_t> TakeoverServer::Impl::HandOver(
    udpgate::internal::Handover* handover, internal::KnownSessions* known,
    Channel* channel) {
  channel->BeginStage(options_.step_timeout);
  const absl::StatusOr<Incoming> pause =
      internal::ReceiveMessage("pause", channel);
  if (!pause.ok()) return pause.status();
  const auto keeps_flows = pause->fields.find("keeps_flows");
  const auto reads_rows = pause->fields.find("reads_rows");
  known->set_reads_rows(reads_rows != pause->fields.end() &&
                        *reads_rows == true);
  size_t session_count = 0;
  const absl::Status status = handover->HandOver(
      keeps_flows != pause->fields.end() && *keeps_flows == true,
      [&](const HandedGate& gate) {
        session_count = gate.sessions.size();
        return Give(gate, known, channel);
      });
  if (!status.ok()) return status;
  return session_count;
}

// In the pause. If this fails, the Proxy continues to serve.
absl::Status TakeoverServer::Impl::Give(const HandedGate& gate,
                                        internal::KnownSessions* known,
                                        Channel* channel) {
  channel->BeginStage(options_.pause_max);
  absl::Status status = SendHostState(/*is_late=*/true, channel);
  if (status.ok()) status = internal::SendGate(gate, known, channel);
  if (status.ok()) {
    status = internal::ReceiveMessage("complete", channel).status();
  }
  // From here on the sessions belong to the new process.
  if (status.ok()) {
    status = internal::SendMessage(internal::NewMessage("let_go"), channel);
  }
  return status;
}

absl::StatusOr<std::unique_ptr<TakeoverServer>> TakeoverServer::Create(
    TakeoverServerOptions options, Proxy* proxy,
    std::function<void()> on_handed_over) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  return std::unique_ptr<TakeoverServer>(
      new TakeoverServer(std::make_unique<Impl>(std::move(options), proxy,
                                                std::move(on_handed_over))));
}

TakeoverServer::TakeoverServer(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

TakeoverServer::~TakeoverServer() { Stop(); }

absl::Status TakeoverServer::Start() { return impl_->Start(); }

void TakeoverServer::Stop() { impl_->Stop(); }

void TakeoverServer::AwaitSuccessor(absl::Duration timeout, std::string notes) {
  impl_->AwaitSuccessor(timeout, std::move(notes));
}

}  // namespace takeover
}  // namespace udpgate
