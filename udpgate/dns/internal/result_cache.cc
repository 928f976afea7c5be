#include "udpgate/dns/internal/result_cache.h"

#include "udpgate/internal/util/unshared_status.h"

namespace udpgate {
namespace dns {
namespace internal {

ResultCache::ResultCache(absl::Duration success_time,
                         absl::Duration failure_time, int entries_max)
    : success_time_(success_time),
      failure_time_(failure_time),
      entries_max_(static_cast<size_t>(entries_max)) {}

const absl::StatusOr<Addresses>* ResultCache::Find(
    const std::string& host, int64_t now_nanoseconds) const {
  const auto found = entries_.find(host);
  const bool is_fresh = found != entries_.end() &&
                        now_nanoseconds < found->second.expires_nanoseconds;
  return is_fresh ? &found->second.result : nullptr;
}

void ResultCache::Insert(const std::string& host,
                         const absl::StatusOr<Addresses>& result,
                         int64_t now_nanoseconds) {
  const absl::Duration time = result.ok() ? success_time_ : failure_time_;
  if (time == absl::ZeroDuration()) return;
  if (!entries_.contains(host)) MakeRoom(now_nanoseconds);
  entries_[host] = {now_nanoseconds + absl::ToInt64Nanoseconds(time),
                    udpgate::internal::Unshared(result)};
}

void ResultCache::MakeRoom(int64_t now_nanoseconds) {
  if (entries_.size() < entries_max_) return;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto current = entry++;
    if (current->second.expires_nanoseconds <= now_nanoseconds) {
      entries_.erase(current);
    }
  }
  // All are fresh: evicting any of them costs one query.
  if (entries_.size() >= entries_max_) entries_.erase(entries_.begin());
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
