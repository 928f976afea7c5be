#include "udpgate/clock.h"

#include <time.h>

namespace udpgate {
namespace {

class MonotonicClock final : public Clock {
 public:
  int64_t NowNanoseconds() const override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);  // cannot fail with a valid clock id
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }
};

}  // namespace

const Clock* Clock::Monotonic() {
  static const MonotonicClock clock;
  return &clock;
}

}  // namespace udpgate
