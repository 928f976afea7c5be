// Shared GETs, limits and rates.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "testing/internal/support/threads.h"
#include "udpgate/clock.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using redis::internal::GetPace;
using test::AwaitTrue;
using test::kBackend;
using test::kKey;
using test::kLongTimeout;
using test::RedisBackendResolverTest;
using test::RedisServer;
using test::Resolution;
using test::ScriptedPeer;
using test::ScriptedRedis;

// Resolutions that start while a GET is pending share the next one, and see
// what was set after the first was sent.
TEST_F(RedisBackendResolverTest, PendingResolutionsShareOneGet) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.gets_in_flight_max = 1;
  const auto resolver = MakeConnected(peer.address());
  const Resolution first(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 1; }));
  std::vector<Resolution> others;
  for (int i = 0; i < 100; ++i) others.emplace_back(resolver.get());
  // This one has timed out, so the resolver has read all of them.
  EXPECT_EQ(Resolution(resolver.get(), absl::Milliseconds(1)).AwaitCode(),
            absl::StatusCode::kDeadlineExceeded);
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.1:1"));
  EXPECT_EQ(first.Await(), "10.0.0.1:1 10.0.0.1:1");
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 2; }));
  for (const Resolution& other : others) EXPECT_FALSE(other.is_done());
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.2:2"));
  for (const Resolution& other : others) {
    EXPECT_EQ(other.Await(), "10.0.0.2:2 10.0.0.2:2");
    EXPECT_EQ(other.count(), 1);
  }
  EXPECT_EQ(peer.command_count("GET"), 2);
}

TEST_F(RedisBackendResolverTest, PipelinesGetsUpToTheLimit) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.gets_in_flight_max = 3;
  const auto resolver = MakeConnected(peer.address());
  std::vector<Resolution> resolutions;
  for (int i = 1; i <= 3; ++i) {
    resolutions.emplace_back(resolver.get());
    ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == i; }));
  }
  for (int i = 0; i < 20; ++i) resolutions.emplace_back(resolver.get());
  // All three replies, then one for all the others.
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.1:1") +
                ScriptedPeer::Bulk("10.0.0.2:2") +
                ScriptedPeer::Bulk("10.0.0.3:3"));
  EXPECT_EQ(resolutions[0].Await(), "10.0.0.1:1 10.0.0.1:1");
  EXPECT_EQ(resolutions[1].Await(), "10.0.0.2:2 10.0.0.2:2");
  EXPECT_EQ(resolutions[2].Await(), "10.0.0.3:3 10.0.0.3:3");
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 4; }));
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.4:4"));
  for (size_t i = 3; i < resolutions.size(); ++i) {
    EXPECT_EQ(resolutions[i].Await(), "10.0.0.4:4 10.0.0.4:4");
  }
  EXPECT_EQ(peer.command_count("GET"), 4);
}

