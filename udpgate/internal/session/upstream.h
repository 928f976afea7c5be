// Opens upstream sockets.
#ifndef UDPGATE_INTERNAL_SESSION_UPSTREAM_H_
#define UDPGATE_INTERNAL_SESSION_UPSTREAM_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "udpgate/internal/net/socket_options.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/relay_ports.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Thousands of these sockets share the kernel's memory for UDP (udp_mem).
inline constexpr int64_t kUpstreamBufferBytesMax = 1 << 20;

// OK if a socket can be bound to each of these addresses, with a port that the
// kernel chooses; otherwise the first error, which names the address. With
// `may_be_absent` an address that this host does not have is none.
absl::Status CheckBindAddresses(SysCalls* sys_calls,
                                absl::Span<const SocketAddress> addresses,
                                bool may_be_absent = false);

// Opens connected, non-blocking sockets on source addresses and ports that the
// gateway chooses itself.
//
// Why bind a concrete source address at all: a socket that leaves it to
// connect(2) is first bound to the wildcard, where it collides with every
// other socket on that port, and the ports run out early. Why never
// SO_REUSEADDR or SO_REUSEPORT: with them a new socket could shadow an old one
// and receive its replies.
//
// A failure leaves no descriptor open and no port taken.
//
// Threads: the owner of one shard.
class UpstreamOpener {
 public:
  // Few ports are used by other programs. The limit keeps one new client from
  // delaying the others if many are.
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

    // Whether something ran out that each session takes (ports, descriptors,
    // memory), so that the end of another session makes room.
    bool LacksRoom() const;
  };

  // Both must outlive the opener.
  UpstreamOpener(SysCalls* sys_calls, RelayPorts* ports,
                 const TrafficOptions& traffic = TrafficOptions())
      : sys_calls_(sys_calls), ports_(ports), traffic_(traffic) {}

  // The local address, port 0, that the system's routes choose towards
  // `backend`: found with a temporary socket, and cached for a second. If that
  // fails, `error` and `failed_call` say why. If there is no route, but `ports`
  // has bind addresses, which may have routes of their own: the wildcard of the
  // backend's family.
  SocketAddress FindSource(const SocketAddress& backend,
                           int64_t now_nanoseconds, Result* failure);

  // Clears the cache of FindSource: addresses or routes have changed.
  void ForgetSources();

  // Whether the address, port 0, was removed from this host. Tested with a
  // temporary socket, and cached until ForgetSources. False if it is not known.
  bool IsSourceGone(const SocketAddress& source);

  // Opens a socket to `backend` on a source port that is recorded as that of
  // `owner`, from the next bind address of the backend's family, or from
  // `source` if there is none. The receive buffer is `receive_buffer_bytes`,
  // but at most kUpstreamBufferBytesMax and the system's limit.
  //
  // Ports of other programs and addresses that cannot reach the backend are
  // skipped, a bounded number of them. Without `takes_busy`, ports that another
  // program recently had are not tried. `attempt_count`: ports that were tried
  // for this client before.
  Result Open(const SocketAddress& source, const SocketAddress& backend,
              const RelayOwner& owner, int64_t receive_buffer_bytes,
              int64_t now_nanoseconds, bool takes_busy = true,
              int attempt_count = 0);

  // The same on exactly the source address and port `relay`. An error if they
  // are taken, or are not for `backend`; `Open` is for that case.
  Result OpenExactly(const SocketAddress& relay, const SocketAddress& source,
                     const SocketAddress& backend, const RelayOwner& owner,
                     int64_t receive_buffer_bytes, int64_t now_nanoseconds);

  // Whether the port at `relay` would do if `Open` found none.
  bool IsOfUse(const SocketAddress& relay, const SocketAddress& source) const;

  // Closes the socket and releases its port. `has_answered`: whether the
  // backend has sent anything to it.
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

  // The result of an attempt; all but the first leave an error and no socket.
  enum class Verdict { kOpen, kPortIsBusy, kSourceIsUseless, kFailed };
  void SetOptions(int fd, const SocketAddress& backend,
                  int64_t receive_buffer_bytes);
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

#endif  // UDPGATE_INTERNAL_SESSION_UPSTREAM_H_
