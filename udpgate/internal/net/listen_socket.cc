#include "udpgate/internal/net/listen_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/net/socket_options.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace internal {
namespace {

absl::Status SetOption(SysCalls* sys_calls, int fd, int level, int name,
                       int value, absl::string_view what) {
  const SysCallResult result =
      sys_calls->SetSockOpt(fd, level, name, &value, sizeof(value));
  if (result.ok()) return absl::OkStatus();
  return ErrnoToStatus(result.error, absl::StrCat("setsockopt ", what));
}

absl::StatusOr<int> GetOption(SysCalls* sys_calls, int fd, int name,
                              absl::string_view what) {
  int value = 0;
  socklen_t size = sizeof(value);
  const SysCallResult result =
      sys_calls->GetSockOpt(fd, SOL_SOCKET, name, &value, &size);
  if (result.ok()) return value;
  return ErrnoToStatus(result.error, absl::StrCat("getsockopt ", what));
}

absl::Status ReadBufferSizes(SysCalls* sys_calls, ListenSocket* socket) {
  absl::StatusOr<int> granted =
      GetOption(sys_calls, socket->fd.get(), SO_RCVBUF, "SO_RCVBUF");
  if (!granted.ok()) return granted.status();
  const absl::StatusOr<int> send_granted =
      GetOption(sys_calls, socket->fd.get(), SO_SNDBUF, "SO_SNDBUF");
  if (!send_granted.ok()) return send_granted.status();
  // The kernel doubles what was asked for, for its own book-keeping.
  socket->receive_buffer_bytes = *granted / 2;
  socket->send_buffer_bytes = *send_granted / 2;
  return absl::OkStatus();
}

// Has the kernel tell what it drops at the socket. An emulator of Linux
// (qemu-user) may lack the option: then these drops are not counted.
absl::Status RequestKernelDrops(SysCalls* sys_calls, int fd) {
  const int on = 1;
  const SysCallResult result =
      sys_calls->SetSockOpt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on));
  if (result.ok() || result.error == ENOPROTOOPT) return absl::OkStatus();
  return ErrnoToStatus(result.error, "setsockopt SO_RXQ_OVFL");
}

// The options of every listening socket, already bound or not.
absl::Status Configure(SysCalls* sys_calls, const ProxyOptions& options,
                       ListenSocket* socket) {
  const int fd = socket->fd.get();
  // Those of another gateway stay as they are, until it has let go of them.
  const bool is_taken = options.client_hash_seed != 0;
  if (absl::Status status = is_taken
                                ? ReadBufferSizes(sys_calls, socket)
                                : SetListenOptions(sys_calls, options, socket);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = RequestKernelDrops(sys_calls, fd); !status.ok()) {
    return status;
  }
  if (!is_taken) EnableErrorQueue(sys_calls, fd, socket->family);
  if (!socket->address.is_any()) return absl::OkStatus();
  // On a wildcard address each datagram must say which address it was sent to.
  // IP_PKTINFO also on an IPv6 socket, for its IPv4 clients.
  if (absl::Status status =
          SetOption(sys_calls, fd, IPPROTO_IP, IP_PKTINFO, 1, "IP_PKTINFO");
      !status.ok()) {
    return status;
  }
  if (socket->family == AF_INET) return absl::OkStatus();
  return SetOption(sys_calls, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1,
                   "IPV6_RECVPKTINFO");
}

absl::Status ReadBoundAddress(SysCalls* sys_calls, ListenSocket* socket) {
  sockaddr_storage storage;
  socklen_t size = sizeof(storage);
  const SysCallResult result =
      sys_calls->GetSockName(socket->fd.get(), &storage, &size);
  if (!result.ok()) return ErrnoToStatus(result.error, "getsockname");
  socket->address = SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&storage), size);
  socket->family = storage.ss_family;
  return absl::OkStatus();
}

// An IPv6 socket has an option of its own, since Linux 4.15.
absl::Status AllowAbsentAddress(SysCalls* sys_calls, int fd, int family) {
  return family == AF_INET ? SetOption(sys_calls, fd, IPPROTO_IP, IP_FREEBIND,
                                       1, "IP_FREEBIND")
                           : SetOption(sys_calls, fd, IPPROTO_IPV6,
                                       IPV6_FREEBIND, 1, "IPV6_FREEBIND");
}