TEST_F(RedisBackendResolverTest, LimitsPendingResolutions) {
  std::atomic<bool> is_held{true};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET" || is_held.load()) {
      return ScriptedPeer::Healthy(command);
    }
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  options_.requests_waiting_max = 10;
  const auto resolver = MakeConnected(peer.address());
  std::vector<Resolution> resolutions;
  for (int i = 0; i < 12; ++i) resolutions.emplace_back(resolver.get());
  // Rejected inline.
  EXPECT_EQ(resolutions[10].count(), 1);
  EXPECT_EQ(resolutions[11].AwaitCode(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(resolutions[9].is_done());
  EXPECT_EQ(resolver->GetStats().questions_refused, 2u);
  EXPECT_EQ(resolver->GetStats().questions_waiting, 10u);
  // A completed resolution makes room.
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") > 0; }));
  is_held.store(false);
  peer.CloseAll();
  for (const Resolution& resolution : resolutions) {
    EXPECT_TRUE(AwaitTrue([&] { return resolution.is_done(); }));
  }
  EXPECT_TRUE(AwaitBackend(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
}

TEST_F(RedisBackendResolverTest, EndsAResolutionAfterItsTimeout) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.gets_in_flight_max = 1;
  const auto resolver = MakeConnected(peer.address());
  const Resolution in_flight(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 1; }));
  const Resolution long_lived(resolver.get());
  const Resolution short_lived(resolver.get(), absl::Milliseconds(5));
  EXPECT_EQ(short_lived.AwaitCode(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(long_lived.is_done());
}

TEST_F(RedisBackendResolverTest, LimitsTheRateOfGets) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.gets_per_second_max = 10;
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  std::vector<Resolution> waiting;
  for (int i = 0; i < 100; ++i) waiting.emplace_back(resolver.get());
  // 100 ms per GET, less the burst.
  clock_.Advance(absl::Milliseconds(100) -
                 absl::Nanoseconds(GetPace::kBurstNanoseconds + 1));
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  EXPECT_EQ(redis.gets(), 1);
  for (const Resolution& resolution : waiting)
    EXPECT_FALSE(resolution.is_done());
  // They see the value that was set meanwhile.
  redis.ReplyWithBackend("6.7.8.9:5");
  clock_.Advance(absl::Nanoseconds(1));
  for (const Resolution& resolution : waiting) {
    EXPECT_EQ(resolution.Await(), "6.7.8.9:5 6.7.8.9:5");
    EXPECT_EQ(resolution.count(), 1);
  }
  EXPECT_EQ(redis.gets(), 2);
  EXPECT_EQ(resolver->GetStats().gets_sent, 2u);
  EXPECT_EQ(resolver->GetStats().questions_waiting, 0u);
}

// The value of `name` in /proc/self/task/TID/status, see proc(5).
std::string StatusOf(pid_t thread, absl::string_view name) {
  std::ifstream status(absl::StrCat("/proc/self/task/", thread, "/status"));
  for (std::string line; std::getline(status, line);) {
    const std::pair<std::string, std::string> field =
        absl::StrSplit(line, absl::MaxSplits(":\t", 1));
    if (field.first == name) return field.second;
  }
  return std::string();
}

TEST_F(RedisBackendResolverTest, LaterResolutionsDoNotWakeTheThread) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.gets_per_second_max = 1;
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  std::vector<Resolution> waiting;
  waiting.emplace_back(resolver.get());
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  const auto threads = test::ThreadsOf(getpid());
  ASSERT_EQ(threads.count("udpgate-redis-g"), 1u);
  const pid_t thread = threads.find("udpgate-redis-g")->second;
  const auto await_sleep = [&] {
    return AwaitTrue(
        [&] { return absl::StartsWith(StatusOf(thread, "State"), "S"); });
  };
  const auto sleeps = [&] {
    return std::stoi(StatusOf(thread, "voluntary_ctxt_switches"));
  };
  ASSERT_TRUE(await_sleep());
  const int before = sleeps();
  constexpr int kWaiting = 100;
  for (int i = 0; i < kWaiting; ++i) {
    waiting.emplace_back(resolver.get());
    ASSERT_TRUE(await_sleep());
  }
  // The thread may wake up for other reasons.
  EXPECT_LT(sleeps() - before, kWaiting / 4);
  // A resolution with a shorter timeout wakes it.
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  clock_.Advance(absl::Seconds(1));
  for (const Resolution& resolution : waiting)
    EXPECT_EQ(resolution.Await(), kBackend);
  EXPECT_EQ(redis.gets(), 2);
}

// The number of GETs, from the server's own statistics.
int64_t GetsServed(const RedisServer& redis) {
  const auto info = redis.Command({"INFO", "commandstats"});
  EXPECT_TRUE(info.ok()) << info.status();
  const std::string prefix = "cmdstat_get:calls=";
  const size_t begin = info->find(prefix);
  if (begin == std::string::npos) return 0;
  return std::stoll(info->substr(begin + prefix.size()));
}

TEST_F(RedisBackendResolverTest, AFloodOfResolutionsSendsGetsAtALimitedRate) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.gets_per_second_max = 100;
  const int64_t begin = Clock::Monotonic()->NowNanoseconds();
  const auto resolver = MakeConnected(redis->tcp_address());
  std::atomic<int> pending{0};
  int asked = 0;
  while (resolver->GetStats().gets_sent < 20) {
    if (pending.load() >= 1000) continue;
    ResolveRequest request;
    request.timeout = kLongTimeout;
    pending.fetch_add(1);
    ++asked;
    resolver->Resolve(request, [&](absl::StatusOr<ResolveResult> result) {
      EXPECT_TRUE(result.ok()) << result.status();
      pending.fetch_sub(1);
    });
  }
  EXPECT_TRUE(AwaitTrue([&] { return pending.load() == 0; }));
  const double seconds =
      static_cast<double>(Clock::Monotonic()->NowNanoseconds() - begin) * 1e-9;
  const int64_t gets = GetsServed(*redis);
  EXPECT_EQ(static_cast<uint64_t>(gets), resolver->GetStats().gets_sent);
  EXPECT_LE(gets, seconds * 100 + 2);
  EXPECT_GT(asked, 1000);  // most resolutions shared a GET
}

// A client that retries immediately after a failure gets the backend that was
// set meanwhile.
TEST_F(RedisBackendResolverTest, AnImmediateRetrySeesTheNewValue) {
  options_.failure_pause = RedisOptions().failure_pause;
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  for (int round = 1; round <= 3; ++round) {
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
              absl::StatusCode::kNotFound);
    Set(*redis, "1.2.3.4:5");
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
    ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  }
  EXPECT_EQ(resolver->GetStats().gets_sent, 6u);
}

}  // namespace
}  // namespace udpgate
