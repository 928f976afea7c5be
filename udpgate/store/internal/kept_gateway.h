// What the keeper does to a `Proxy`; an interface, so that a simulation can
// have gateways without sockets.
#ifndef UDPGATE_STORE_INTERNAL_KEPT_GATEWAY_H_
#define UDPGATE_STORE_INTERNAL_KEPT_GATEWAY_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/proxy.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace store {
namespace internal {

// Threads: the keeper's.
class KeptGateway {
 public:
  virtual ~KeptGateway() = default;

  // As those of Proxy.
  virtual absl::StatusOr<std::vector<RestoredSession>> Restore(
      absl::Span<const RestorableSession> sessions) = 0;
  virtual void SetStandby(bool is_standby) = 0;
  virtual void Supersede(absl::Span<const uint64_t> session_ids) = 0;

  // All sessions; nullopt if the gateway does not serve now, so that nothing
  // follows from a session that is not listed.
  virtual absl::optional<std::vector<SessionInfo>> ListSessions() = 0;
  // Session events that were dropped so far.
  virtual uint64_t DroppedEvents() = 0;
  // Whether clients can send to this address here.
  virtual bool IsOwnAddress(const SocketAddress& local) = 0;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_KEPT_GATEWAY_H_
