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

  // `events_max`: events without a partner so far; the oldest ones are
  // forgotten.
  explicit EventPairs(size_t events_max) : events_max_(events_max) {}

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
    if (events_.size() >= events_max_) {
      const int64_t age = nanoseconds - events_.front().nanoseconds;
      if (age <= distance_max) ++forgotten_count_;
      events_.pop_front();
    }
    events_.push_back({way, hash, nanoseconds});
    return nanoseconds;
  }

  uint64_t pair_count() const { return pair_count_; }
  // Those that made room although their partner could still have come.
  uint64_t forgotten_count() const { return forgotten_count_; }

 private:
  struct Event {
    Way way;
    size_t hash;
    int64_t nanoseconds;
  };

  const size_t events_max_;
  std::deque<Event> events_;
  uint64_t pair_count_ = 0;
  uint64_t forgotten_count_ = 0;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_EVENT_PAIRS_H_
