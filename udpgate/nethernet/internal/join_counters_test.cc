#include "udpgate/nethernet/internal/join_counters.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "udpgate/nethernet/join_service_options.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

TEST(JoinCountersTest, RequestsAreCountedByPathAndStatus) {
  JoinCounters counters;
  counters.CountRequest(RequestPath::kJoin, 503);
  counters.CountRequest(RequestPath::kStatus, 200);
  counters.CountRequest(RequestPath::kStatus, 200);
  counters.CountRequest(RequestPath::kOther, 70000);
  const JoinServiceStats stats = counters.Get();
  ASSERT_EQ(stats.requests.size(), 3u);
  EXPECT_EQ(stats.requests[0].path, RequestPath::kStatus);
  EXPECT_EQ(stats.requests[0].status, 200);
  EXPECT_EQ(stats.requests[0].count, 2u);
  EXPECT_EQ(stats.requests[1].path, RequestPath::kJoin);
  EXPECT_EQ(stats.requests[1].status, 503);
  EXPECT_EQ(stats.requests[1].count, 1u);
  EXPECT_EQ(stats.requests[2].path, RequestPath::kOther);
  EXPECT_EQ(stats.requests[2].status, 0);
}

TEST(JoinCountersTest, ABoundBelongsToTheRangeBelowIt) {
  JoinCounters counters;
  counters.CountAnswer(1'000'000);  // 1 ms, the first bound
  counters.CountAnswer(1'000'001);
  counters.CountAnswer(60'000'000'000);
  const JoinServiceStats stats = counters.Get();
  EXPECT_EQ(stats.answers_by_duration[0], 1u);
  EXPECT_EQ(stats.answers_by_duration[1], 1u);
  EXPECT_EQ(stats.answers_by_duration[kAnswerBucketCount - 1], 1u);
  EXPECT_NEAR(stats.answer_seconds_total, 60.002, 1e-6);
}

}  // namespace
}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
