// The recent results of lookups.
#ifndef UDPGATE_DNS_INTERNAL_RESULT_CACHE_H_
#define UDPGATE_DNS_INTERNAL_RESULT_CACHE_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/dns/internal/addresses.h"

namespace udpgate {
namespace dns {
namespace internal {

// Points in time are those of one clock, in nanoseconds. Threads: the caller
// locks; a result that leaves the lock must be copied by `Unshared`.
class ResultCache {
 public:
  // `success_time` and `failure_time`: how long results are kept; 0: not at
  // all. At most `entries_max` names.
  ResultCache(absl::Duration success_time, absl::Duration failure_time,
              int entries_max);

  // Null if there is no fresh result of `host`. Valid until the next change.
  const absl::StatusOr<Addresses>* Find(const std::string& host,
                                        int64_t now_nanoseconds) const;

  // If the cache is full, expired entries are evicted, or else any one.
  void Insert(const std::string& host, const absl::StatusOr<Addresses>& result,
              int64_t now_nanoseconds);

  void Clear() { entries_.clear(); }

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    int64_t expires_nanoseconds;
    absl::StatusOr<Addresses> result;
  };

  void MakeRoom(int64_t now_nanoseconds);

  const absl::Duration success_time_;
  const absl::Duration failure_time_;
  const size_t entries_max_;
  absl::flat_hash_map<std::string, Entry> entries_;
};

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_RESULT_CACHE_H_
