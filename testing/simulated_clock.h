// A clock that stands still until a test moves it.
//
//   udpgate::test::SimulatedClock clock;
//   udpgate::LogRateLimiter limiter(&clock, absl::Seconds(10));
//   ...
//   clock.Advance(absl::Seconds(10));
#ifndef UDPGATE_TESTING_SIMULATED_CLOCK_H_
#define UDPGATE_TESTING_SIMULATED_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"

namespace udpgate {
namespace test {

// Moving it wakes nobody: what waits in a system call goes on waiting, and
// sees the new time when it wakes for another reason. To test code with a time
// limit of its own, run its iteration by hand after `Advance`.
//
// Threads: every method from any thread at any time.
class UDPGATE_EXPORT SimulatedClock final : public Clock {
 public:
  // Begins at an hour and not at zero, so that code which takes zero for "never
  // happened" is found out.
  explicit SimulatedClock(absl::Duration start = absl::Hours(1))
      : now_nanoseconds_(absl::ToInt64Nanoseconds(start)) {}

  int64_t NowNanoseconds() const override {
    return now_nanoseconds_.load(std::memory_order_acquire);
  }

  // `step` must not be negative: a monotonic clock never runs backwards.
  void Advance(absl::Duration step) {
    now_nanoseconds_.fetch_add(absl::ToInt64Nanoseconds(step),
                               std::memory_order_acq_rel);
  }

 private:
  std::atomic<int64_t> now_nanoseconds_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_SIMULATED_CLOCK_H_
