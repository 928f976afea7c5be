// Redis or the name server fails: live sessions are not affected.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/players.h"
#include "udpgate/dns/fake_dns_server.h"

namespace udpgate {
namespace test {
namespace {

// The longest wait for a reply in a live session, on a busy machine; less than
// the waits for Redis and for a lookup.
constexpr absl::Duration kPlayerWaitMax = absl::Milliseconds(500 * kSlowness);

class RedisOutageTest : public GateTest,
                        public ::testing::WithParamInterface<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, RedisOutageTest,
                         ::testing::Values(Shape{4, 1}, Shape{0, 1},
                                           Shape{2, 2}),
                         ShapeName);

TEST_P(RedisOutageTest, StartsWithoutRedisAndConnectsLater) {
  RedisServer server;
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  StartGate(GetParam(), {{"REDIS_ADDR", server.tcp_address()}});
  EXPECT_TRUE(gate().AwaitLog("Connection refused")) << gate().log();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "nobody there").ok());
  ASSERT_TRUE(server.Start().ok());
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&server));
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, arena.address().ToString()}).ok());
  ASSERT_TRUE(
      server
          .Command({"PUBLISH", kDisconnectChannel, client.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_P(RedisOutageTest, ARestartOfRedisDoesNotAffectSessions) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  Players players(address(), "lobby", 8);
  ASSERT_TRUE(players.Join());
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  redis().Kill();
  LoopbackPeer late;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(late.Send(address(), "nobody there").ok());
    players.PlayUntil(absl::Now() + absl::Milliseconds(30));
  }
  ASSERT_TRUE(redis().Restart().ok());
  SetBackend(arena);
  EXPECT_TRUE(AwaitServedBy(&late, address(), "arena"));
  players.PlayUntil(absl::Now() + absl::Milliseconds(100));
  EXPECT_EQ(players.lost(), 0);
  EXPECT_LT(players.longest_wait(), kPlayerWaitMax);
  // The subscription is restored, too.
  EchoBackend third("third");
  SetBackend(third);
  Publish(late.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&late, address(), "third"));
  EXPECT_EQ(lobby.sources().size(), 8u);
}

TEST_P(RedisOutageTest, AHangingRedisDoesNotAffectSessions) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(2500);
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam(), {{"REDIS_TIMEOUT_MS",
                          absl::StrCat(kTimeout / absl::Milliseconds(1))}});
  Players players(address(), "lobby", 32);
  ASSERT_TRUE(players.Join());
  redis().Pause();
  // Resolutions of new clients are pending.
  std::vector<LoopbackPeer> late(10);
  for (LoopbackPeer& client : late) {
    ASSERT_TRUE(client.Send(address(), "hello").ok());
  }
  players.PlayUntil(absl::Now() + absl::Seconds(3));
  redis().Resume();
  EXPECT_EQ(players.lost(), 0);
  EXPECT_LT(players.longest_wait(), kPlayerWaitMax);
  SetBackend(arena);
  for (LoopbackPeer& client : late) {
    EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
  }
  EXPECT_EQ(lobby.sources().size(), 32u);
}

// A name server that stops responding.
class SilentNameServerTest : public InProcessGateTest {
 protected:
  SilentNameServerTest() {
    options_.lookup.dns_servers = dns_.address();
    // Each use of a name sends a query.
    options_.lookup.success_cache_time = absl::ZeroDuration();
  }

  // Checks live sessions while the lookup of `name` is pending.
  void ExpectLiveSessionsAndAQuickStop(absl::string_view name) {
    Players players(in_process().address(), "lobby", 8);
    ASSERT_TRUE(players.Join());
    dns_.Hold();
    const int queries_before = dns_.query_count(name);
    // Makes the resolver look the name of Redis up again.
    redis().Kill();
    LoopbackPeer late;
    ASSERT_TRUE(late.Send(in_process().address(), "hello").ok());
    ASSERT_TRUE(
        AwaitTrue([&] { return dns_.query_count(name) > queries_before; }));
    players.PlayUntil(absl::Now() + absl::Milliseconds(500));
    EXPECT_EQ(players.lost(), 0);
    EXPECT_LT(players.longest_wait(), kPlayerWaitMax);
    const absl::Time begin = absl::Now();
    in_process().proxy().Stop();
    EXPECT_LT(absl::Now() - begin, kStopTimeMax);
  }

  FakeDnsServer dns_;
  EchoBackend lobby_{"lobby"};
};

TEST_F(SilentNameServerTest, ALookupOfRedisDoesNotAffectSessions) {
  dns_.Set("redis.test", {"127.0.0.1"});
  options_.redis.address = absl::StrCat("redis.test:", redis().port());
  SetBackend(lobby_);
  StartInProcess();
  ExpectLiveSessionsAndAQuickStop("redis.test");
}

TEST_F(SilentNameServerTest, ALookupOfTheBackendDoesNotAffectSessions) {
  dns_.Set("lobby.test", {"127.0.0.1"});
  options_.named_backend = absl::StrCat("lobby.test:", lobby_.address().port());
  StartInProcess();
  ExpectLiveSessionsAndAQuickStop("lobby.test");
}

}  // namespace
}  // namespace test
}  // namespace udpgate
