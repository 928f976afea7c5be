// What listen sockets and upstream sockets both ask of the kernel.
#ifndef UDPGATE_INTERNAL_SOCKET_OPTIONS_H_
#define UDPGATE_INTERNAL_SOCKET_OPTIONS_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/optional.h"
#include "udpgate/internal/sys_calls.h"

namespace udpgate {
namespace internal {

// Sets SO_RCVBUF or SO_SNDBUF to `bytes`; the kernel cuts what is too much for
// net.core.rmem_max or wmem_max, except where the process has the right to go
// beyond (CAP_NET_ADMIN, socket(7)).
void SetReceiveBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes);
void SetSendBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes);

// What the kernel does with the size and the traffic class of datagrams; see
// the fields of ProxyOptions.
struct TrafficOptions {
  bool dont_fragment = false;
  bool copies_traffic_class = true;
};

// Of a socket that carries IPv4 datagrams, IPv6 ones, or both.
//
// Over IPv4, what ICMP tells of the path's MTU is not believed: everybody can
// forge that, and no path needs it, since routers may split what has no DF bit
// (IP_PMTUDISC_OMIT; ip_sk_use_pmtu, ip_sk_accept_pmtu in include/net/ip.h of
// Linux). Over IPv6 it is: routers do not split, so a datagram that the source
// does not split never arrives (RFC 8200, section 5), and a forged message
// cannot take it below 1280 bytes. With `dont_fragment` it is believed in
// neither (IP_PMTUDISC_PROBE, ipv6(7)): what counts is the interface's MTU.
absl::Status SetTrafficOptions(SysCalls* sys_calls, int fd, bool has_ipv4,
                               bool has_ipv6, const TrafficOptions& options);

// How many datagrams the kernel has dropped at this socket since it was opened,
// modulo 2^32; 0 where it does not say (SO_MEMINFO,
// include/uapi/linux/sock_diag.h of Linux).
uint32_t KernelDrops(SysCalls* sys_calls, int fd);

// How much of a socket's send buffer is taken, headers and bookkeeping included
// (SO_MEMINFO, likewise). Both are 0 if the kernel does not tell.
struct SendBufferUse {
  uint32_t queued_bytes = 0;
  uint32_t buffer_bytes = 0;
};
SendBufferUse ReadSendBufferUse(SysCalls* sys_calls, int fd);

// The payload bytes of the datagram that the next read would get, which stays
// where it is; nothing where none waits. Takes a pending error of the socket.
absl::optional<size_t> NextDatagramBytes(SysCalls* sys_calls, int fd);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SOCKET_OPTIONS_H_
