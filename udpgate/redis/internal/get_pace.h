// The rate limit of GETs.
#ifndef UDPGATE_REDIS_INTERNAL_GET_PACE_H_
#define UDPGATE_REDIS_INTERNAL_GET_PACE_H_

#include <algorithm>
#include <cstdint>

namespace udpgate {
namespace redis {
namespace internal {

// A resolution is part of this many GETs at most: the first, and those that are
// sent again after the connection was closed.
inline constexpr int kGetsPerRequestMax = 3;

// Allows `per_second_max` events per second, and bursts of 10 ms of that (at
// least one event). A larger burst would not help, since requests that wait
// share the next GET. In any time T there are at most
// T * per_second_max + per_second_max / 100 + 1 events. Threads: one.
class GetPace {
 public:
  static constexpr int64_t kBurstNanoseconds = 10'000'000;

  // `per_second_max`: 1 to 1,000,000.
  explicit GetPace(int per_second_max)
      : interval_nanoseconds_((1'000'000'000 + per_second_max - 1) /
                              per_second_max) {}

  // The earliest time of the next event.
  int64_t NextNanoseconds() const {
    return even_nanoseconds_ - kBurstNanoseconds;
  }

  // Counts an event.
  void Count(int64_t now_nanoseconds) {
    even_nanoseconds_ =
        std::max(even_nanoseconds_, now_nanoseconds) + interval_nanoseconds_;
  }

 private:
  const int64_t interval_nanoseconds_;
  // The time of the next event if all were at even intervals.
  int64_t even_nanoseconds_ = INT64_MIN / 2;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_GET_PACE_H_
