#include "udpgate/logging.h"

#include <string>

#include "gtest/gtest.h"
#include "testing/simulated_clock.h"

namespace udpgate {
namespace test {
namespace {

TEST(LogRateLimiterTest, AdmitsTheFirstLineAtOnce) {
  SimulatedClock clock(absl::ZeroDuration());
  LogRateLimiter limiter(&clock, absl::Seconds(10));
  int64_t suppressed = -1;
  EXPECT_TRUE(limiter.Admit(&suppressed));
  EXPECT_EQ(suppressed, 0);
}

TEST(LogRateLimiterTest, CountsWhatItHoldsBack) {
  SimulatedClock clock;
  LogRateLimiter limiter(&clock, absl::Seconds(10));
  int64_t suppressed = -1;
  ASSERT_TRUE(limiter.Admit(&suppressed));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limiter.Admit(&suppressed));
  clock.Advance(absl::Seconds(10) - absl::Nanoseconds(1));
  EXPECT_FALSE(limiter.Admit(&suppressed));
  clock.Advance(absl::Nanoseconds(1));
  EXPECT_TRUE(limiter.Admit(&suppressed));
  EXPECT_EQ(suppressed, 4);
  clock.Advance(absl::Seconds(10));
  EXPECT_TRUE(limiter.Admit(&suppressed));
  EXPECT_EQ(suppressed, 0);
}

TEST(LogRateLimiterTest, CountsTheIntervalFromTheLastAdmittedLine) {
  SimulatedClock clock;
  LogRateLimiter limiter(&clock, absl::Seconds(10));
  int64_t suppressed;
  ASSERT_TRUE(limiter.Admit(&suppressed));
  clock.Advance(absl::Seconds(25));
  ASSERT_TRUE(limiter.Admit(&suppressed));
  clock.Advance(absl::Seconds(9));
  EXPECT_FALSE(limiter.Admit(&suppressed));
}

TEST(LogRateLimiterTest, AnIntervalOfZeroHoldsNothingBack) {
  SimulatedClock clock;
  LogRateLimiter limiter(&clock, absl::ZeroDuration());
  int64_t suppressed = -1;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.Admit(&suppressed));
  EXPECT_EQ(suppressed, 0);
}

TEST(LogRateLimiterTest, AnInfiniteIntervalAdmitsOneLine) {
  SimulatedClock clock;
  LogRateLimiter limiter(&clock, absl::InfiniteDuration());
  int64_t suppressed;
  EXPECT_TRUE(limiter.Admit(&suppressed));
  clock.Advance(absl::Hours(24 * 365));
  EXPECT_FALSE(limiter.Admit(&suppressed));
}

TEST(LoggingTest, SeveritiesHaveTheNamesOfTheSetting) {
  EXPECT_EQ(LogSeverityName(LogSeverity::kDebug), "debug");
  EXPECT_EQ(LogSeverityName(LogSeverity::kInfo), "info");
  EXPECT_EQ(LogSeverityName(LogSeverity::kWarning), "warn");
  EXPECT_EQ(LogSeverityName(LogSeverity::kError), "error");
}

TEST(LoggingTest, StderrSinkWritesWarningsAndErrorsAsOneLineEach) {
  const LogSink sink = StderrLogSink();
  ::testing::internal::CaptureStderr();
  sink(LogSeverity::kDebug, "a debug line");
  sink(LogSeverity::kInfo, "an info line");
  sink(LogSeverity::kWarning, "a warning");
  sink(LogSeverity::kError, "an error");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "udpgate warn: a warning\nudpgate error: an error\n");
}

}  // namespace
}  // namespace test
}  // namespace udpgate
