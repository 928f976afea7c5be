#include "testing/simulated_clock.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

TEST(SimulatedClockTest, StandsStillUntilItIsMoved) {
  SimulatedClock clock(absl::Seconds(5));
  EXPECT_EQ(clock.NowNanoseconds(), 5'000'000'000);
  EXPECT_EQ(clock.NowNanoseconds(), 5'000'000'000);
  clock.Advance(absl::Milliseconds(1) + absl::Nanoseconds(1));
  EXPECT_EQ(clock.NowNanoseconds(), 5'001'000'001);
}

TEST(SimulatedClockTest, DoesNotBeginAtZero) {
  EXPECT_GT(SimulatedClock().NowNanoseconds(), 0);
}

TEST(SimulatedClockTest, StepsOfSeveralThreadsAddUp) {
  SimulatedClock clock(absl::ZeroDuration());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 1000; ++k) clock.Advance(absl::Nanoseconds(1));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(clock.NowNanoseconds(), 4000);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
