// Signals: shutdown, and drain before it.
#include <atomic>
#include <csignal>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/http_client.h"

namespace udpgate {
namespace test {
namespace {

class ShutdownTest : public GateTest,
                     public ::testing::WithParamInterface<int> {
 protected:
  // In time, with status 0, and not by the deadline for a shutdown that hangs.
  void ExpectCleanShutdown() {
    absl::StatusOr<ExitResult> result = gate().Terminate(GetParam());
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->status, 0) << gate().log();
    EXPECT_LT(result->duration, kStopTimeMax);
    if (kSlowness == 1) {
      EXPECT_FALSE(absl::StrContains(gate().log(), "shutdown timed out"))
          << gate().log();
    }
  }
  // The gateway has ended already.
  void TearDown() override {}
};

INSTANTIATE_TEST_SUITE_P(Signals, ShutdownTest,
                         ::testing::Values(SIGTERM, SIGINT),
                         [](const ::testing::TestParamInfo<int>& signal) {
                           return signal.param == SIGTERM ? "Terminate"
                                                          : "Interrupt";
                         });

TEST_P(ShutdownTest, WhileIdle) {
  StartGate();
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  ExpectCleanShutdown();
}

TEST_P(ShutdownTest, WhileRedisHangs) {
  StartGate({{"REDIS_TIMEOUT_MS", "30000"}});
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  redis().Pause();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ExpectCleanShutdown();
}

TEST_P(ShutdownTest, WhileRedisIsUnreachable) {
  RedisServer never_started;
  StartGate({{"REDIS_ADDR", never_started.tcp_address()}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ExpectCleanShutdown();
}

TEST_P(ShutdownTest, WhileRedisAcceptsAndNeverReplies) {
  redis().Pause();
  StartGate({{"REDIS_TIMEOUT_MS", "30000"}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ExpectCleanShutdown();
}

TEST_P(ShutdownTest, UnderTraffic) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"LISTENER_COUNT", "2"}});
  std::vector<LoopbackPeer> clients(20);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  }
  std::atomic<bool> stopping{false};
  std::thread traffic([&] {
    while (!stopping) {
      for (LoopbackPeer& client : clients) {
        client.Send(address(), "more").IgnoreError();
        client.TryReceive().IgnoreError();
      }
    }
  });
  ASSERT_TRUE(lobby.AwaitReceived(1000));
  ExpectCleanShutdown();
  stopping = true;
  traffic.join();
}

TEST_P(ShutdownTest, WhileTheLogIsNotRead) {
  EchoBackend lobby("lobby");
  StartGate({{"LOG_LEVEL", "debug"}});
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  gate().HoldLog();
  // Something to log: no backend, a bad event, a connection that is lost.
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  Publish("nonsense");
  ASSERT_TRUE(redis().Command({"CLIENT", "KILL", "TYPE", "pubsub"}).ok());
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 100));
  ExpectCleanShutdown();
}

TEST_P(ShutdownTest, BySeveralSignals) {
  StartGate();
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  for (int i = 0; i < 5; ++i) gate().Signal(GetParam());
  ExpectCleanShutdown();
}

// A gateway that drains, with one live session.
class DrainTest : public GateTest {
 protected:
  void StartDraining(std::map<std::string, std::string> environment) {
    SetBackend(lobby_);
    StartGate(std::move(environment));
    ASSERT_TRUE(IsServedBy(&player_, address(), "lobby"));
    gate().Signal(SIGTERM);
    ASSERT_TRUE(gate().AwaitLog("draining: "));
  }

  void ExpectEnd() {
    absl::StatusOr<ExitResult> result = gate().AwaitExit();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->status, 0) << gate().log();
    EXPECT_FALSE(absl::StrContains(gate().log(), "shutdown timed out"))
        << gate().log();
  }
  bool LogHas(absl::string_view text) {
    return absl::StrContains(gate().log(), text);
  }

  // The gateway has ended already.
  void TearDown() override {}

  EchoBackend lobby_{"lobby"};
  LoopbackPeer player_;
};

TEST_F(DrainTest, KeepsLiveSessionsAndRejectsNewClients) {
  StartDraining({{"DRAIN_TIMEOUT_SECS", "86400"},
                 {"SESSION_IDLE_TIMEOUT_SECS", "6"},
                 {"UNCONFIRMED_TIMEOUT_SECS", "6"}});
  EXPECT_TRUE(IsServedBy(&player_, address(), "lobby", 20));
  LoopbackPeer newcomer;
  ASSERT_TRUE(newcomer.Send(address(), "hello").ok());
  EXPECT_TRUE(IsServedBy(&player_, address(), "lobby", 20));
  ExpectEnd();
  EXPECT_TRUE(LogHas("drained: 0 live sessions left")) << gate().log();
  EXPECT_TRUE(LogHas("draining 1")) << gate().log();
  EXPECT_EQ(lobby_.sources().size(), 1u);
}

TEST_F(DrainTest, ASecondSignalEndsItAtOnce) {
  StartDraining({{"DRAIN_TIMEOUT_SECS", "86400"}});
  EXPECT_TRUE(IsServedBy(&player_, address(), "lobby"));
  absl::StatusOr<ExitResult> result = gate().Terminate(SIGINT);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status, 0) << gate().log();
  EXPECT_LT(result->duration, kStopTimeMax);
  EXPECT_TRUE(LogHas("drained: 1 live sessions left")) << gate().log();
}

TEST_F(DrainTest, TheAdminEndpointIsNotReady) {
  StartDraining(
      {{"DRAIN_TIMEOUT_SECS", "86400"}, {"ADMIN_ADDR", "127.0.0.1:0"}});
  const absl::StatusOr<HttpReply> reply =
      HttpGet(gate().AdminAddress(), "/readyz");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 503);
  EXPECT_TRUE(absl::StrContains(reply->body, "draining"));
  gate().Signal(SIGTERM);
  ExpectEnd();
}

TEST_F(DrainTest, TheTimeoutEndsIt) {
  StartDraining({{"DRAIN_TIMEOUT_SECS", "1"}});
  ExpectEnd();
  EXPECT_TRUE(LogHas("drained: 1 live sessions left")) << gate().log();
}

using ShutdownInProcessTest = InProcessGateTest;

TEST_F(ShutdownInProcessTest, WhileTheNameServerHangs) {
  // Receives queries, and answers none.
  LoopbackPeer name_server;
  options_.lookup.dns_servers = name_server.address().ToString();
  SetBackendText("lobby.example:19132");
  StartInProcess();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  ASSERT_TRUE(name_server.Receive().ok());
  EXPECT_EQ(in_process().stats().sessions_pending, 1u);
  // TearDown measures the shutdown.
}

TEST_F(ShutdownInProcessTest, LiveSessionsGoOnWhileTheNameServerHangs) {
  EchoBackend lobby("lobby");
  LoopbackPeer name_server;
  options_.lookup.dns_servers = name_server.address().ToString();
  SetBackend(lobby);
  StartInProcess();
  LoopbackPeer player;
  ASSERT_TRUE(IsServedBy(&player, in_process().address(), "lobby"));
  SetBackendText("lobby.example:19132");
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  ASSERT_TRUE(name_server.Receive().ok());
  EXPECT_TRUE(IsServedBy(&player, in_process().address(), "lobby", 500));
  EXPECT_EQ(in_process().stats().sessions_pending, 1u);
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kResolveTimedOut) == 1;
  })) << Describe(in_process().stats());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
