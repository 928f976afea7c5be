// A name for one session of one shard.
#ifndef UDPGATE_INTERNAL_SESSION_SESSION_REF_H_
#define UDPGATE_INTERNAL_SESSION_SESSION_REF_H_

#include <cstdint>

namespace udpgate {
namespace internal {

// Names one session of one shard. An id is never used again, so a late message
// cannot affect a later session in the same slot.
struct SessionRef {
  uint32_t slot = 0;
  uint64_t id = 0;

  friend bool operator==(const SessionRef& a, const SessionRef& b) {
    return a.slot == b.slot && a.id == b.id;
  }
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_SESSION_REF_H_
