// The error queue of a socket with IP_RECVERR or IPV6_RECVERR (ip(7), ipv6(7)):
// errors from ICMP messages and from this host.
#ifndef UDPGATE_INTERNAL_NET_ERROR_QUEUE_H_
#define UDPGATE_INTERNAL_NET_ERROR_QUEUE_H_

#include "absl/functional/function_ref.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Whether this errno says that datagrams do not reach the other side: what the
// kernel makes of ICMP's destination unreachable, time exceeded and parameter
// problem (icmp_err_convert in net/ipv4/icmp.c, tab_unreach in net/ipv6/icmp.c
// of Linux), of routes of type unreachable, prohibit and blackhole
// (fib_props in net/ipv4/fib_semantics.c) and of a packet filter (EPERM). Not
// temporary errors (a full buffer) or a datagram that is too large.
bool IsUnreachable(int error);

// Whether `error` may be that of an earlier datagram, from an ICMP message
// (udp(7)). The datagram of this call was not sent, and should be sent again.
bool IsOfEarlierDatagram(int error);

// Queues errors at `fd`, a socket of `family`, for `TakeErrors`, and has all
// kinds of ICMP errors reported. Best effort: without it a connected socket
// reports only fatal ones, and an unconnected one none (udp(7)).
void EnableErrorQueue(SysCalls* sys_calls, int fd, int family);

// Undoes EnableErrorQueue, and empties the queue (do_ip_setsockopt in
// net/ipv4/ip_sockglue.c of Linux). The pending error of
// the socket stays.
void DisableErrorQueue(SysCalls* sys_calls, int fd, int family);

// Takes the socket's pending error (socket(7), SO_ERROR), or 0. The queue does
// not change. Never waits. Threads: any.
int TakeSocketError(SysCalls* sys_calls, int fd);

// The errors that one call of `TakeErrors` takes at most.
inline constexpr int kErrorsPerTakeMax = 16;

// Takes what is queued, up to that limit, and calls `visit` for each that came
// by ICMP, with the address that the datagram was sent to. Returns how many
// there were, of any origin. Never waits. As long as the queue holds any,
// epoll(7) reports EPOLLERR. Threads: any.
int TakeErrors(
    SysCalls* sys_calls, int fd,
    absl::FunctionRef<void(int error, const SocketAddress& to)> visit);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_ERROR_QUEUE_H_
