// Finds sessions of a list by their ids.
#ifndef UDPGATE_TAKEOVER_INTERNAL_INDEX_BY_ID_H_
#define UDPGATE_TAKEOVER_INTERNAL_INDEX_BY_ID_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace udpgate {
namespace takeover {
namespace internal {

// The position of each id in a list. Ids are looked up in nearly the order in
// which they were added, so the guess "the next one" saves nearly all look-ups
// in the map, whose cache misses would lengthen the pause. Threads: one.
class IndexById {
 public:
  static constexpr size_t kNone = SIZE_MAX;

  // Adds `id` at the position `size()`. False if it is there already.
  bool Add(uint64_t id) {
    if (!index_by_id_.emplace(id, ids_.size()).second) return false;
    ids_.push_back(id);
    return true;
  }
  size_t Find(uint64_t id) {
    if (next_ >= ids_.size() || ids_[next_] != id) {
      const auto found = index_by_id_.find(id);
      if (found == index_by_id_.end()) return kNone;
      next_ = found->second;
    }
    return next_++;
  }
  size_t size() const { return ids_.size(); }

 private:
  std::vector<uint64_t> ids_;
  absl::flat_hash_map<uint64_t, size_t> index_by_id_;
  size_t next_ = 0;
};

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_INDEX_BY_ID_H_
