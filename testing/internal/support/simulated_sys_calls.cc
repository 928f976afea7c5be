#include "testing/internal/support/simulated_sys_calls.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace udpgate {
namespace test {
namespace {

using internal::SysCallResult;

// No process has so many: whoever hands one to close(2) gets EBADF.
constexpr int kFirstFd = 1 << 30;
constexpr uint16_t kFirstFreePort = 20000;
constexpr int kReceiveBufferBytes = 1 << 20;

SysCallResult Success(int value = 0) { return {value, 0}; }
SysCallResult Failure(int error) { return {-1, error}; }

SocketAddress FromStorage(const void* storage, socklen_t size) {
  return SocketAddress::FromSockaddr(static_cast<const sockaddr*>(storage),
                                     size);
}

absl::string_view Payload(const msghdr& header) {
  return absl::string_view(static_cast<const char*>(header.msg_iov->iov_base),
                           header.msg_iov->iov_len);
}

SocketAddress FromIpv4(const in_addr& ip, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = ip;
  address.sin_port = htons(port);
  return FromStorage(&address, sizeof(address));
}

void WritePacketInfo(const SocketAddress& to, msghdr* header) {
  sockaddr_storage storage;
  to.ToSockaddr(AF_INET, &storage);
  in_pktinfo info{};
  info.ipi_spec_dst = reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr;
  info.ipi_addr = info.ipi_spec_dst;
  auto* entry = static_cast<cmsghdr*>(header->msg_control);
  entry->cmsg_level = IPPROTO_IP;
  entry->cmsg_type = IP_PKTINFO;
  entry->cmsg_len = CMSG_LEN(sizeof(info));
  std::memcpy(CMSG_DATA(entry), &info, sizeof(info));
  header->msg_controllen = CMSG_SPACE(sizeof(info));
}

// Of ICMP errors those that even a socket without IP_RECVERR hears of
// (icmp_err_convert in net/ipv4/icmp.c).
bool IsFatal(int error) {
  return error == ECONNREFUSED || error == ENOPROTOOPT;
}

void WriteError(int error, const SocketAddress& to, msghdr* header) {
  header->msg_flags = MSG_ERRQUEUE;
  if (header->msg_name != nullptr) {
    sockaddr_storage storage;
    const socklen_t size = to.ToSockaddr(AF_INET, &storage);
    std::memcpy(header->msg_name, &storage,
                std::min(size, header->msg_namelen));
    header->msg_namelen = size;
  }
  if (header->msg_control == nullptr) return;
  sock_extended_err extended{};
  extended.ee_errno = static_cast<uint32_t>(error);
  extended.ee_origin = SO_EE_ORIGIN_ICMP;
  auto* entry = static_cast<cmsghdr*>(header->msg_control);
  entry->cmsg_level = IPPROTO_IP;
  entry->cmsg_type = IP_RECVERR;
  entry->cmsg_len = CMSG_LEN(sizeof(extended));
  std::memcpy(CMSG_DATA(entry), &extended, sizeof(extended));
  header->msg_controllen = CMSG_SPACE(sizeof(extended));
}

// Where the datagram leaves from: `local`, or what IP_PKTINFO says.
SocketAddress SourceOf(msghdr* header, const SocketAddress& local) {
  for (cmsghdr* entry = CMSG_FIRSTHDR(header); entry != nullptr;
       entry = CMSG_NXTHDR(header, entry)) {
    if (entry->cmsg_level != IPPROTO_IP || entry->cmsg_type != IP_PKTINFO) {
      continue;
    }
    in_pktinfo info;
    std::memcpy(&info, CMSG_DATA(entry), sizeof(info));
    return FromIpv4(info.ipi_spec_dst, local.port());
  }
  return local;
}

}  // namespace

SimulatedSysCalls::SimulatedSysCalls(SimulatedWorld* world)
    : world_(world), host_(*SocketAddress::FromIpAndPort("10.0.0.1", 0)) {}

bool SimulatedSysCalls::Arrive(const SocketAddress& from,
                               const SocketAddress& to,
                               absl::string_view payload) {
  if (IsLost(to)) return false;
  std::vector<UdpSocket*> connected, listening;
  for (auto& [fd, socket] : sockets_) {
    if (!socket.local.is_valid() || socket.local.port() != to.port()) continue;
    if (!socket.local.is_any() && socket.local != to) continue;
    if (socket.peer == from) {
      connected.push_back(&socket);
    } else if (!socket.peer.is_valid()) {
      listening.push_back(&socket);
    }
  }
  const std::vector<UdpSocket*>& hearers =
      connected.empty() ? listening : connected;
  if (hearers.empty()) return false;
  UdpSocket* const socket = hearers[from.port() % hearers.size()];
  if (socket->queue.size() == kQueueDatagramsMax) {
    ++socket->dropped;
    return false;
  }
  socket->queue.push_back({from, to, std::string(payload)});
  return true;
}

void SimulatedSysCalls::FailSocket(int fd, int error, const SocketAddress& to) {
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return;
  if (!socket->wants_errors) {
    if (!IsFatal(error) || !socket->peer.is_valid()) return;
  } else if (socket->errors.size() < kQueueErrorsMax &&
             socket->queue.size() < kQueueDatagramsMax) {
    // They share the room of the receive buffer.
    socket->errors.push_back({error, to});
  }
  socket->error = error;
}

void SimulatedSysCalls::LoseAddress(const SocketAddress& ip, bool is_told) {
  if (!IsLost(ip)) lost_.push_back(ip);
  if (is_told) TellNetlink();
}

void SimulatedSysCalls::RegainAddress(const SocketAddress& ip, bool is_told) {
  lost_.erase(std::remove(lost_.begin(), lost_.end(), ip), lost_.end());
  if (is_told) TellNetlink();
}

bool SimulatedSysCalls::IsLost(const SocketAddress& address) const {
  return std::find(lost_.begin(), lost_.end(), address.WithPort(0)) !=
         lost_.end();
}

void SimulatedSysCalls::TellNetlink() {
  for (auto& [fd, socket] : sockets_) {
    if (!socket.is_netlink) continue;
    if (socket.queue.size() == kQueueDatagramsMax) {
      socket.error = ENOBUFS;  // netlink(7)
    } else {
      socket.queue.push_back({SocketAddress(), SocketAddress(), "change"});
    }
  }
}

SocketAddress SimulatedSysCalls::local(int fd) const {
  const UdpSocket* socket = FindSocket(fd);
  return socket == nullptr ? SocketAddress() : socket->local;
}

SocketAddress SimulatedSysCalls::peer(int fd) const {
  const UdpSocket* socket = FindSocket(fd);
  return socket == nullptr ? SocketAddress() : socket->peer;
}

size_t SimulatedSysCalls::queued(int fd) const {
  const UdpSocket* socket = FindSocket(fd);
  return socket == nullptr ? 0 : socket->queue.size();
}

size_t SimulatedSysCalls::next_bytes(int fd) const {
  const UdpSocket* socket = FindSocket(fd);
  return socket == nullptr || socket->queue.empty()
             ? 0
             : socket->queue.front().payload.size();
}

bool SimulatedSysCalls::has_error_queue(int fd) const {
  const UdpSocket* socket = FindSocket(fd);
  return socket != nullptr && socket->wants_errors;
}

std::vector<int> SimulatedSysCalls::queued_errors(int fd) const {
  std::vector<int> errors;
  const UdpSocket* socket = FindSocket(fd);
  if (socket == nullptr) return errors;
  for (const QueuedError& queued : socket->errors) {
    errors.push_back(queued.error);
  }
  return errors;
}

int SimulatedSysCalls::NextFd() const {
  int fd = kFirstFd;
  while (sockets_.count(fd) + epoll_sets_.count(fd) + event_fds_.count(fd) > 0)
    ++fd;
  return fd;
}

SimulatedSysCalls::UdpSocket* SimulatedSysCalls::FindSocket(int fd) {
  const auto found = sockets_.find(fd);
  return found == sockets_.end() ? nullptr : &found->second;
}

const SimulatedSysCalls::UdpSocket* SimulatedSysCalls::FindSocket(
    int fd) const {
  const auto found = sockets_.find(fd);
  return found == sockets_.end() ? nullptr : &found->second;
}

bool SimulatedSysCalls::IsTaken(const SocketAddress& local,
                                bool shares_port) const {
  return std::any_of(sockets_.begin(), sockets_.end(), [&](const auto& entry) {
    const UdpSocket& other = entry.second;
    return other.local.is_valid() && other.local.port() == local.port() &&
           !(other.shares_port && shares_port) &&
           (other.local.is_any() || local.is_any() || other.local == local);
  });
}

SocketAddress SimulatedSysCalls::FreePort(const SocketAddress& ip) const {
  SocketAddress local = ip.WithPort(kFirstFreePort);
  while (IsTaken(local, /*shares_port=*/false)) {
    local = local.WithPort(static_cast<uint16_t>(local.port() + 1));
  }
  return local;
}

SysCallResult SimulatedSysCalls::Socket(int domain, int /*type*/,
                                        int /*protocol*/) {
  const int error = world_->OnCall(Call::kSocket, FailingSysCalls::kAnyFd);
  if (error != 0) return Failure(error);
  if (domain != AF_INET && domain != AF_NETLINK) return Failure(EAFNOSUPPORT);
  const int fd = NextFd();
  sockets_[fd].is_netlink = domain == AF_NETLINK;
  return Success(fd);
}

SysCallResult SimulatedSysCalls::Bind(int fd, const sockaddr* address,
                                      socklen_t size) {
  const int error = world_->OnCall(Call::kBind, fd);
  if (error != 0) return Failure(error);
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (socket->is_netlink) return Success();
  SocketAddress local = FromStorage(address, size);
  if (IsLost(local)) return Failure(EADDRNOTAVAIL);
  if (local.port() == 0) local = FreePort(local);
  if (IsTaken(local, socket->shares_port)) return Failure(EADDRINUSE);
  socket->local = local;
  return Success();
}

SysCallResult SimulatedSysCalls::Connect(int fd, const sockaddr* address,
                                         socklen_t size) {
  const int error = world_->OnCall(Call::kConnect, fd);
  if (error != 0) return Failure(error);
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (!socket->local.is_valid()) socket->local = FreePort(host_);
  socket->peer = FromStorage(address, size);
  return Success();
}

SysCallResult SimulatedSysCalls::GetSockName(int fd, sockaddr_storage* address,
                                             socklen_t* size) {
  const int error = world_->OnCall(Call::kGetSockName, fd);
  if (error != 0) return Failure(error);
  const UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  *size = socket->local.ToSockaddr(AF_INET, address);
  return Success();
}

SysCallResult SimulatedSysCalls::SetSockOpt(int fd, int level, int name,
                                            const void* value,
                                            socklen_t /*size*/) {
  const int error = world_->OnCall(Call::kSetSockOpt, fd);
  if (error != 0) return Failure(error);
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (level == SOL_SOCKET && name == SO_REUSEPORT) {
    socket->shares_port = *static_cast<const int*>(value) != 0;
  } else if (level == IPPROTO_IP && name == IP_PKTINFO) {
    socket->wants_packet_info = *static_cast<const int*>(value) != 0;
  } else if (level == IPPROTO_IP && name == IP_RECVERR) {
    socket->wants_errors = *static_cast<const int*>(value) != 0;
    if (!socket->wants_errors) socket->errors.clear();
  }
  return Success();
}

SysCallResult SimulatedSysCalls::GetSockOpt(int fd, int /*level*/, int name,
                                            void* value, socklen_t* /*size*/) {
  const int error = world_->OnCall(Call::kGetSockOpt, fd);
  if (error != 0) return Failure(error);
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (name == SO_ERROR) {
    const int taken = std::exchange(socket->error, 0);
    *static_cast<int*>(value) = taken;
    if (taken != 0) world_->OnReceiveFailed(fd, taken);
  }
  if (name == SO_RCVBUF) *static_cast<int*>(value) = kReceiveBufferBytes;
  if (name == SO_TYPE) *static_cast<int*>(value) = SOCK_DGRAM;
  if (name == SO_MEMINFO) {
    static_cast<uint32_t*>(value)[SK_MEMINFO_DROPS] = socket->dropped;
  }
  return Success();
}

SysCallResult SimulatedSysCalls::Close(int fd) {
  const int error = world_->OnCall(Call::kClose, fd);
  if (sockets_.erase(fd) + epoll_sets_.erase(fd) + event_fds_.erase(fd) == 0) {
    return Failure(EBADF);
  }
  for (auto& [epoll_fd, set] : epoll_sets_) {
    std::vector<Interest>& interests = set.interests;
    interests.erase(
        std::remove_if(interests.begin(), interests.end(),
                       [&](const Interest& other) { return other.fd == fd; }),
        interests.end());
  }
  world_->OnClosed(fd);
  return error != 0 ? Failure(error) : Success();
}

SysCallResult SimulatedSysCalls::RecvMmsg(int fd, mmsghdr* messages,
                                          unsigned int count, int flags) {
  if ((flags & MSG_ERRQUEUE) != 0) return ReadError(fd, messages);
  if ((flags & MSG_PEEK) != 0) {
    return Peek(fd, messages, (flags & MSG_TRUNC) != 0);
  }
  int error = world_->OnCall(Call::kRecvMmsg, fd);
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (error == 0) error = std::exchange(socket->error, 0);
  if (error == 0 && socket->queue.empty()) return Failure(EAGAIN);
  if (error != 0) {
    world_->OnReceiveFailed(fd, error);
    return Failure(error);
  }
  const unsigned int count_max = world_->OnBatch(Call::kRecvMmsg, fd, count);
  unsigned int read = 0;
  while (read < count_max && !socket->queue.empty()) {
    Read(fd, socket, &messages[read++]);
  }
  return Success(static_cast<int>(read));
}

// The error of the entry that is next then is the socket's.
SysCallResult SimulatedSysCalls::ReadError(int fd, mmsghdr* message) {
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (socket->errors.empty()) return Failure(EAGAIN);
  const QueuedError taken = socket->errors.front();
  socket->errors.pop_front();
  socket->error = socket->errors.empty() ? 0 : socket->errors.front().error;
  message->msg_len = 0;
  WriteError(taken.error, taken.to, &message->msg_hdr);
  world_->OnErrorTaken(fd, taken.error, taken.to);
  return Success(1);
}

// Leaves the datagram where it is; an error of the socket it takes.
SysCallResult SimulatedSysCalls::Peek(int fd, mmsghdr* message,
                                      bool wants_length) {
  int error = world_->OnCall(Call::kRecvMmsg, fd);
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (error == 0) error = std::exchange(socket->error, 0);
  if (error == 0 && socket->queue.empty()) error = EAGAIN;
  if (error != 0) return Failure(error);
  const std::string& payload = socket->queue.front().payload;
  msghdr& header = message->msg_hdr;
  const size_t bytes = std::min(header.msg_iov->iov_len, payload.size());
  std::memcpy(header.msg_iov->iov_base, payload.data(), bytes);
  message->msg_len =
      static_cast<unsigned int>(wants_length ? payload.size() : bytes);
  header.msg_flags = bytes < payload.size() ? MSG_TRUNC : 0;
  return Success(1);
}

void SimulatedSysCalls::Read(int fd, UdpSocket* socket, mmsghdr* message) {
  const Datagram datagram = std::move(socket->queue.front());
  socket->queue.pop_front();
  msghdr& header = message->msg_hdr;
  const size_t room_bytes = header.msg_iov->iov_len;
  const size_t bytes = std::min(room_bytes, datagram.payload.size());
  std::memcpy(header.msg_iov->iov_base, datagram.payload.data(), bytes);
  message->msg_len = static_cast<unsigned int>(bytes);
  header.msg_flags = bytes < datagram.payload.size() ? MSG_TRUNC : 0;
  if (socket->is_netlink) return;
  if (header.msg_name != nullptr) {
    sockaddr_storage storage;
    const socklen_t size = datagram.from.ToSockaddr(AF_INET, &storage);
    std::memcpy(header.msg_name, &storage, std::min(size, header.msg_namelen));
    header.msg_namelen = size;
  }
  if (header.msg_control != nullptr) {
    if (socket->wants_packet_info) {
      WritePacketInfo(datagram.to, &header);
    } else {
      header.msg_controllen = 0;
    }
  }
  world_->OnReceived(fd, datagram.payload, room_bytes);
}

SysCallResult SimulatedSysCalls::SendMmsg(int fd, mmsghdr* messages,
                                          unsigned int count) {
  int error = world_->OnCall(Call::kSendMmsg, fd);
  UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return Failure(EBADF);
  if (error == 0) error = std::exchange(socket->error, 0);
  if (error == 0 && IsLost(SourceOf(&messages[0].msg_hdr, socket->local))) {
    error = EINVAL;
  }
  if (error != 0) {
    world_->OnSendFailed(fd, error, Payload(messages[0].msg_hdr));
    return Failure(error);
  }
  const unsigned int sent = world_->OnBatch(Call::kSendMmsg, fd, count);
  for (unsigned int i = 0; i < sent; ++i) {
    msghdr& header = messages[i].msg_hdr;
    const SocketAddress to =
        header.msg_name == nullptr
            ? socket->peer
            : FromStorage(header.msg_name, header.msg_namelen);
    world_->OnSent(fd, SourceOf(&header, socket->local), to, Payload(header));
  }
  return Success(static_cast<int>(sent));
}

SysCallResult SimulatedSysCalls::EpollCreate() {
  const int error = world_->OnCall(Call::kEpollCreate, FailingSysCalls::kAnyFd);
  if (error != 0) return Failure(error);
  const int fd = NextFd();
  epoll_sets_[fd];
  return Success(fd);
}

SysCallResult SimulatedSysCalls::EpollControl(int epoll_fd, int operation,
                                              int fd, epoll_event* event) {
  const int error = world_->OnCall(Call::kEpollControl, fd);
  if (error != 0) return Failure(error);
  std::vector<Interest>& interests = epoll_sets_[epoll_fd].interests;
  const auto found =
      std::find_if(interests.begin(), interests.end(),
                   [&](const Interest& other) { return other.fd == fd; });
  if (operation == EPOLL_CTL_ADD) {
    if (found != interests.end()) return Failure(EEXIST);
    interests.push_back({fd, *event});
    world_->OnWatched(fd);
    return Success();
  }
  if (found == interests.end()) return Failure(ENOENT);
  if (operation == EPOLL_CTL_DEL) {
    interests.erase(found);
  } else {
    found->event = *event;
  }
  return Success();
}

SysCallResult SimulatedSysCalls::EpollWait(int epoll_fd, epoll_event* events,
                                           int events_max,
                                           int64_t timeout_nanoseconds) {
  const int error = world_->OnCall(Call::kEpollWait, epoll_fd);
  if (error != 0) return Failure(error);
  EpollSet& set = epoll_sets_[epoll_fd];
  const int count = CollectEvents(&set, events, events_max);
  if (count > 0 || timeout_nanoseconds == 0) return Success(count);
  world_->OnSleep(timeout_nanoseconds);
  return Success(CollectEvents(&set, events, events_max));
}

// Whoever was reported goes to the end of the row, as in the kernel: with a
// small `events_max` nobody starves.
int SimulatedSysCalls::CollectEvents(EpollSet* set, epoll_event* events,
                                     int events_max) {
  const size_t interest_count = set->interests.size();
  const size_t first = set->next;
  int count = 0;
  for (size_t i = 0; i < interest_count && count < events_max; ++i) {
    const size_t index = (first + i) % interest_count;
    const Interest& interest = set->interests[index];
    const uint32_t ready =
        TakeEvents(interest.fd) &
        (interest.event.events | uint32_t{EPOLLERR} | uint32_t{EPOLLHUP});
    if (ready == 0) continue;
    events[count] = interest.event;
    events[count++].events = ready;
    set->next = index + 1;
  }
  return count;
}

uint32_t SimulatedSysCalls::TakeEvents(int fd) {
  const auto event_fd = event_fds_.find(fd);
  if (event_fd != event_fds_.end()) {
    return std::exchange(event_fd->second, false) ? uint32_t{EPOLLIN} : 0;
  }
  const UdpSocket* const socket = FindSocket(fd);
  if (socket == nullptr) return 0;
  uint32_t events = 0;
  if (socket->error != 0 || !socket->errors.empty()) events |= EPOLLERR;
  if (!socket->queue.empty()) events |= EPOLLIN;
  return events;
}

SysCallResult SimulatedSysCalls::EventFd() {
  const int error = world_->OnCall(Call::kEventFd, FailingSysCalls::kAnyFd);
  if (error != 0) return Failure(error);
  const int fd = NextFd();
  event_fds_[fd] = false;
  return Success(fd);
}

SysCallResult SimulatedSysCalls::EventFdAdd(int fd) {
  const int error = world_->OnCall(Call::kEventFdAdd, fd);
  if (error != 0) return Failure(error);
  event_fds_[fd] = true;
  return Success();
}

SysCallResult SimulatedSysCalls::EventFdReset(int fd) {
  const int error = world_->OnCall(Call::kEventFdReset, fd);
  if (error != 0) return Failure(error);
  event_fds_[fd] = false;
  return Success();
}

}  // namespace test
}  // namespace udpgate
