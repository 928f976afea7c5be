// Which node of a Redis Cluster owns which slots, and what redirects say.
#ifndef UDPGATE_REDIS_INTERNAL_SLOT_MAP_H_
#define UDPGATE_REDIS_INTERNAL_SLOT_MAP_H_

#include <hiredis/hiredis.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/redis/internal/frame_checker.h"
#include "udpgate/redis/internal/hash_slot.h"

namespace udpgate {
namespace redis {
namespace internal {

// An error reply that names another node
// (https://redis.io/docs/reference/cluster-spec/#redirection-and-resharding).
struct Redirect {
  enum class Kind { kMoved, kAsk };
  Kind kind = Kind::kMoved;
  int slot = 0;
  std::string host_port;

  // "MOVED 3999 10.0.0.1:6381". Without a host the node has that of
  // `replier`, the `host:port` that has replied. False for other text, and for
  // a node without a usable address.
  bool Parse(absl::string_view error, const std::string& replier);
};

// True if the error begins with MOVED or ASK, whatever follows.
bool IsRedirect(absl::string_view error);

// Threads: as a std::vector.
class SlotMap {
 public:
  // Of masters and replicas. Redis recommends at most 1000.
  static constexpr size_t kNodesMax = 1024;

  // What a reply to CLUSTER SLOTS may have.
  static FrameLimits ReplyLimits();

  // Reads a reply to CLUSTER SLOTS (https://redis.io/commands/cluster-slots/).
  // InvalidArgument if it is malformed, has more than `kNodesMax` nodes, or
  // names a slot twice. A node without a usable address is left out; then
  // `problem` says so.
  static absl::StatusOr<SlotMap> Read(const redisReply& reply,
                                      const std::string& replier,
                                      std::string* problem);

  // `host:port` of the master of the slot; empty if none is known.
  const std::string& OwnerOf(int slot) const;
  // A redirect has named it. False if there are too many nodes.
  bool SetOwner(int slot, const std::string& host_port);

  // Masters and replicas, in the order of the reply.
  const std::vector<std::string>& nodes() const { return nodes_; }
  bool HasNode(absl::string_view host_port) const {
    return indices_.contains(host_port);
  }
  // Those that own a slot.
  size_t CountMasters() const;
  int CountCovered() const;

 private:
  static constexpr uint16_t kNoNode = UINT16_MAX;

  // The index of the node, which is added if it is new; `kNoNode` if there are
  // too many.
  uint16_t IndexOf(const std::string& host_port);
  absl::Status ReadRange(const redisReply& range, const std::string& replier,
                         std::vector<bool>* seen, std::string* problem);

  std::vector<std::string> nodes_;
  absl::flat_hash_map<std::string, uint16_t> indices_;  // in `nodes_`
  std::vector<uint16_t> owners_ = std::vector<uint16_t>(kHashSlots, kNoNode);
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SLOT_MAP_H_
