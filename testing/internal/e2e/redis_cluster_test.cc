// A real Cluster of three masters and a replica, with the configuration of
// docs/redis.md: slots move and a master is killed under traffic.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/paced_traffic.h"
#include "testing/internal/support/redis_cluster_servers.h"

namespace udpgate {
namespace test {
namespace {

// A newcomer does not notice that a slot moves.
constexpr absl::Duration kMoveWaitMax = absl::Seconds(1 * kSlowness);
// With `cluster-node-timeout` 1000, of which up to two pass until the others
// agree that the master is gone, and the election after that.
constexpr absl::Duration kFailoverMax = absl::Seconds(8);

class RedisClusterTest : public GateTest {
 protected:
  void StartCluster(int replicas) {
    RedisClusterServersOptions options;
    options.replicas = replicas;
    servers_ = std::make_unique<RedisClusterServers>(options);
    const absl::Status started = servers_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }
  void StartGateInCluster() {
    StartGate(
        {{"REDIS_ADDR", absl::StrCat(servers_->server(0).tcp_address(), ",",
                                     servers_->server(1).tcp_address())},
         {"REDIS_BACKEND_KEY", "udp_gate:backend:{client_ip} udp_gate:backend"},
         {"MAX_UNCONFIRMED_SESSIONS_PER_IP", "0"}});
  }
  void SetKey(const std::string& key, const EchoBackend& backend) {
    const auto done =
        servers_->Command({"SET", key, backend.address().ToString()});
    ASSERT_TRUE(done.ok()) << done.status();
  }
  // Any node may be the one that the gateway is subscribed to.
  size_t AwaitSubscribed() {
    size_t index = servers_->size();
    EXPECT_TRUE(AwaitTrue([&] {
      for (size_t i = 0; i < servers_->size(); ++i) {
        if (!servers_->server(i).running()) continue;
        const auto count = servers_->server(i).Command(
            {"PUBSUB", "NUMSUB", kDisconnectChannel});
        if (count.ok() && absl::EndsWith(*count, "\n1")) index = i;
      }
      return index < servers_->size();
    })) << gate().log();
    return index;
  }

  std::unique_ptr<RedisClusterServers> servers_;
};

TEST_F(RedisClusterTest, TheSlotOfTheKeyMovesUnderNewcomers) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(0));
  EchoBackend lobby("lobby");
  SetKey(kBackendKey, lobby);
  StartGateInCluster();
  PacedPlayers players(address(), "lobby", 20, 50 / kSlowness);
  Newcomers newcomers(address(), "lobby", 100 / kSlowness, absl::Seconds(4));
  ASSERT_TRUE(newcomers.AwaitServed(10)) << gate().log();
  for (const char* key : {"udp_gate:backend", "udp_gate:backend:127.0.0.1"}) {
    const auto slot = servers_->SlotOf(key);
    const auto owner = servers_->OwnerOf(key);
    ASSERT_TRUE(slot.ok() && owner.ok());
    size_t from = *owner;
    for (int round = 0; round < 3; ++round) {
      const size_t to = (from + 1) % 3;
      ASSERT_TRUE(servers_->BeginMove(*slot, from, to).ok());
      EXPECT_TRUE(newcomers.AwaitServed(5)) << gate().log();
      ASSERT_TRUE(servers_->MoveKeys(*slot, from, to).ok());
      EXPECT_TRUE(newcomers.AwaitServed(5)) << gate().log();
      ASSERT_TRUE(servers_->EndMove(*slot, from, to).ok());
      EXPECT_TRUE(newcomers.AwaitServed(5)) << gate().log();
      from = to;
    }
  }
  newcomers.Stop();
  players.Stop();
  std::printf(
      "%d newcomers were served, %d were not; the longest wait was %s\n",
      newcomers.served(), newcomers.failed(),
      absl::FormatDuration(newcomers.longest_wait()).c_str());
  RecordProperty(
      "milliseconds",
      static_cast<int>(absl::ToInt64Milliseconds(newcomers.longest_wait())));
  EXPECT_EQ(newcomers.failed(), 0) << gate().log();
  EXPECT_LE(newcomers.longest_wait(), kMoveWaitMax) << gate().log();
  EXPECT_GT(players.sent(), 0);
  EXPECT_EQ(players.received(), players.sent());
  EXPECT_EQ(players.disordered(), 0);
}

TEST_F(RedisClusterTest, NewClientsAreServedSoonAfterAMasterIsKilled) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(3));
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetKey(kBackendKey, lobby);
  const auto owner = servers_->OwnerOf(kBackendKey);
  ASSERT_TRUE(owner.ok()) << owner.status();
  ASSERT_TRUE(servers_->server(*owner).Command({"WAIT", "1", "5000"}).ok());
  StartGateInCluster();
  AwaitSubscribed();
  PacedPlayers players(address(), "lobby", 20, 50 / kSlowness);
  // Longer than RESOLVE_TIMEOUT_MS: who has no reply then gets none.
  Newcomers newcomers(address(), "lobby", 100 / kSlowness, absl::Seconds(4));
  ASSERT_TRUE(newcomers.AwaitServed(10));
  const absl::Time killed = absl::Now();
  servers_->server(*owner).Kill();
  const absl::Time dead = absl::Now();
  absl::optional<absl::Time> served;
  ASSERT_TRUE(AwaitTrue([&] {
    served = newcomers.FirstServed(dead);
    return served.has_value();
  })) << gate().log();
  const absl::Duration time = *served - killed;
  std::printf("first new client served %.2f s after the kill\n",
              absl::ToDoubleSeconds(time));
  RecordProperty("milliseconds",
                 static_cast<int>(absl::ToInt64Milliseconds(time)));
  EXPECT_LE(time, kFailoverMax) << gate().log();
  // From now on all are.
  EXPECT_TRUE(newcomers.AwaitServed(20));
  newcomers.Stop();
  players.Stop();
  std::printf("%d newcomers were served, %d were not\n", newcomers.served(),
              newcomers.failed());
  EXPECT_GT(players.sent(), 0);
  EXPECT_EQ(players.received(), players.sent());
  EXPECT_EQ(players.disordered(), 0);
  // An event that is published at another node than the subscribed one.
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  SetKey(kBackendKey, arena);
  const size_t subscribed = AwaitSubscribed();
  size_t other = 0;
  while (other == subscribed || other == *owner) ++other;
  ASSERT_TRUE(
      servers_->server(other)
          .Command({"PUBLISH", kDisconnectChannel, client.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena")) << gate().log();
}

TEST_F(RedisClusterTest, AnotherDatabaseIsRefusedInAClearLine) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(0));
  StartGate(
      {{"REDIS_ADDR", servers_->server(0).tcp_address()}, {"REDIS_DB", "3"}});
  EXPECT_TRUE(
      gate().AwaitLog("a Redis Cluster has database 0 only, not 3 (REDIS_DB)"))
      << gate().log();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
