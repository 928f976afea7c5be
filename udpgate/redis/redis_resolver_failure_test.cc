// Replies without a backend, the pause after them, and stale results.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "testing/internal/support/tcp_relay.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::kBackend;
using test::kFailedPrecondition;
using test::kKey;
using test::kUnavailable;
using test::RedisBackendResolverTest;
using test::Resolution;
using test::ScriptedPeer;
using test::ScriptedRedis;

// A reply without a usable backend, and the result of resolutions.
struct FailureCase {
  const char* name;
  std::string bytes;
  absl::StatusCode code;
  // Redis counts as unavailable, so that stale results are allowed.
  bool is_away;
};

class RedisFailureTest : public RedisBackendResolverTest,
                         public ::testing::WithParamInterface<FailureCase> {
 protected:
  RedisFailureTest() {
    options_.clock = &clock_;
    options_.failure_pause = absl::Milliseconds(100);
  }
};

INSTANTIATE_TEST_SUITE_P(
    All, RedisFailureTest,
    ::testing::Values(
        FailureCase{"Missing", "$-1\r\n", absl::StatusCode::kNotFound, false},
        FailureCase{"Empty", "$0\r\n\r\n", absl::StatusCode::kInvalidArgument,
                    false},
        FailureCase{"Garbage", "$7\r\ngarbage\r\n",
                    absl::StatusCode::kInvalidArgument, false},
        FailureCase{"NoHost", "$9\r\n0.0.0.0:5\r\n",
                    absl::StatusCode::kInvalidArgument, false},
        FailureCase{"UnknownName", "$14\r\nunknown.test:5\r\n",
                    absl::StatusCode::kNotFound, false},
        FailureCase{"WrongType", "-WRONGTYPE holds the wrong kind of value\r\n",
                    absl::StatusCode::kInvalidArgument, false},
        FailureCase{"Loading", "-LOADING later\r\n", kUnavailable, true},
        FailureCase{"NoPermission", "-NOPERM no\r\n", kFailedPrecondition,
                    true},
        FailureCase{"Error", "-ERR what?\r\n", kFailedPrecondition, true}),
    [](const ::testing::TestParamInfo<FailureCase>& failing) {
      return std::string(failing.param.name);
    });

TEST_P(RedisFailureTest, DelaysLaterResolutionsWhichShareOneGet) {
  ScriptedRedis redis(GetParam().bytes);
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), GetParam().code);
  std::vector<Resolution> waiting;
  for (int i = 0; i < 100; ++i) waiting.emplace_back(resolver.get());
  // A resolution whose timeout ends before the pause gets the failure at once.
  EXPECT_EQ(Resolution(resolver.get(), options_.failure_pause).AwaitCode(),
            GetParam().code);
  clock_.Advance(options_.failure_pause - absl::Nanoseconds(1));
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  EXPECT_EQ(redis.gets(), 1);
  for (const Resolution& resolution : waiting)
    EXPECT_FALSE(resolution.is_done());
  redis.ReplyWithBackend("1.2.3.4:5");
  clock_.Advance(absl::Nanoseconds(1));
  for (const Resolution& resolution : waiting)
    EXPECT_EQ(resolution.Await(), kBackend);
  EXPECT_EQ(redis.gets(), 2);
}

TEST_P(RedisFailureTest, GivesStaleResultsOnlyIfRedisIsUnavailable) {
  options_.stale_backend_age_max = absl::Hours(1);
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  redis.Say(GetParam().bytes);
  if (GetParam().is_away) {
    // Only the first one sends a GET.
    for (int i = 1; i <= 10; ++i) {
      EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
      EXPECT_EQ(resolver->GetStats().stale_answers, static_cast<uint64_t>(i));
    }
    EXPECT_EQ(redis.gets(), 2);
    clock_.Advance(options_.failure_pause);
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
    EXPECT_EQ(redis.gets(), 3);
    EXPECT_FALSE(resolver->Health().ok());
    EXPECT_EQ(
        log_.CountOf("is unavailable: new sessions get the last known backend, "
                     "1.2.3.4:5, received 0 s ago"),
        1);
  } else {
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), GetParam().code);
    // Nor during a later outage: the backend was discarded.
    redis.Disconnect();
    ASSERT_TRUE(
        AwaitTrue([&] { return absl::IsUnavailable(resolver->Health()); }));
    // The wait for a reconnect begins after the change of Health.
    ASSERT_TRUE(AwaitAllQueued(resolver.get()));
    clock_.Advance(options_.reconnect_patience);
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
    EXPECT_EQ(resolver->GetStats().stale_answers, 0u);
  }
}

