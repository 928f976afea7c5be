// How often Redis may be asked.
#ifndef UDPGATE_REDIS_INTERNAL_GET_PACE_H_
#define UDPGATE_REDIS_INTERNAL_GET_PACE_H_

#include <algorithm>
#include <cstdint>

namespace udpgate {
namespace redis {
namespace internal {

// Lets through `per_second_max` events a second, and at once no more than 10 ms
// are worth (at least one): whoever comes too early waits for the next one
// anyway and shares it, so a larger burst would help nobody. In any time T that
// makes at most T * per_second_max + per_second_max / 100 + 1. Threads: one.
class GetPace {
 public:
  // `per_second_max`: 1 to 1,000,000.
  explicit GetPace(int per_second_max)
      : interval_nanoseconds_((1'000'000'000 + per_second_max - 1) /
                              per_second_max) {}

  // From when on the next one may go.
  int64_t NextNanoseconds() const {
    return even_nanoseconds_ - kBurstNanoseconds;
  }

  // One has gone.
  void Count(int64_t now_nanoseconds) {
    even_nanoseconds_ =
        std::max(even_nanoseconds_, now_nanoseconds) + interval_nanoseconds_;
  }

 private:
  static constexpr int64_t kBurstNanoseconds = 10'000'000;

  const int64_t interval_nanoseconds_;
  // When the next one would go, had all gone at even intervals.
  int64_t even_nanoseconds_ = INT64_MIN / 2;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_GET_PACE_H_
