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

// How many datagrams the kernel has dropped at this socket since it was opened,
// modulo 2^32; 0 where it does not say (SO_MEMINFO,
// include/uapi/linux/sock_diag.h of Linux).
uint32_t KernelDrops(SysCalls* sys_calls, int fd);

// The payload bytes of the datagram that the next read would get, which stays
// where it is; nothing where none waits. Takes a pending error of the socket.
absl::optional<size_t> NextDatagramBytes(SysCalls* sys_calls, int fd);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SOCKET_OPTIONS_H_
