// The master of Redis is killed: three real Sentinels, the real program, and
// traffic all the while.
#include <cstdio>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/paced_traffic.h"
#include "testing/internal/support/redis_sentinels.h"

namespace udpgate {
namespace test {
namespace {

// With `down-after-milliseconds` 1000.
constexpr absl::Duration kFailoverMax = absl::Seconds(3 * kSlowness);

using RedisFailoverTest = GateTest;

TEST_F(RedisFailoverTest, NewClientsAreServedSoonAfterTheMasterIsKilled) {
  RedisSentinels group;
  const absl::Status started = group.Start();
  ASSERT_TRUE(started.ok()) << started;
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  ASSERT_TRUE(group.master()
                  .Command({"SET", kBackendKey, lobby.address().ToString()})
                  .ok());
  ASSERT_TRUE(group.master().Command({"WAIT", "1", "5000"}).ok());
  StartGate({{"REDIS_ADDR", ""},
             {"REDIS_SENTINELS", group.addresses()},
             {"REDIS_SENTINEL_MASTER", "mymaster"},
             {"MAX_UNCONFIRMED_SESSIONS_PER_IP", "0"}});
  ASSERT_TRUE(AwaitSubscriber(&group.master()));
  PacedPlayers players(address(), "lobby", 20, 50 / kSlowness);
  // Longer than RESOLVE_TIMEOUT_MS: who has no reply then gets none.
  Newcomers newcomers(address(), "lobby", 100 / kSlowness, absl::Seconds(4));
  ASSERT_TRUE(newcomers.AwaitServed(10));
  const absl::Time killed = absl::Now();
  group.master().Kill();
  const absl::Time dead = absl::Now();
  ASSERT_TRUE(AwaitTrue(
      [&] { return group.NamedMasterPort() == group.replica().port(); }));
  const absl::Duration named = absl::Now() - killed;
  absl::optional<absl::Time> served;
  ASSERT_TRUE(AwaitTrue([&] {
    served = newcomers.FirstServed(dead);
    return served.has_value();
  })) << gate().log();
  const absl::Duration time = *served - killed;
  std::printf(
      "first new client served %.2f s after the kill; Sentinel named the new "
      "master after %.2f s\n",
      absl::ToDoubleSeconds(time), absl::ToDoubleSeconds(named));
  RecordProperty("milliseconds",
                 static_cast<int>(absl::ToInt64Milliseconds(time)));
  EXPECT_LE(time, kFailoverMax) << gate().log();
  // From now on all are.
  const int failed = newcomers.failed();
  EXPECT_TRUE(newcomers.AwaitServed(20));
  newcomers.Stop();
  players.Stop();
  std::printf("%d newcomers were served, %d were not\n", newcomers.served(),
              newcomers.failed());
  EXPECT_GE(newcomers.failed(), failed);
  EXPECT_GT(players.sent(), 0);
  EXPECT_EQ(players.received(), players.sent());
  EXPECT_EQ(players.disordered(), 0);
  // The subscription has moved, too.
  ASSERT_TRUE(AwaitSubscriber(&group.replica()));
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(group.replica()
                  .Command({"SET", kBackendKey, arena.address().ToString()})
                  .ok());
  ASSERT_TRUE(
      group.replica()
          .Command({"PUBLISH", kDisconnectChannel, client.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
