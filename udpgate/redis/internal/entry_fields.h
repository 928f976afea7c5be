// The keys and the fields of a gateway's entry.
#ifndef UDPGATE_REDIS_INTERNAL_ENTRY_FIELDS_H_
#define UDPGATE_REDIS_INTERNAL_ENTRY_FIELDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace redis {
namespace internal {

// The key of a hash that Redis Cluster keeps in the slot of `key`: `{key}:id`,
// or `key:id` if `key` has a hash tag
// (https://redis.io/docs/reference/cluster-spec/#hash-tags). Nullopt if no
// such key exists, since a "}" in `key` would end the tag.
absl::optional<std::string> KeyInSlotOf(absl::string_view key,
                                        absl::string_view id);

// Adds the field of each backend, `backend:ADDRESS`, up to `backends_max` of
// them, and `backend:other` for the sessions of the rest, if there are any.
void AddBackendFields(const std::vector<BackendSessionCount>& backends,
                      int backends_max, std::vector<std::string>* fields);

// New sessions per second.
class SessionRate {
 public:
  // `sessions_created` are those so far. Call at least twice: a time of less
  // than `interval_nanoseconds` / 2 gives no new rate.
  void Note(int64_t now_nanoseconds, uint64_t sessions_created,
            int64_t interval_nanoseconds);

  // There is one.
  bool is_known() const { return is_known_; }
  // With two decimals: "12.50". "0.00" while unknown.
  std::string ToString() const;

 private:
  bool has_sample_ = false;
  bool is_known_ = false;
  int64_t sample_nanoseconds_ = 0;
  uint64_t sample_created_ = 0;
  double per_second_ = 0;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_ENTRY_FIELDS_H_
