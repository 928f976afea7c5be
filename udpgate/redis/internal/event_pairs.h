// Recognizes a disconnect event that comes twice, by the channel and by the
// stream.
#ifndef UDPGATE_REDIS_INTERNAL_EVENT_PAIRS_H_
#define UDPGATE_REDIS_INTERNAL_EVENT_PAIRS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace udpgate {
namespace redis {
namespace internal {

// The second event of a pair gets the time of the first: then it concerns no
// session that is newer than the first, so a player who has come back stays.
// Each event has one partner at most, so a payload that is sent twice on each
// way is two events. Threads: one at a time.
class EventPairs {
 public:
  enum class Way { kChannel, kStream };

  // An orchestrator sends both within this time.
  static constexpr absl::Duration kDistanceMax = absl::Seconds(2);
  // Events without a partner so far; the oldest ones are forgotten.
  static constexpr size_t kEventsMax = 1024;

  // The earlier of `nanoseconds`, when the event happened, and the time of its
  // partner, if it has one.
  int64_t Match(Way way, absl::string_view payload, int64_t nanoseconds) {
    const size_t hash = absl::Hash<absl::string_view>()(payload);
    const int64_t distance_max = absl::ToInt64Nanoseconds(kDistanceMax);
    for (auto event = events_.begin(); event != events_.end(); ++event) {
      if (event->hash != hash || event->way == way ||
          event->nanoseconds < nanoseconds - distance_max ||
          event->nanoseconds > nanoseconds + distance_max) {
        continue;
      }
      const int64_t first = std::min(event->nanoseconds, nanoseconds);
      events_.erase(event);
      ++pair_count_;
      return first;
    }
    if (events_.size() >= kEventsMax) events_.pop_front();
    events_.push_back({way, hash, nanoseconds});
    return nanoseconds;
  }

  uint64_t pair_count() const { return pair_count_; }

 private:
  struct Event {
    Way way;
    size_t hash;
    int64_t nanoseconds;
  };

  std::deque<Event> events_;
  uint64_t pair_count_ = 0;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_EVENT_PAIRS_H_
