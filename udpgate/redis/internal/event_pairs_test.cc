#include "udpgate/redis/internal/event_pairs.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using Way = EventPairs::Way;

constexpr int64_t kSecond = 1'000'000'000;

constexpr size_t kEventsMax = 16;

TEST(EventPairsTest, TheSecondOfAPairHasTheTimeOfTheFirst) {
  EventPairs pairs(kEventsMax);
  EXPECT_EQ(pairs.Match(Way::kChannel, "a", 10 * kSecond), 10 * kSecond);
  EXPECT_EQ(pairs.Match(Way::kStream, "a", 11 * kSecond), 10 * kSecond);
  EXPECT_EQ(pairs.Match(Way::kStream, "b", 20 * kSecond), 20 * kSecond);
  EXPECT_EQ(pairs.Match(Way::kChannel, "b", 22 * kSecond), 20 * kSecond);
  EXPECT_EQ(pairs.pair_count(), 2u);
}

TEST(EventPairsTest, AnEventHasOnePartner) {
  EventPairs pairs(kEventsMax);
  pairs.Match(Way::kChannel, "a", kSecond);
  pairs.Match(Way::kStream, "a", kSecond + 1);
  EXPECT_EQ(pairs.Match(Way::kStream, "a", kSecond + 2), kSecond + 2);
  EXPECT_EQ(pairs.pair_count(), 1u);
}

TEST(EventPairsTest, OtherEventsAreNoPair) {
  EventPairs pairs(kEventsMax);
  pairs.Match(Way::kChannel, "a", 10 * kSecond);
  EXPECT_EQ(pairs.Match(Way::kChannel, "a", 10 * kSecond + 1),
            10 * kSecond + 1);
  EXPECT_EQ(pairs.Match(Way::kStream, "b", 10 * kSecond + 2), 10 * kSecond + 2);
  EXPECT_EQ(pairs.Match(Way::kStream, "a", 12 * kSecond + 2), 12 * kSecond + 2);
  EXPECT_EQ(pairs.pair_count(), 0u);
}

TEST(EventPairsTest, ForgetsTheOldest) {
  EventPairs pairs(kEventsMax);
  for (size_t i = 0; i <= kEventsMax; ++i) {
    pairs.Match(Way::kChannel, absl::StrCat(i), kSecond);
  }
  EXPECT_EQ(pairs.forgotten_count(), 1u);
  EXPECT_EQ(pairs.Match(Way::kStream, "0", 2 * kSecond), 2 * kSecond);
  EXPECT_EQ(pairs.forgotten_count(), 2u);
  EXPECT_EQ(pairs.Match(Way::kStream, "2", 2 * kSecond), kSecond);
}

TEST(EventPairsTest, CountsOnlyThoseWhosePartnerCouldStillCome) {
  EventPairs pairs(kEventsMax);
  for (size_t i = 0; i <= kEventsMax; ++i) {
    pairs.Match(Way::kChannel, absl::StrCat(i),
                static_cast<int64_t>(i) * kSecond);
  }
  EXPECT_EQ(pairs.forgotten_count(), 0u);
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