absl::StatusOr<ListenSocket> Open(SysCalls* sys_calls,
                                  const ProxyOptions& options,
                                  const SocketAddress& address,
                                  bool is_shared) {
  ListenSocket socket;
  socket.address = address;
  socket.family = address.family();
  const std::string what = address.ToString();
  const SysCallResult opened =
      sys_calls->Socket(socket.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (!opened.ok()) {
    return ErrnoToStatus(opened.error, absl::StrCat("socket for ", what));
  }
  socket.fd.Reset(opened.value);
  if (absl::Status status = Configure(sys_calls, options, &socket);
      !status.ok()) {
    return status;
  }
  if (socket.family == AF_INET6) {
    if (absl::Status status = SetOption(sys_calls, opened.value, IPPROTO_IPV6,
                                        IPV6_V6ONLY, 0, "IPV6_V6ONLY");
        !status.ok()) {
      return status;
    }
  }
  if (options.binds_absent_addresses) {
    if (absl::Status status =
            AllowAbsentAddress(sys_calls, opened.value, socket.family);
        !status.ok()) {
      return status;
    }
  }
  if (is_shared) {
    if (absl::Status status = SetOption(sys_calls, opened.value, SOL_SOCKET,
                                        SO_REUSEPORT, 1, "SO_REUSEPORT");
        !status.ok()) {
      return status;
    }
  }
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(socket.family, &storage);
  const SysCallResult bound = sys_calls->Bind(
      opened.value, reinterpret_cast<const sockaddr*>(&storage), size);
  if (!bound.ok()) {
    const absl::Status status =
        ErrnoToStatus(bound.error, absl::StrCat("bind ", what));
    return OptionError(status.code(), "listen_address",
                       absl::StrCat(": ", status.message()));
  }
  if (absl::Status status = ReadBoundAddress(sys_calls, &socket);
      !status.ok()) {
    return status;
  }
  return socket;
}

absl::StatusOr<ListenSocket> Adopt(SysCalls* sys_calls,
                                   const ProxyOptions& options, UniqueFd fd) {
  ListenSocket socket;
  const int number = fd.get();
  socket.fd = std::move(fd);
  absl::StatusOr<int> type = GetOption(sys_calls, number, SO_TYPE, "SO_TYPE");
  if (!type.ok()) return type.status();
  if (absl::Status status = ReadBoundAddress(sys_calls, &socket);
      !status.ok()) {
    return status;
  }
  if (*type != SOCK_DGRAM || !socket.address.is_valid() ||
      socket.address.port() == 0) {
    return OptionError(
        absl::StatusCode::kInvalidArgument, "listen_fds",
        absl::StrCat(": descriptor ", number, " is not a bound UDP socket"));
  }
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  ::fcntl(number, F_SETFL, ::fcntl(number, F_GETFL) & ~O_NONBLOCK);
  const int off = 0;
  // Two datagrams must not be read as one (udp(7), UDP_GRO).
  sys_calls->SetSockOpt(number, IPPROTO_UDP, UDP_GRO, &off, sizeof(off));
  socket.kernel_drops = KernelDrops(sys_calls, number);
  if (absl::Status status = Configure(sys_calls, options, &socket);
      !status.ok()) {
    return status;
  }
  return socket;
}

absl::Status AttachHash(SysCalls* sys_calls, int fd, const ClientHash& hash,
                        size_t listener_count) {
  std::vector<sock_filter> program =
      hash.ReuseportProgram(static_cast<uint32_t>(listener_count));
  const sock_fprog filter = {static_cast<unsigned short>(program.size()),
                             program.data()};
  const SysCallResult result = sys_calls->SetSockOpt(
      fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof(filter));
  if (result.ok()) return absl::OkStatus();
  return ErrnoToStatus(result.error, "setsockopt SO_ATTACH_REUSEPORT_CBPF");
}

}  // namespace

absl::StatusOr<std::vector<ListenSocket>> OpenListenSockets(
    SysCalls* sys_calls, const ProxyOptions& options, const ClientHash& hash) {
  std::vector<ListenSocket> sockets;
  if (!options.listen_fds.empty()) {
    std::vector<UniqueFd> fds;
    for (const int fd : options.listen_fds) fds.emplace_back(fd);
    for (UniqueFd& fd : fds) {
      absl::StatusOr<ListenSocket> socket =
          Adopt(sys_calls, options, std::move(fd));
      if (!socket.ok()) return socket.status();
      sockets.push_back(*std::move(socket));
    }
    return sockets;
  }
  absl::StatusOr<ListenSocket> first =
      Open(sys_calls, options, options.listen_address, /*is_shared=*/false);
  if (!first.ok()) return first.status();
  const SocketAddress address = first->address;
  sockets.push_back(*std::move(first));
  if (options.listener_count == 1) return sockets;

  // Now that the address is ours alone, the socket may share it.
  const int first_fd = sockets.front().fd.get();
  if (absl::Status status = SetOption(sys_calls, first_fd, SOL_SOCKET,
                                      SO_REUSEPORT, 1, "SO_REUSEPORT");
      !status.ok()) {
    return status;
  }
  for (int i = 1; i < options.listener_count; ++i) {
    absl::StatusOr<ListenSocket> socket =
        Open(sys_calls, options, address, /*is_shared=*/true);
    if (!socket.ok()) return socket.status();
    sockets.push_back(*std::move(socket));
  }
  if (absl::Status status =
          AttachHash(sys_calls, first_fd, hash, sockets.size());
      !status.ok()) {
    return status;
  }
  return sockets;
}

absl::Status SetListenOptions(SysCalls* sys_calls, const ProxyOptions& options,
                              ListenSocket* socket) {
  const int fd = socket->fd.get();
  // IPv4 also on an IPv6 socket, for its IPv4 clients.
  if (absl::Status status = SetTrafficOptions(
          sys_calls, fd, /*has_ipv4=*/true,
          /*has_ipv6=*/socket->family == AF_INET6,
          {options.dont_fragment, options.copies_traffic_class});
      !status.ok()) {
    return status;
  }
  SetReceiveBufferBytes(sys_calls, fd, options.receive_buffer_bytes);
  SetSendBufferBytes(sys_calls, fd, options.receive_buffer_bytes);
  return ReadBufferSizes(sys_calls, socket);
}

bool IsOwnAddress(absl::Span<const ListenSocket> sockets,
                  const SocketAddress& backend, const SocketAddress& source) {
  return std::any_of(sockets.begin(), sockets.end(),
                     [&](const ListenSocket& socket) {
                       if (socket.address.port() != backend.port())
                         return false;
                       if (!socket.address.is_any())
                         return socket.address == backend;
                       // A wildcard of IPv6 serves both families, one of IPv4
                       // only its own.
                       if (socket.family == AF_INET && !backend.is_ipv4())
                         return false;
                       // A local address is reached from itself or over
                       // loopback.
                       return backend.is_loopback() ||
                              source.WithPort(0) == backend.WithPort(0);
                     });
}

}  // namespace internal
}  // namespace udpgate
