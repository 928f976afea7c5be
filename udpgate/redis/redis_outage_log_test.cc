// One line for an outage, whatever number of connections notices it.
#include "udpgate/redis/redis_outage_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "testing/simulated_clock.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/redis_backend_resolver.h"
#include "udpgate/redis/redis_disconnect_source.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr auto kUnreachable = RedisProblem::kUnreachable;
constexpr auto kClosed = RedisProblem::kClosed;
constexpr char kRefused[] = "connect: Connection refused";

class RedisOutageLogTest : public ::testing::Test {
 protected:
  void Pass(absl::Duration time) {
    clock_.Advance(time);
    next_nanoseconds_ = log_.Flush();
  }
  void PassGatherTime() { Pass(RedisOutageLog::kGatherTime); }

  test::SimulatedClock clock_;
  test::LogCollector lines_;
  RedisOutageLog log_{&clock_, lines_.Sink()};
  const size_t key_ = log_.Add("Redis a:1", "backend key");
  const size_t channel_ = log_.Add("Redis a:1", "disconnect channel");
  int64_t next_nanoseconds_ = 0;
};

TEST_F(RedisOutageLogTest, AnOutageIsOneLineAndItsEndAnother) {
  log_.Lost(key_, kClosed, "closed the connection");
  Pass(absl::Milliseconds(100));
  log_.Lost(key_, kUnreachable, kRefused);
  log_.Lost(channel_, kUnreachable, kRefused);
  EXPECT_THAT(lines_.lines(), IsEmpty());
  PassGatherTime();
  // Later attempts, and other reasons for the same.
  log_.Lost(channel_, RedisProblem::kSilent, "no reply within 1s");
  Pass(absl::Seconds(1));
  const std::string lost =
      "warn: Redis a:1 (backend key, disconnect channel): connect: Connection "
      "refused; retrying";
  EXPECT_THAT(lines_.lines(), ElementsAre(lost));
  log_.Recovered(key_, "connected");
  Pass(absl::Seconds(1));
  EXPECT_THAT(lines_.lines(), ElementsAre(lost));  // waits for the other one
  log_.Recovered(channel_, "subscribed");
  PassGatherTime();
  EXPECT_THAT(lines_.lines(),
              ElementsAre(lost,
                          "info: Redis a:1 works after 2.7s: backend key: "
                          "connected; disconnect channel: subscribed"));
  EXPECT_EQ(next_nanoseconds_, RedisOutageLog::kNever);
  // The next one is logged, too.
  log_.Lost(key_, kUnreachable, kRefused);
  PassGatherTime();
  EXPECT_EQ(lines_.CountOf("(backend key): connect: Connection refused"), 1);
}

TEST_F(RedisOutageLogTest, WaitsForALateConnectionOnlySoLong) {
  log_.Lost(key_, kUnreachable, kRefused);
  log_.Lost(channel_, kUnreachable, kRefused);
  PassGatherTime();
  log_.Recovered(key_, "connected");
  PassGatherTime();
  EXPECT_EQ(lines_.CountOf("info:"), 0);
  Pass(RedisOutageLog::kRecoveryWaitMax);
  EXPECT_EQ(lines_.CountOf(": backend key: connected"), 1);
  log_.Recovered(channel_, "subscribed");
  PassGatherTime();
  EXPECT_EQ(lines_.CountOf(": disconnect channel: subscribed"), 1);
}

TEST_F(RedisOutageLogTest, OtherReasonsHaveLinesOfTheirOwn) {
  const std::string why = "replied NOPERM";
  for (int i = 0; i < 3; ++i) {
    log_.Recovered(key_, "connected");
    log_.Lost(channel_, RedisProblem::kPermission, why);
    PassGatherTime();
  }
  EXPECT_THAT(
      lines_.lines(),
      ElementsAre(
          "warn: Redis a:1 (disconnect channel): replied NOPERM; retrying",
          "info: Redis a:1 works: backend key: connected"));
  log_.Lost(channel_, RedisProblem::kPermission, "replied NOPERM otherwise");
  log_.Lost(key_, RedisProblem::kPermission, "replied NOPERM otherwise");
  PassGatherTime();
  EXPECT_EQ(lines_.CountOf("(backend key, disconnect channel): replied NOPERM "
                           "otherwise"),
            1);
}

TEST_F(RedisOutageLogTest, OtherServersAreOtherOutages) {
  const size_t other = log_.Add("Redis b:1", "backend key");
  log_.Lost(key_, kUnreachable, kRefused);
  log_.Lost(other, kUnreachable, kRefused);
  PassGatherTime();
  EXPECT_EQ(lines_.CountOf("warn:"), 2);
}

TEST(RedisOutageLogEndTest, WritesWhatWaits) {
  test::SimulatedClock clock;
  test::LogCollector lines;
  {
    RedisOutageLog log(&clock, lines.Sink());
    log.Lost(log.Add("Redis a:1", "backend key"), kUnreachable, kRefused);
  }
  EXPECT_EQ(lines.CountOf("refused"), 1);
}

// With a real server, which is killed and comes back.
TEST(RedisOutageLogServerTest, FiveConnectionsMakeTwoLines) {
  test::RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  test::LogCollector lines;
  RedisOptions options;
  options.address = redis.tcp_address();
  options.disconnect_stream = "events";
  options.log_sink = lines.Sink();
  options.outage_log =
      std::make_shared<RedisOutageLog>(Clock::Monotonic(), lines.Sink());
  const auto lookup = HostLookup::Create({});
  ASSERT_TRUE(lookup.ok());
  const auto resolver = RedisBackendResolver::Create(options, *lookup);
  const auto source = RedisDisconnectSource::Create(options, *lookup);
  ASSERT_TRUE(resolver.ok() && source.ok());
  ASSERT_TRUE((*source)->Start([](absl::StatusOr<DisconnectTarget>) {}).ok());
  EXPECT_TRUE(AwaitTrue([&] { return lines.CountOf(" works: ") == 1; }));
  redis.Kill();
  EXPECT_TRUE(AwaitTrue([&] {
    return lines.CountOf(
               "(backend key, disconnect channel, disconnect "
               "stream): ") == 1;
  })) << ::testing::PrintToString(lines.lines());
  ASSERT_TRUE(redis.Restart().ok());
  EXPECT_TRUE(AwaitTrue([&] { return lines.CountOf(" works after ") == 1; }));
  EXPECT_EQ(lines.CountOf("retrying"), 1);
  EXPECT_EQ(lines.CountOf(" works"), 2);
}

}  // namespace
}  // namespace udpgate
