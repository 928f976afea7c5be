// The sockets that clients send to.
#ifndef UDPGATE_INTERNAL_LISTEN_SOCKET_H_
#define UDPGATE_INTERNAL_LISTEN_SOCKET_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/internal/client_hash.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

struct ListenSocket {
  // In blocking mode: who must not wait says so with each call.
  UniqueFd fd;
  // As bound: with the port that the kernel chose where 0 was asked for.
  SocketAddress address;
  // AF_INET6 also where it serves IPv4 clients.
  int family = 0;
  // What the kernel granted, in the unit of ProxyOptions.
  int64_t receive_buffer_bytes = 0;
  int64_t send_buffer_bytes = 0;
  // What the kernel had dropped at an adopted socket before.
  uint32_t kernel_drops = 0;
};

// Opens `options.listener_count` sockets on `options.listen_address`, or
// adopts `options.listen_fds` (and owns them, also where this fails).
//
// Several sockets share the address by SO_REUSEPORT, and the kernel picks one
// for a client by `hash`. The first is bound without that option, so that a
// second gate on the same address fails instead of silently taking half of the
// clients (socket(7), SO_REUSEPORT).
absl::StatusOr<std::vector<ListenSocket>> OpenListenSockets(
    SysCalls* sys_calls, const ProxyOptions& options, const ClientHash& hash);

// Asks for `options.receive_buffer_bytes` each way, and notes what was granted;
// and for what SetTrafficOptions sets. OpenListenSockets does it, but for the
// sockets of another gate
// (`client_hash_seed`), which may need theirs still.
absl::Status SetListenOptions(SysCalls* sys_calls, const ProxyOptions& options,
                              ListenSocket* socket);

// True where `backend` is one of `sockets` itself, which would relay in
// circles. `source` is the local address from which the backend is reached.
bool IsOwnAddress(absl::Span<const ListenSocket> sockets,
                  const SocketAddress& backend, const SocketAddress& source);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_LISTEN_SOCKET_H_