TEST_P(RedisFailureTest, IsReportedIfStaleResultsAreDisabled) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  redis.Say(GetParam().bytes);
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), GetParam().code);
  EXPECT_EQ(resolver->GetStats().stale_answers, 0u);
}

TEST_F(RedisBackendResolverTest, GivesTheLastBackendWhileDisconnected) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  redis->Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  }
  EXPECT_EQ(resolver->GetStats().stale_answers, 100u);
  EXPECT_EQ(resolver->GetStats().gets_sent, 1u);
  EXPECT_FALSE(resolver->Health().ok());
  EXPECT_EQ(
      log_.CountOf("is unavailable: new sessions get the last known backend"),
      1);
  ASSERT_TRUE(redis->Restart().ok());
  Set(*redis, "6.7.8.9:5");
  EXPECT_TRUE(AwaitBackend(resolver.get(), "6.7.8.9:5 6.7.8.9:5"));
  ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
            absl::StatusCode::kNotFound);
}

TEST_F(RedisBackendResolverTest, GivesNoBackendBeyondTheMaximumAge) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.stale_backend_age_max = absl::Seconds(10);
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  clock_.Advance(absl::Seconds(4));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);  // received again
  redis.Disconnect();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  clock_.Advance(absl::Seconds(10));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
  clock_.Advance(absl::Nanoseconds(1));
  // It waits for the attempt to connect, if one has just started.
  const Resolution resolution(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] {
    clock_.Advance(absl::Milliseconds(1));
    return resolution.is_done();
  }));
  EXPECT_EQ(resolution.AwaitCode(), kUnavailable);
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
}

TEST_F(RedisBackendResolverTest, HasNoStaleResultBeforeTheFirstBackend) {
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = Make(absl::StrCat("127.0.0.1:", test::FreeTcpPort()));
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
}

// Redis reads the GET and does not reply.
TEST_F(RedisBackendResolverTest, GivesTheLastBackendWhileRedisHangs) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  test::TcpRelay relay(redis->port());
  options_.stale_backend_age_max = absl::Hours(1);
  options_.command_timeout = absl::Minutes(1);
  options_.gets_in_flight_max = 1;
  const auto resolver = MakeConnected(relay.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  relay.HoldReplies();
  Set(*redis, "6.7.8.9:5");
  const Resolution long_lived(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return resolver->GetStats().gets_sent == 2; }));
  const Resolution waits(resolver.get(), absl::Milliseconds(20));
  EXPECT_EQ(waits.Await(), kBackend);
  EXPECT_FALSE(long_lived.is_done());
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
  relay.ReleaseReplies();
  EXPECT_EQ(long_lived.Await(), "6.7.8.9:5 6.7.8.9:5");
  // The same if the GET was sent already.
  relay.HoldReplies();
  const Resolution in_flight(resolver.get(), absl::Milliseconds(20));
  EXPECT_EQ(in_flight.Await(), "6.7.8.9:5 6.7.8.9:5");
  EXPECT_EQ(resolver->GetStats().stale_answers, 2u);
  EXPECT_EQ(waits.count() + in_flight.count(), 2);
}

TEST_F(RedisBackendResolverTest, GivesTheLastBackendAfterAFailedGet) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.stale_backend_age_max = absl::Hours(1);
  options_.command_timeout = absl::Milliseconds(50);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  redis->Pause();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
  redis->Resume();
}

// They wait for the rate limit of the resolver, not for Redis.
TEST_F(RedisBackendResolverTest, WaitingForTheRateLimitGivesNoStaleResult) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.gets_per_second_max = 1;
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  const Resolution resolution(resolver.get(), absl::Milliseconds(500));
  clock_.Advance(absl::Milliseconds(400));
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  EXPECT_FALSE(resolution.is_done());
  clock_.Advance(absl::Milliseconds(100));
  EXPECT_EQ(resolution.AwaitCode(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(resolver->GetStats().stale_answers, 0u);
}

}  // namespace
}  // namespace udpgate
