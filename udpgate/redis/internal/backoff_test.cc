#include "udpgate/redis/internal/backoff.h"

#include <gtest/gtest.h>

#include <set>

namespace udpgate {
namespace redis {
namespace internal {
namespace {

TEST(BackoffTest, DoublesUpToItsLimitWithinItsJitter) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Backoff backoff(absl::Milliseconds(100), absl::Seconds(1), seed);
    for (const int full_milliseconds : {100, 200, 400, 800, 1000, 1000}) {
      const absl::Duration wait = backoff.Next();
      EXPECT_GE(wait, absl::Milliseconds(full_milliseconds / 2));
      EXPECT_LE(wait, absl::Milliseconds(full_milliseconds));
    }
  }
}

TEST(BackoffTest, StartsAgainAfterAReset) {
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(1), 1);
  for (int i = 0; i < 5; ++i) backoff.Next();
  backoff.Reset();
  EXPECT_LE(backoff.Next(), absl::Milliseconds(100));
}

TEST(BackoffTest, DiffersBetweenSeeds) {
  std::set<absl::Duration> waits;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    waits.insert(Backoff(absl::Seconds(1), absl::Seconds(1), seed).Next());
  }
  EXPECT_GT(waits.size(), 15u);
}

TEST(BackoffTest, StaysAtTheLimitIfBothAreEqual) {
  Backoff backoff(absl::Milliseconds(1), absl::Milliseconds(1), 1);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LE(backoff.Next(), absl::Milliseconds(1));
  }
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
