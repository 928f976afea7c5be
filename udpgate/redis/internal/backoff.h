// How long to wait before the next attempt.
#ifndef UDPGATE_REDIS_INTERNAL_BACKOFF_H_
#define UDPGATE_REDIS_INTERNAL_BACKOFF_H_

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace udpgate {
namespace redis {
namespace internal {

// Doubles from `min` to `max`. Each wait is shortened by a random part of up
// to half, so that many gates do not come back to one Redis all at once.
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

  // Begins again at `min`: an attempt has succeeded.
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
