#include "udpgate/internal/net/error_queue.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

namespace udpgate {
namespace internal {
namespace {

// The error that the kernel attached, or 0 if ICMP is not its origin.
int ErrorFromNetwork(msghdr* header) {
  for (cmsghdr* entry = CMSG_FIRSTHDR(header); entry != nullptr;
       entry = CMSG_NXTHDR(header, entry)) {
    const bool is_error =
        (entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_RECVERR) ||
        (entry->cmsg_level == IPPROTO_IPV6 && entry->cmsg_type == IPV6_RECVERR);
    if (!is_error) continue;
    sock_extended_err error;
    std::memcpy(&error, CMSG_DATA(entry), sizeof(error));
    if (error.ee_origin == SO_EE_ORIGIN_ICMP ||
        error.ee_origin == SO_EE_ORIGIN_ICMP6) {
      return static_cast<int>(error.ee_errno);
    }
  }
  return 0;
}

}  // namespace

bool IsUnreachable(int error) {
  switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPROTO:
    case EACCES:
    case EPERM:
    case EINVAL:
    case EADDRNOTAVAIL:
    case ENETDOWN:
      return true;
    default:
      return false;
  }
}

bool IsOfEarlierDatagram(int error) {
  switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPROTO:
    case EACCES:
    case EMSGSIZE:
      return true;
    default:
      return false;
  }
}

namespace {

void SetErrorQueue(SysCalls* sys_calls, int fd, int family, int value) {
  // A socket of IPv6 may also serve IPv4.
  sys_calls->SetSockOpt(fd, IPPROTO_IP, IP_RECVERR, &value, sizeof(value));
  if (family == AF_INET) return;
  sys_calls->SetSockOpt(fd, IPPROTO_IPV6, IPV6_RECVERR, &value, sizeof(value));
}

}  // namespace

void EnableErrorQueue(SysCalls* sys_calls, int fd, int family) {
  SetErrorQueue(sys_calls, fd, family, 1);
}

void DisableErrorQueue(SysCalls* sys_calls, int fd, int family) {
  SetErrorQueue(sys_calls, fd, family, 0);
}

int TakeSocketError(SysCalls* sys_calls, int fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  const SysCallResult result =
      sys_calls->GetSockOpt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return result.ok() ? error : 0;
}

int TakeErrors(
    SysCalls* sys_calls, int fd,
    absl::FunctionRef<void(int error, const SocketAddress& to)> visit) {
  for (int i = 0; i < kErrorsPerTakeMax; ++i) {
    // The datagram itself is not needed.
    char byte;
    iovec vector = {&byte, sizeof(byte)};
    sockaddr_storage name;
    alignas(cmsghdr) char
        control[CMSG_SPACE(sizeof(sock_extended_err) + sizeof(sockaddr_in6)) +
                256];
    mmsghdr message{};
    message.msg_hdr.msg_name = &name;
    message.msg_hdr.msg_namelen = sizeof(name);
    message.msg_hdr.msg_iov = &vector;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_control = control;
    message.msg_hdr.msg_controllen = sizeof(control);
    const SysCallResult received =
        sys_calls->RecvMmsg(fd, &message, 1, MSG_DONTWAIT | MSG_ERRQUEUE);
    if (!received.ok()) return i;
    const int error = ErrorFromNetwork(&message.msg_hdr);
    if (error == 0) continue;
    visit(error,
          SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&name),
                                      message.msg_hdr.msg_namelen));
  }
  return kErrorsPerTakeMax;
}

}  // namespace internal
}  // namespace udpgate
