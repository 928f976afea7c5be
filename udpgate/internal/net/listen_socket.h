// The sockets that clients send to.
#ifndef UDPGATE_INTERNAL_NET_LISTEN_SOCKET_H_
#define UDPGATE_INTERNAL_NET_LISTEN_SOCKET_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/internal/net/client_hash.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

struct ListenSocket {
  // In blocking mode: a call that must not wait passes MSG_DONTWAIT.
  UniqueFd fd;
  // As bound, with the port that the kernel chose if 0 was requested.
  SocketAddress address;
  // AF_INET6 also if it serves IPv4 clients.
  int family = 0;
  // What the kernel granted, in the unit of ProxyOptions.
  int64_t receive_buffer_bytes = 0;
  int64_t send_buffer_bytes = 0;
  // What the kernel had dropped at an adopted socket before (SO_RXQ_OVFL).
  uint32_t kernel_drops = 0;
};

// Opens `options.listener_count` sockets on `options.listen_address`, or
// adopts `options.listen_fds` (and owns them, even if this fails).
//
// Several sockets share the address by SO_REUSEPORT, and the kernel picks one
// for a client by `hash`. The first is bound without that option, so that a
// second gateway on the same address fails instead of silently taking half of
// the clients (socket(7), SO_REUSEPORT).
absl::StatusOr<std::vector<ListenSocket>> OpenListenSockets(
    SysCalls* sys_calls, const ProxyOptions& options, const ClientHash& hash);

// Requests the buffer sizes of `options`, notes what was granted, and sets what
// SetTrafficOptions sets. OpenListenSockets calls it, except for sockets of
// another gateway (`client_hash_seed`), which may still need its own options.
absl::Status SetListenOptions(SysCalls* sys_calls, const ProxyOptions& options,
                              ListenSocket* socket);

// True if `backend` is one of `sockets` itself, which would be a forwarding
// loop. `source` is the local address from which the backend is reached.
bool IsOwnAddress(absl::Span<const ListenSocket> sockets,
                  const SocketAddress& backend, const SocketAddress& source);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_LISTEN_SOCKET_H_
