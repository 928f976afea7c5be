#include "udpgate/fastpath/tiny_gate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include <cstring>

#include "testing/await.h"

namespace udpgate {
namespace fastpath {
namespace {

using udpgate::internal::MutexLock;
using udpgate::internal::UniqueFd;

void CheckCall(bool ok, const char* what) {
  if (ok) return;
  ::perror(what);
  ::abort();
}

UniqueFd OpenSocket(const SocketAddress& bound) {
  UniqueFd fd(
      ::socket(bound.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  CheckCall(fd.is_open(), "socket");
  const int on = 1;
  CheckCall(
      ::setsockopt(fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) == 0,
      "SO_TIMESTAMPNS");
  sockaddr_storage address;
  const socklen_t bytes = bound.ToSockaddr(bound.family(), &address);
  CheckCall(
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), bytes) == 0,
      "bind");
  return fd;
}

SocketAddress NameOf(int fd) {
  sockaddr_storage address;
  socklen_t bytes = sizeof(address);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes);
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), bytes);
}

// The source address of this host's datagrams to `destination`.
SocketAddress SourceTowards(const SocketAddress& destination) {
  UniqueFd fd(::socket(destination.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address;
  const socklen_t bytes =
      destination.ToSockaddr(destination.family(), &address);
  CheckCall(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                      bytes) == 0,
            "connect");
  return NameOf(fd.get()).WithPort(0);
}

struct Received {
  SocketAddress from;
  std::string payload;
  int64_t time_nanoseconds = 0;
};

bool Receive(int fd, Received* received) {
  static thread_local char buffer[65536];
  sockaddr_storage from;
  iovec data = {buffer, sizeof(buffer)};
  alignas(cmsghdr) char control[128];
  msghdr message;
  std::memset(&message, 0, sizeof(message));
  message.msg_name = &from;
  message.msg_namelen = sizeof(from);
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t bytes = ::recvmsg(fd, &message, 0);
  if (bytes < 0) return false;
  received->from = SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&from), message.msg_namelen);
  received->payload.assign(buffer, static_cast<size_t>(bytes));
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET ||
        header->cmsg_type != SCM_TIMESTAMPNS) {
      continue;
    }
    timespec time;
    std::memcpy(&time, CMSG_DATA(header), sizeof(time));
    received->time_nanoseconds = time.tv_sec * 1'000'000'000LL + time.tv_nsec;
  }
  return true;
}

const DirectionActivity& Of(FlowDirection direction,
                            const SessionActivity& activity) {
  return direction == FlowDirection::kFromClient ? activity.from_client
                                                 : activity.from_backend;
}

void Add(const DirectionActivity& more, DirectionActivity* sum) {
  sum->datagrams += more.datagrams;
  sum->payload_bytes += more.payload_bytes;
}

void Add(const SessionActivity& more, SessionActivity* sum) {
  Add(more.from_client, &sum->from_client);
  Add(more.from_backend, &sum->from_backend);
}

void Watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  CheckCall(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

}  // namespace

TinyGate::TinyGate(const SocketAddress& listen, const SocketAddress& backend,
                   KernelFlowOffload* offload)
    : backend_(backend),
      offload_(offload),
      socket_(OpenSocket(listen)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  listen_ = NameOf(socket_.get());
  const int bytes = 8 << 20;
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes,
               sizeof(bytes));
  Watch(epoll_.get(), socket_.get());
  thread_ = std::thread([this] { Run(); });
}

TinyGate::~TinyGate() {
  stop_ = true;
  thread_.join();
}

void TinyGate::Run() {
  while (!stop_) {
    if (paused_) {
      ::usleep(1000);
      continue;
    }
    epoll_event events[16];
    const int count = ::epoll_wait(epoll_.get(), events, 16, 10);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == socket_.get()) {
        FromClient();
        continue;
      }
      MutexLock lock(&mutex_);
      for (auto& entry : sessions_) {
        if (entry.second->upstream.get() == events[i].data.fd) {
          FromBackend(entry.second.get());
        }
      }
    }
  }
}

void TinyGate::FromClient() {
  Received received;
  while (!paused_ && Receive(socket_.get(), &received)) {
    MutexLock lock(&mutex_);
    ++from_clients_;
    Session* const session = FindOrOpen(received.from);
    ::send(session->upstream.get(), received.payload.data(),
           received.payload.size(), 0);
    if (session->installed) {
      offload_->PublishHandled(session->slot, FlowDirection::kFromClient,
                               received.time_nanoseconds);
    }
  }
}

