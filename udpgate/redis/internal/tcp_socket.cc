#include "udpgate/redis/internal/tcp_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace redis {
namespace internal {

using udpgate::internal::SysCalls;

void SetTcpOptions(int fd) {
  const auto set = [fd](int level, int name, int value) {
    SysCalls::Real()->SetSockOpt(fd, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  // PINGs detect a dead peer sooner; keepalive preserves the state of
  // firewalls.
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

bool IsUnacknowledged(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  return SysCalls::Real()
             ->GetSockOpt(fd, IPPROTO_TCP, TCP_INFO, &info, &size)
             .ok() &&
         info.tcpi_unacked > 0 && info.tcpi_retransmits > 0;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
