// The wait before the next attempt to connect.
#ifndef UDPGATE_REDIS_INTERNAL_BACKOFF_H_
#define UDPGATE_REDIS_INTERNAL_BACKOFF_H_

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace udpgate {
namespace redis {
namespace internal {

// Doubles from `min` to `max`. Each wait is shortened at random by up to half,
// so that many gateways do not reconnect to one Redis at the same moment.
// Threads: one.
class Backoff {
 public:
  Backoff(absl::Duration min, absl::Duration max, uint64_t seed)
      : min_(min), max_(max), next_(min), random_(seed) {}

  absl::Duration Next() {
    const absl::Duration wait = next_;
    next_ = std::min(next_ * 2, max_);
    return wait * std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  }

  // After a success: starts again at `min`.
  void Reset() { next_ = min_; }

 private:
  const absl::Duration min_;
  const absl::Duration max_;
  absl::Duration next_;
  std::mt19937_64 random_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_BACKOFF_H_
