#include "udpgate/redis/internal/get_pace.h"

#include <gtest/gtest.h>

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// The number of events in `time` if one is tried every `step`.
int CountSent(GetPace* pace, int64_t begin, int64_t time, int64_t step) {
  int count = 0;
  for (int64_t now = begin; now < begin + time; now += step) {
    while (now >= pace->NextNanoseconds()) {
      pace->Count(now);
      ++count;
    }
  }
  return count;
}

TEST(GetPaceTest, KeepsTheRateAndABurstOfTenMilliseconds) {
  for (const int rate : {1, 3, 99, 100, 101, 5'000, 1'000'000}) {
    GetPace pace(rate);
    const int first = CountSent(&pace, kSecond, kSecond, 1'000'000);
    EXPECT_GE(first, rate - rate / 1000) << rate;
    EXPECT_LE(first, rate + rate / 100 + 1) << rate;
    // The same after a long time without events.
    const int later = CountSent(&pace, 1000 * kSecond, kSecond, 1'000'000);
    EXPECT_GE(later, rate - rate / 1000) << rate;
    EXPECT_LE(later, rate + rate / 100 + 1) << rate;
  }
}

TEST(GetPaceTest, AllowsTheFirstEventImmediately) {
  for (const int64_t now : {int64_t{-kSecond}, int64_t{0}, kSecond}) {
    GetPace pace(1);
    EXPECT_GE(now, pace.NextNanoseconds());
    pace.Count(now);
    EXPECT_LT(now, pace.NextNanoseconds());
    EXPECT_LE(pace.NextNanoseconds(), now + kSecond);
  }
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
