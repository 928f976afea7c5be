// The hash slot of a key in a Redis Cluster.
#ifndef UDPGATE_REDIS_INTERNAL_HASH_SLOT_H_
#define UDPGATE_REDIS_INTERNAL_HASH_SLOT_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace udpgate {
namespace redis {
namespace internal {

inline constexpr int kHashSlots = 16384;

// CRC-16/XMODEM: polynomial 0x1021, initial value 0.
uint16_t Crc16(absl::string_view bytes);

// 0 to `kHashSlots` - 1. What stands between the first `{` and the next `}`, if
// it is not empty, decides alone
// (https://redis.io/docs/reference/cluster-spec/#hash-tags).
int HashSlotOf(absl::string_view key);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_HASH_SLOT_H_
