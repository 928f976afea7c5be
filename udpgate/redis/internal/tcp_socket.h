// Options and state of a TCP socket to Redis.
#ifndef UDPGATE_REDIS_INTERNAL_TCP_SOCKET_H_
#define UDPGATE_REDIS_INTERNAL_TCP_SOCKET_H_

namespace udpgate {
namespace redis {
namespace internal {

// Sends small writes at once, and keeps an idle connection alive in firewalls.
// Failures are ignored: the options do not change what is sent.
void SetTcpOptions(int fd);

// True if the kernel has sent bytes again and the peer's kernel has not
// acknowledged them (TCP_INFO, tcp(7)): the path is dead, for example because a
// firewall has forgotten the connection. A Redis that hangs acknowledges. False
// for other sockets.
bool IsUnacknowledged(int fd);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_TCP_SOCKET_H_