void TinyGate::FromBackend(Session* session) {
  Received received;
  while (!paused_ && Receive(session->upstream.get(), &received)) {
    ++from_backend_;
    sockaddr_storage to;
    const socklen_t bytes = session->client.ToSockaddr(listen_.family(), &to);
    ::sendto(socket_.get(), received.payload.data(), received.payload.size(), 0,
             reinterpret_cast<const sockaddr*>(&to), bytes);
    if (session->installed &&
        offload_->state(session->slot) == FlowState::kRefused) {
      Remove(session);
    }
    if (session->installed) {
      offload_->PublishHandled(session->slot, FlowDirection::kFromBackend,
                               received.time_nanoseconds);
    } else if (offload_ != nullptr && may_install_) {
      Install(session);
    }
  }
}

TinyGate::Session* TinyGate::FindOrOpen(const SocketAddress& client) {
  std::unique_ptr<Session>& session = sessions_[client.ToString()];
  if (session != nullptr) return session.get();
  session = std::make_unique<Session>();
  session->client = client;
  session->upstream = OpenSocket(SourceTowards(backend_));
  sockaddr_storage to;
  const socklen_t bytes = backend_.ToSockaddr(backend_.family(), &to);
  CheckCall(::connect(session->upstream.get(),
                      reinterpret_cast<const sockaddr*>(&to), bytes) == 0,
            "connect");
  session->relay = NameOf(session->upstream.get());
  Watch(epoll_.get(), session->upstream.get());
  return session.get();
}

void TinyGate::Install(Session* session) {
  const absl::optional<uint32_t> slot =
      offload_->Install({session->client, listen_, session->relay, backend_});
  session->installed = slot.has_value();
  is_full_ = !slot.has_value();
  if (!slot.has_value()) return;
  session->slot = *slot;
  installed_last_ = *slot;
}

DirectionActivity TinyGate::Activity(const SocketAddress& client,
                                     FlowDirection direction) const {
  MutexLock lock(&mutex_);
  const auto found = sessions_.find(client.ToString());
  if (found == sessions_.end() || !found->second->installed) return {};
  return Of(direction, offload_->ReadActivity(found->second->slot));
}

DirectionActivity TinyGate::Total(FlowDirection direction) const {
  MutexLock lock(&mutex_);
  DirectionActivity total;
  for (const auto& entry : sessions_) {
    if (!entry.second->installed) continue;
    const DirectionActivity one =
        Of(direction, offload_->ReadActivity(entry.second->slot));
    total.datagrams += one.datagrams;
    total.payload_bytes += one.payload_bytes;
  }
  return total;
}

bool TinyGate::IsWithdrawn(const SocketAddress& client) const {
  MutexLock lock(&mutex_);
  const auto found = sessions_.find(client.ToString());
  return found != sessions_.end() && found->second->installed &&
         offload_->state(found->second->slot) == FlowState::kWithdrawn;
}

absl::Status TinyGate::Reinstall(const SocketAddress& client) {
  {
    MutexLock lock(&mutex_);
    Session* const session = FindOrOpen(client);
    Remove(session);
    Install(session);
  }
  return install_status();
}

void TinyGate::Remove(Session* session) {
  if (!session->installed) return;
  Add(offload_->Remove(session->slot), &removed_);
  session->installed = false;
}

void TinyGate::RemoveFlows() {
  MutexLock lock(&mutex_);
  for (auto& entry : sessions_) Remove(entry.second.get());
  may_install_ = false;
}

int TinyGate::ContinueWith(KernelFlowOffload* offload) {
  MutexLock lock(&mutex_);
  Add(offload_->LateActivity(), &removed_);
  int missing = 0;
  for (auto& entry : sessions_) {
    Session* const session = entry.second.get();
    if (!session->installed) continue;
    session->installed = offload->Adopt(
        session->slot, {session->client, listen_, session->relay, backend_});
    if (!session->installed) ++missing;
  }
  offload_ = offload;
  return missing;
}

SessionActivity TinyGate::RelayedInAll() const {
  MutexLock lock(&mutex_);
  SessionActivity sum = removed_;
  Add(offload_->LateActivity(), &sum);
  for (const auto& entry : sessions_) {
    if (!entry.second->installed) continue;
    Add(offload_->ReadActivity(entry.second->slot), &sum);
  }
  return sum;
}

absl::Status TinyGate::install_status() const {
  absl::Status status;
  test::AwaitTrue([&] {
    MutexLock lock(&mutex_);
    status = is_full_ ? absl::ResourceExhaustedError("no free slot")
             : installed_last_ == kNone
                 ? absl::UnavailableError("no session was installed")
                 : offload_->InstallStatus(installed_last_);
    return !absl::IsUnavailable(status);
  });
  return status;
}

}  // namespace fastpath
}  // namespace udpgate
