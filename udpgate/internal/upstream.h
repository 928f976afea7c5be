// Opening a session's socket towards its backend.
#ifndef UDPGATE_INTERNAL_UPSTREAM_H_
#define UDPGATE_INTERNAL_UPSTREAM_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "udpgate/internal/relay_ports.h"
#include "udpgate/internal/socket_options.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Thousands of these sockets share the kernel's memory for UDP (udp_mem).
inline constexpr int64_t kUpstreamBufferBytesMax = 1 << 20;

// OK where a socket can be bound to each of these addresses, with a port that
// the kernel chooses; else the first failure, with the address in it.
absl::Status CheckBindAddresses(SysCalls* sys_calls,
                                absl::Span<const SocketAddress> addresses);

// Opens connected, non-blocking sockets on source addresses and ports that the
// gate chooses itself.
//
// Why bind a concrete source address at all: a socket that leaves it to
// connect(2) is first bound to the wildcard, where it collides with every
// other socket on that port, and the ports run out early. Why never
// SO_REUSEADDR or SO_REUSEPORT: with them a new socket could shadow an old one
// and receive its replies.
//
// A failure leaves no descriptor open and no port taken, and nothing behind
// that could make the next attempt fail.
//
// Threads: the owner of one shard.
class UpstreamOpener {
 public:
  // Ports that a stranger holds are rare; a row of them means trouble that the
  // next client will not have to wait for.
  static constexpr int kAttemptsMax = 64;

  // An open socket, or the call that failed and its errno.
  struct Result {
    int fd = -1;
    SocketAddress relay;  // the local end
    int error = 0;
    const char* failed_call = "";
    // No source port is left, though there are addresses that can be used.
    bool is_without_port = false;
    // Ports that were tried, kAttemptsMax at most.
    int attempt_count = 0;

    // Whether it failed since something ran out that each session takes, so
    // that the end of another one makes room: ports, descriptors, memory.
    bool LacksRoom() const;
  };

  // Both must outlive the opener.
  UpstreamOpener(SysCalls* sys_calls, RelayPorts* ports,
                 const TrafficOptions& traffic = TrafficOptions())
      : sys_calls_(sys_calls), ports_(ports), traffic_(traffic) {}

  // The local address, port 0, that the system's routes choose towards
  // `backend`: asked for with a socket of its own, and remembered for a
  // second. Where it fails, `error` and `failed_call` say why. Where the routes
  // choose none but `ports` has bind addresses, which may have routes of their
  // own, the wildcard of the backend's family.
  SocketAddress FindSource(const SocketAddress& backend,
                           int64_t now_nanoseconds, Result* failure);

  // Forgets what FindSource remembers: addresses or routes have changed.
  void ForgetSources();

  // Whether this host has lost the address, port 0. Asked with a socket of its
  // own, and remembered until ForgetSources. False where that cannot be said.
  bool IsSourceGone(const SocketAddress& source);

  // A socket to `backend` on a relay port that is noted as `owner`'s, from the
  // next bind address of the backend's family, or from `source` where there is
  // none. With a receive buffer of `receive_buffer_bytes`, or of
  // kUpstreamBufferBytesMax or the system's limit where these are less.
  //
  // A port that another program has, and an address that cannot reach the
  // backend, are passed over, a bounded number of them. Without `takes_busy`
  // no port is tried that another program was found to have lately.
  // `attempt_count`: how many were tried for this client before.
  Result Open(const SocketAddress& source, const SocketAddress& backend,
              const RelayOwner& owner, int64_t receive_buffer_bytes,
              int64_t now_nanoseconds, bool takes_busy = true,
              int attempt_count = 0);

  // Whether the port at `relay` could serve where `Open` found none.
  bool IsOfUse(const SocketAddress& relay, const SocketAddress& source) const;

  // Closes it and gives its port back. `has_answered`: whether the backend has
  // sent anything to it.
  void Close(int fd, const SocketAddress& relay, bool has_answered,
             int64_t now_nanoseconds);

 private:
  struct KnownSource {
    SocketAddress backend;  // port 0
    SocketAddress source;
    int64_t expires_nanoseconds;
  };

  struct CheckedSource {
    SocketAddress source;  // port 0
    bool is_gone;
  };

  // What an attempt showed; all but the first leave an error and no socket.
  enum class Verdict { kOpen, kPortIsBusy, kSourceIsUseless, kFailed };
  Verdict OpenOn(const SocketAddress& relay, const SocketAddress& backend,
                 Result* result);
  Verdict BindAndConnect(int fd, const SocketAddress& relay,
                         const SocketAddress& backend, Result* result);

  SysCalls* const sys_calls_;
  RelayPorts* const ports_;
  const TrafficOptions traffic_;
  std::vector<KnownSource> known_sources_;
  std::vector<CheckedSource> checked_sources_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UPSTREAM_H_
