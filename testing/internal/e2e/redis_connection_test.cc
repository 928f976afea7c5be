// Invalid replies, lost connections and lost subscriptions.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/players.h"
#include "testing/internal/support/tcp_relay.h"

namespace udpgate {
namespace test {
namespace {

// A relay replaces the reply of Redis.
class RedisReplyTest : public GateTest,
                       public ::testing::WithParamInterface<
                           std::pair<const char*, const char*>> {};

INSTANTIATE_TEST_SUITE_P(
    Replies, RedisReplyTest,
    ::testing::Values(
        std::make_pair("Loading", "-LOADING Redis is loading\r\n"),
        std::make_pair("ReadOnly", "-READONLY You can't write\r\n"),
        std::make_pair("NoAuth", "-NOAUTH Authentication required.\r\n"),
        std::make_pair("AbsurdArray", "*2000000000\r\n"),
        std::make_pair("AbsurdString", "$2147483647\r\nx"),
        std::make_pair("NegativeLength", "$-77\r\n"),
        std::make_pair("Integer", ":42\r\n"),
        std::make_pair("Nested", "*1\r\n*1\r\n*1\r\n$1\r\nx\r\n"),
        std::make_pair("Http", "HTTP/1.1 400 Bad Request\r\n\r\n"),
        std::make_pair("Binary", "\xff\xfe\xfd\r\n\r\n"),
        std::make_pair("TwoAnswers", "$1\r\nx\r\n$1\r\ny\r\n")),
    [](const ::testing::TestParamInfo<std::pair<const char*, const char*>>&
           reply) { return reply.param.first; });

TEST_P(RedisReplyTest, TheNextDatagramRetries) {
  EchoBackend lobby("lobby");
  TcpRelay relay(redis().port());
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", relay.address()}, {"REDIS_TIMEOUT_MS", "500"}});
  LoopbackPeer first;
  ASSERT_TRUE(AwaitServedBy(&first, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  const size_t gets_before = relay.CountRequests("GET");
  relay.ReplaceNextReply(GetParam().second);
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ASSERT_TRUE(relay.AwaitRequests("GET", gets_before + 1));
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(IsServedBy(&first, address(), "lobby", 3));
}

using RedisConnectionTest = GateTest;

TEST_F(RedisConnectionTest, AnIncompleteReplyIsRequestedAgain) {
  EchoBackend lobby("lobby");
  TcpRelay relay(redis().port());
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", relay.address()}});
  LoopbackPeer first;
  ASSERT_TRUE(AwaitServedBy(&first, address(), "lobby"));
  for (const size_t bytes : {0, 1, 5, 10}) {
    relay.CutAfterReplyBytes(bytes);
    // One datagram, which is buffered until the next connection.
    LoopbackPeer client;
    EXPECT_TRUE(IsServedBy(&client, address(), "lobby")) << bytes;
  }
  EXPECT_TRUE(IsServedBy(&first, address(), "lobby", 3));
}

TEST_F(RedisConnectionTest, ASilentServerTimesOutAndIsRetried) {
  EchoBackend lobby("lobby");
  TcpRelay relay(redis().port());
  relay.HoldReplies();
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", relay.address()}, {"REDIS_TIMEOUT_MS", "200"}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  // Both the resolver and the subscription time out and reconnect.
  EXPECT_TRUE(relay.AwaitConnections(6));
  relay.ReleaseReplies();
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitSubscriber(&redis()));
}

TEST_F(RedisConnectionTest, AResolutionTimesOut) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(200);
  EchoBackend lobby("lobby");
  TcpRelay relay(redis().port());
  SetBackend(lobby);
  StartGate(
      {{"REDIS_ADDR", relay.address()},
       {"REDIS_TIMEOUT_MS", "30000"},
       {"RESOLVE_TIMEOUT_MS", absl::StrCat(kTimeout / absl::Milliseconds(1))}});
  LoopbackPeer first;
  ASSERT_TRUE(AwaitServedBy(&first, address(), "lobby"));
  relay.HoldReplies();
  LoopbackPeer client;
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ASSERT_TRUE(gate().AwaitLog("dropped (resolve_timed_out)")) << gate().log();
  EXPECT_GE(absl::Now() - begin, kTimeout);
  // Sooner than the default time limit.
  EXPECT_LT(absl::Now() - begin,
            kTimeout + absl::Milliseconds(500 * kSlowness));
  relay.ReleaseReplies();
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

TEST_F(RedisConnectionTest, ALostSubscriptionIsRestored) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(redis().Command({"CLIENT", "KILL", "TYPE", "pubsub"}).ok());
    ASSERT_TRUE(AwaitSubscriber(&redis()));
  }
  SetBackend(arena);
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_F(RedisConnectionTest, OneEventEndsAllSessionsOfABackend) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate({{"WORKER_COUNT", "4"}});
  Players players(address(), "lobby", 32);
  ASSERT_TRUE(players.Join());
  SetBackend(arena);
  Publish(absl::StrCat("backend ", lobby.address().ToString()));
  LoopbackPeer late;
  EXPECT_TRUE(AwaitServedBy(&late, address(), "arena"));
  const size_t lobby_sources = lobby.sources().size();
  // All clients have this IP address.
  SetBackend(lobby);
  Publish("ip 127.0.0.1");
  EXPECT_TRUE(AwaitServedBy(&late, address(), "lobby"));
  EXPECT_EQ(lobby.sources().size(), lobby_sources + 1);
}

TEST_F(RedisConnectionTest, ASilentSubscriptionIsDetected) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  TcpRelay relay(redis().port());
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", relay.address()}, {"REDIS_TIMEOUT_MS", "300"}});
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  ASSERT_TRUE(gate().AwaitLog("subscribed"));
  const size_t log_before = gate().log().size();
  relay.HoldReplies();
  // A PING gets no reply, so the gateway reconnects.
  EXPECT_TRUE(gate().AwaitLog("no reply within", kAwaitTimeout, log_before));
  EXPECT_TRUE(relay.AwaitConnections(3));
  relay.ReleaseReplies();
  ASSERT_TRUE(gate().AwaitLog("subscribed", kAwaitTimeout, log_before));
  SetBackend(arena);
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_F(RedisConnectionTest, ManyClientsWithoutABackendDoNotFloodTheLog) {
  StartGate();
  std::vector<LoopbackPeer> crowd(50);
  for (int i = 0; i < 40; ++i) {
    for (LoopbackPeer& client : crowd) {
      ASSERT_TRUE(client.Send(address(), "hello").ok());
    }
  }
  // Before there is a backend: a busy gateway may read the datagrams late.
  ASSERT_TRUE(gate().AwaitLog("dropped (no_backend)"));
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  for (LoopbackPeer& client : crowd) {
    ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  }
  const std::string log = gate().log();
  EXPECT_LT(std::count(log.begin(), log.end(), '\n'), 40) << log;
}

}  // namespace
}  // namespace test
}  // namespace udpgate
