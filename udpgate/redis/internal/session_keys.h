// The keys of a session store in Redis, and the values of leases.
#ifndef UDPGATE_REDIS_INTERNAL_SESSION_KEYS_H_
#define UDPGATE_REDIS_INTERNAL_SESSION_KEYS_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {

// As it stands in a record, since scripts compare it with that.
std::string EscapeGatewayId(absl::string_view id);
// False if it is not what `EscapeGatewayId` writes for an id.
bool UnescapeGatewayId(absl::string_view text, std::string* id);

// True if all keys with this prefix are of one slot of a Redis Cluster
// (https://redis.io/docs/reference/cluster-spec/#hash-tags).
bool HasHashTag(absl::string_view prefix);

// Threads: as a std::string.
class SessionKeys {
 public:
  explicit SessionKeys(std::string prefix) : prefix_(std::move(prefix)) {}

  const std::string& prefix() const { return prefix_; }
  // The record of a client.
  std::string Record(const SocketAddress& client) const {
    return absl::StrCat(prefix_, client.ToString());
  }
  // The same for the text of a client.
  std::string Record(absl::string_view client) const {
    return absl::StrCat(prefix_, client);
  }
  // Set of the clients that have records of a gateway.
  std::string Index(absl::string_view gateway_id) const {
    return absl::StrCat(prefix_, "@index:", EscapeGatewayId(gateway_id));
  }
  std::string Lease(absl::string_view gateway_id) const {
    return absl::StrCat(prefix_, "@lease:", EscapeGatewayId(gateway_id));
  }
  // Set of the escaped ids of gateways.
  std::string Gateways() const { return absl::StrCat(prefix_, "@gateways"); }

 private:
  const std::string prefix_;
};

// Of `GatewayLease::forward_address`.
inline constexpr size_t kForwardAddressBytesMax = 128;

// "1 RUN FORWARD": the version, 16 hex digits of the run at a fixed place, and
// the address, or "-".
std::string EncodeLease(const GatewayLease& lease);
// The lease of the gateway. One of run 0 if the text is none, perhaps of
// another version: somebody claims to live.
GatewayLease DecodeLease(absl::string_view gateway_id, absl::string_view text);
// The digits in it.
std::string RunText(uint64_t run);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SESSION_KEYS_H_
