// Socket options of listening and upstream sockets.
#ifndef UDPGATE_INTERNAL_NET_SOCKET_OPTIONS_H_
#define UDPGATE_INTERNAL_NET_SOCKET_OPTIONS_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/optional.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace internal {

// Sets SO_RCVBUF or SO_SNDBUF to `bytes`; the kernel limits it to
// net.core.rmem_max or wmem_max, unless the process may exceed them
// (CAP_NET_ADMIN, socket(7)).
void SetReceiveBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes);
void SetSendBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes);

// How the kernel treats the size and the traffic class of datagrams; see the
// fields of ProxyOptions.
struct TrafficOptions {
  bool dont_fragment = false;
  bool copies_traffic_class = true;
};

// For a socket that carries IPv4 datagrams, IPv6 ones, or both.
//
// Over IPv4, ICMP messages about the path MTU are ignored: anyone can forge
// them, and routers fragment packets without the DF bit (IP_PMTUDISC_OMIT;
// ip_sk_use_pmtu, ip_sk_accept_pmtu in include/net/ip.h of Linux). Over IPv6
// they are not ignored: only the source fragments (RFC 8200, section 5), and a
// forged message cannot lower the MTU below 1280 bytes. With `dont_fragment`
// they are ignored over both (IP_PMTUDISC_PROBE, ipv6(7)): the limit is the
// interface's MTU.
absl::Status SetTrafficOptions(SysCalls* sys_calls, int fd, bool has_ipv4,
                               bool has_ipv6, const TrafficOptions& options);

// How many datagrams the kernel has dropped at this socket since it was opened,
// modulo 2^32; 0 if it does not report it (SO_MEMINFO,
// include/uapi/linux/sock_diag.h of Linux).
uint32_t KernelDrops(SysCalls* sys_calls, int fd);

// How much of a socket's send buffer is taken, headers and bookkeeping included
// (SO_MEMINFO, likewise). Both are 0 if the kernel does not report them.
struct SendBufferUse {
  uint32_t queued_bytes = 0;
  uint32_t buffer_bytes = 0;
};
SendBufferUse ReadSendBufferUse(SysCalls* sys_calls, int fd);

// The payload size of the next datagram in the socket, which is not removed;
// nothing if there is none. Takes a pending error of the socket.
absl::optional<size_t> NextDatagramBytes(SysCalls* sys_calls, int fd);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_SOCKET_OPTIONS_H_
