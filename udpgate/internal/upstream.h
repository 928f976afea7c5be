// Opening a session's socket towards its backend.
#ifndef UDPGATE_INTERNAL_UPSTREAM_H_
#define UDPGATE_INTERNAL_UPSTREAM_H_

#include <cstdint>
#include <vector>

#include "udpgate/internal/relay_ports.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Thousands of these sockets share the kernel's memory for UDP (udp_mem).
inline constexpr int64_t kUpstreamBufferBytesMax = 1 << 20;

// Opens connected, non-blocking sockets on source addresses and ports that the
// gate chooses itself.
//
// Why bind a concrete source address at all: a socket that leaves it to
// connect(2) is first bound to the wildcard, where it collides with every
// other socket on that port, and the ports run out early. Why never
// SO_REUSEADDR or SO_REUSEPORT: with them a new socket could shadow an old one
// and receive its replies.
//
// Threads: the owner of one shard.
class UpstreamOpener {
 public:
  // An open socket, or the call that failed and its errno.
  struct Result {
    int fd = -1;
    SocketAddress relay;  // the local end
    int error = 0;
    const char* failed_call = "";
  };

  // Both must outlive the opener.
  UpstreamOpener(SysCalls* sys_calls, RelayPorts* ports)
      : sys_calls_(sys_calls), ports_(ports) {}

  // The local address, port 0, that the system's routes choose towards
  // `backend`: asked for with a socket of its own, and remembered for a
  // second. Where it fails, `error` and `failed_call` say why.
  SocketAddress FindSource(const SocketAddress& backend,
                           int64_t now_nanoseconds, Result* failure);

  // A socket from `source` to `backend` on a relay port that is noted as
  // `owner`'s, with a receive buffer of `receive_buffer_bytes`, or of
  // kUpstreamBufferBytesMax or the system's limit where these are less.
  Result Open(const SocketAddress& source, const SocketAddress& backend,
              const RelayOwner& owner, int64_t receive_buffer_bytes);

  // Closes it and gives its port back.
  void Close(int fd, const SocketAddress& relay);

 private:
  struct KnownSource {
    SocketAddress backend;  // port 0
    SocketAddress source;
    int64_t expires_nanoseconds;
  };

  // Sets the relay address of `result`, or its error.
  void BindFreePort(int fd, const SocketAddress& source,
                    const SocketAddress& backend, const RelayOwner& owner,
                    Result* result);

  SysCalls* const sys_calls_;
  RelayPorts* const ports_;
  std::vector<KnownSource> known_sources_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UPSTREAM_H_
