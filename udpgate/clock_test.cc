#include "udpgate/clock.h"

#include <chrono>

#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

TEST(ClockTest, MonotonicIsTheSteadyClockOfTheMachine) {
  const Clock* clock = Clock::Monotonic();
  EXPECT_EQ(clock, Clock::Monotonic());
  const auto steady_nanoseconds = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  for (int i = 0; i < 1000; ++i) {
    const int64_t before = steady_nanoseconds();
    const int64_t now = clock->NowNanoseconds();
    const int64_t after = steady_nanoseconds();
    ASSERT_LE(before, now);
    ASSERT_LE(now, after);
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate
