#include "udpgate/redis/internal/result_log.h"

#include <gtest/gtest.h>

#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr absl::Duration kStaleAge = absl::Seconds(10);
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kStart = 3600 * kSecond;

std::shared_ptr<const BackendList> Backend(absl::string_view address,
                                           absl::string_view label) {
  const ResolveResult backend{*SocketAddress::Parse(address),
                              std::string(label)};
  return std::make_shared<const BackendList>(
      std::string(label), std::vector<BackendList::Entry>{{backend}});
}

std::shared_ptr<const BackendList> Backend(absl::string_view text) {
  return Backend(text, text);
}

// The label of the stale backend at `now`, or "none".
std::string Stale(const ResultLog& log, int64_t now) {
  const auto stale = log.FindStale(now);
  return stale.has_value() ? stale->backends->text() : "none";
}

TEST(ResultLogTest, KeepsTheLastBackendForItsMaximumAge) {
  ResultLog log(kPause, kStaleAge);
  EXPECT_EQ(Stale(log, kStart), "none");
  log.SetBackend(log.Begin(kStart), Backend("1.2.3.4:5"));
  const auto stale = log.FindStale(kStart + 3 * kSecond);
  ASSERT_TRUE(stale.has_value());
  EXPECT_EQ(stale->backends->Choose({}).backend.ToString(), "1.2.3.4:5");
  EXPECT_EQ(stale->age, absl::Seconds(3));
  EXPECT_EQ(Stale(log, kStart + 10 * kSecond), "1.2.3.4:5");
  EXPECT_EQ(Stale(log, kStart + 10 * kSecond + 1), "none");
  // The age counts from the last reply with that backend.
  log.SetBackend(log.Begin(kStart + 9 * kSecond), Backend("1.2.3.4:5"));
  EXPECT_EQ(Stale(log, kStart + 19 * kSecond), "1.2.3.4:5");
}

// Not from the end of the lookup.
TEST(ResultLogTest, CountsTheAgeFromTheReply) {
  ResultLog log(kPause, kStaleAge);
  const ResultLog::ReplyId reply = log.Begin(kStart);
  log.Begin(kStart + 5 * kSecond);
  log.SetBackend(reply, Backend("1.2.3.4:5"));
  EXPECT_EQ(Stale(log, kStart + 10 * kSecond), "1.2.3.4:5");
  EXPECT_EQ(Stale(log, kStart + 10 * kSecond + 1), "none");
}

TEST(ResultLogTest, KeepsNoBackendIfDisabled) {
  ResultLog log(kPause, absl::ZeroDuration());
  log.SetBackend(log.Begin(kStart), Backend("1.2.3.4:5"));
  EXPECT_EQ(Stale(log, kStart), "none");
}

TEST(ResultLogTest, DiscardsTheBackendOnADifferentReply) {
  for (const char* text : {"", "garbage", "unknown.test:5"}) {
    ResultLog log(kPause, kStaleAge);
    log.SetBackend(log.Begin(kStart), Backend("1.2.3.4:5"));
    log.SetNoBackend(log.Begin(kStart), text, absl::NotFoundError("none"));
    EXPECT_EQ(Stale(log, kStart), "none") << text;
  }
}

TEST(ResultLogTest, KeepsTheBackendIfOnlyItsLookupFails) {
  ResultLog log(kPause, kStaleAge);
  log.SetBackend(log.Begin(kStart), Backend("1.2.3.4:5", "lobby.test:5"));
  log.SetNoBackend(log.Begin(kStart + kSecond), "lobby.test:5",
                   absl::DeadlineExceededError("DNS hangs"));
  EXPECT_EQ(Stale(log, kStart + 2 * kSecond), "lobby.test:5");
}

TEST(ResultLogTest, KeepsTheBackendThroughErrorsOfRedis) {
  ResultLog log(kPause, kStaleAge);
  log.SetBackend(log.Begin(kStart), Backend("1.2.3.4:5"));
  log.SetRedisAway(log.Begin(kStart), absl::UnavailableError("LOADING"));
  EXPECT_EQ(Stale(log, kStart), "1.2.3.4:5");
}

TEST(ResultLogTest, ALateResultOfAnOldReplyIsIgnored) {
  ResultLog log(kPause, kStaleAge);
  const ResultLog::ReplyId old = log.Begin(kStart);
  log.SetNoBackend(log.Begin(kStart), "", absl::NotFoundError("none"));
  log.SetBackend(old, Backend("1.2.3.4:5"));
  EXPECT_EQ(Stale(log, kStart), "none");
  EXPECT_EQ(log.last().code(), absl::StatusCode::kNotFound);

  const ResultLog::ReplyId older = log.Begin(kStart);
  log.SetBackend(log.Begin(kStart), Backend("6.7.8.9:5"));
  log.SetNoBackend(older, "unknown.test:5", absl::NotFoundError("late"));
  EXPECT_EQ(Stale(log, kStart), "6.7.8.9:5");
  EXPECT_TRUE(log.last().ok());
  EXPECT_FALSE(log.FindFailure(kStart).has_value());
}

TEST(ResultLogTest, KeepsAFailureForThePause) {
  ResultLog log(kPause, kStaleAge);
  EXPECT_FALSE(log.FindFailure(kStart).has_value());
  log.SetRedisAway(log.Begin(kStart), absl::UnavailableError("LOADING"));
  const int64_t end = kStart + absl::ToInt64Nanoseconds(kPause);
  const auto failure = log.FindFailure(end - 1);
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->why, absl::UnavailableError("LOADING"));
  EXPECT_TRUE(failure->is_redis_away);
  EXPECT_EQ(failure->until_nanoseconds, end);
  EXPECT_FALSE(log.FindFailure(end).has_value());
  EXPECT_EQ(log.last(), absl::UnavailableError("LOADING"));  // still

  log.SetNoBackend(log.Begin(end), "", absl::NotFoundError("none"));
  ASSERT_TRUE(log.FindFailure(end).has_value());
  EXPECT_FALSE(log.FindFailure(end)->is_redis_away);
  log.SetBackend(log.Begin(end), Backend("1.2.3.4:5"));
  EXPECT_FALSE(log.FindFailure(end).has_value());
  EXPECT_TRUE(log.last().ok());
}

TEST(ResultLogTest, CountsPendingResolutions) {
  ResultLog log(kPause, kStaleAge);
  EXPECT_TRUE(log.Admit(2));
  EXPECT_TRUE(log.Admit(2));
  EXPECT_FALSE(log.Admit(2));
  EXPECT_EQ(log.waiting(), 2u);
  EXPECT_EQ(log.refused(), 1u);
  log.CountCompleted(2);
  log.CountStale(2);
  EXPECT_EQ(log.waiting(), 0u);
  EXPECT_EQ(log.stale_answers(), 2u);
  EXPECT_TRUE(log.Admit(2));
  EXPECT_EQ(log.refused(), 1u);
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
