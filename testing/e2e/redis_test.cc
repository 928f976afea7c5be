// What Redis may say and do: values, access, and every way to be away. Live
// sessions must not notice.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "testing/e2e/e2e.h"
#include "testing/tcp_relay.h"
#include "udpgate/dns/fake_dns_server.h"

namespace udpgate {
namespace test {
namespace {

using RedisValueTest = InProcessGateTest;

TEST_F(RedisValueTest, WhiteSpaceAroundTheValueIsCut) {
  EchoBackend lobby("lobby");
  SetBackendText(absl::StrCat(" \t\r\n", lobby.address().ToString(), "\n \t"));
  StartInProcess();
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby", 3));
}

TEST_F(RedisValueTest, TheValueMayBeAnIpv6Address) {
  EchoBackend lobby("lobby", SocketAddress::Ipv6Loopback(0));
  SetBackend(lobby);
  StartInProcess();
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby", 3));
}

TEST_F(RedisValueTest, TheValueMayBeAHostName) {
  // `localhost` may mean either.
  EchoBackend lobby("lobby");
  EchoBackend lobby_v6("lobby",
                       SocketAddress::Ipv6Loopback(lobby.address().port()));
  SetBackendText(absl::StrCat("localhost:", lobby.address().port()));
  StartInProcess();
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby", 3));
}

TEST_F(RedisValueTest, WhatIsNoAddressIsCountedAndTheNextDatagramTriesAgain) {
  EchoBackend lobby("lobby");
  StartInProcess();
  LoopbackPeer client;
  const std::string port = absl::StrCat(lobby.address().port());
  uint64_t count = 0;
  for (const std::string& value : std::vector<std::string>{
           "", " ", "nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
           "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:12x",
           absl::StrCat(":", port), absl::StrCat("[::1]", port),
           absl::StrCat("::1:", port), absl::StrCat("[127.0.0.1:", port),
           absl::StrCat("0.0.0.0:", port), absl::StrCat("224.0.0.1:", port),
           absl::StrCat("127.0.0.1:", port, " x"),
           absl::StrCat("127.0.0.1:", port, "\n127.0.0.1:", port),
           std::string("\0\xff\x80:1", 5), std::string(10000, 'x')}) {
    SetBackendText(value);
    ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
    ++count;
    ASSERT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
      return stats.dropped_total() == count && stats.sessions_pending == 0;
    })) << value.substr(0, 40)
        << Describe(in_process().stats());
    const ProxyStats stats = in_process().stats();
    EXPECT_EQ(stats.dropped(DropReason::kInvalidBackend), count)
        << value.substr(0, 40);
  }
  EXPECT_EQ(lobby.received_count(), 0u);
  SetBackend(lobby);
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby"));
}

TEST_F(RedisValueTest, AMegabyteIsCountedAndTheNextDatagramsTryAgain) {
  EchoBackend lobby("lobby");
  SetBackendText(
      absl::StrCat(lobby.address().ToString(), std::string(1 << 20, ' ')));
  StartInProcess();
  LoopbackPeer client;
  // It costs the connection to Redis, and there may be none for a moment.
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(client.Send(in_process().address(), "hello").ok());
    return in_process().stats().dropped(DropReason::kInvalidBackend) >= 3;
  })) << Describe(in_process().stats());
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&client, in_process().address(), "lobby"));
}

TEST_F(RedisValueTest, AMissingKeyIsCounted) {
  EchoBackend lobby("lobby");
  StartInProcess();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kNoBackend) == 1;
  }));
  EXPECT_EQ(in_process().stats().resolves_failed, 1u);
  SetBackend(lobby);
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby"));
}

TEST_F(RedisValueTest, AWrongTypeIsCounted) {
  EchoBackend lobby("lobby");
  ASSERT_TRUE(redis().Command({"LPUSH", kBackendKey, "127.0.0.1:1"}).ok());
  StartInProcess();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kInvalidBackend) == 1;
  })) << Describe(in_process().stats());
  ASSERT_TRUE(redis().Command({"DEL", kBackendKey}).ok());
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&client, in_process().address(), "lobby"));
}

using RedisAccessTest = GateTest;

// A Redis of the test's own, with other settings than the suite's.
TEST_F(RedisAccessTest, LogsInAsAnAclUser) {
  RedisServerOptions options;
  options.extra_arguments = {"--user", "default", "off",          "--user",
                             "gate",   "on",      ">open=sesame", "~*",
                             "&*",     "+@all"};
  options.username = "gate";
  options.password = "open=sesame";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  StartGate({{"REDIS_ADDR", server.tcp_address()},
             {"REDIS_USERNAME", "gate"},
             {"REDIS_PASSWORD", "open=sesame"},
             {"LOG_LEVEL", "debug"}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitSubscriber(&server));
  EXPECT_EQ(gate().log().find("sesame"), std::string::npos) << gate().log();
}

TEST_F(RedisAccessTest, ReadsThePasswordFromAFile) {
  RedisServerOptions options;
  options.extra_arguments = {"--requirepass", "from a file"};
  options.password = "from a file";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  TemporaryDirectory directory;
  StartGate({{"REDIS_ADDR", server.tcp_address()},
             {"REDIS_PASSWORD_FILE",
              directory.WriteFile("password", "from a file\n")}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
}

TEST_F(RedisAccessTest, AWrongPasswordIsLoggedWithoutIt) {
  RedisServerOptions options;
  options.extra_arguments = {"--requirepass", "right"};
  options.password = "right";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  StartGate({{"REDIS_ADDR", server.tcp_address()},
             {"REDIS_PASSWORD", "not-this-one"},
             {"LOG_LEVEL", "debug"}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  EXPECT_TRUE(gate().AwaitLog("WRONGPASS")) << gate().log();
  EXPECT_EQ(gate().log().find("not-this-one"), std::string::npos)
      << gate().log();
  // The operator puts it right.
  ASSERT_TRUE(
      server.Command({"CONFIG", "SET", "requirepass", "not-this-one"}).ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

TEST_F(RedisAccessTest, NoPasswordWhereOneIsNeededIsLogged) {
  RedisServerOptions options;
  options.extra_arguments = {"--requirepass", "right"};
  options.password = "right";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  StartGate({{"REDIS_ADDR", server.tcp_address()}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  EXPECT_TRUE(gate().AwaitLog("NOAUTH")) << gate().log();
}

TEST_F(RedisAccessTest, ReadsTheDatabaseTheKeyAndTheChannelItIsTold) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  EchoBackend wrong("wrong");
  SetBackend(wrong);
  const auto set = [&](const EchoBackend& backend) {
    // SELECT holds for a connection, so both go in one command.
    ASSERT_TRUE(redis()
                    .Command({"EVAL",
                              "redis.call('SELECT', 3) "
                              "return redis.call('SET', KEYS[1], ARGV[1])",
                              "1", "another:key", backend.address().ToString()})
                    .ok());
  };
  set(lobby);
  StartGate({{"REDIS_DB", "3"},
             {"REDIS_BACKEND_KEY", "another:key"},
             {"REDIS_DISCONNECT_CHANNEL", "another channel"}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis(), "another channel"));
  set(arena);
  ASSERT_TRUE(
      redis()
          .Command({"PUBLISH", "another channel", client.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_F(RedisAccessTest, UsesAUnixSocket) {
  RedisServerOptions options;
  options.tcp = false;
  options.unix_socket = true;
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  StartGate({{"REDIS_ADDR", server.unix_address()}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&server));
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, arena.address().ToString()}).ok());
  ASSERT_TRUE(
      server
          .Command({"PUBLISH", kDisconnectChannel, client.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_F(RedisAccessTest, FindsRedisByAHostName) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", absl::StrCat("localhost:", redis().port())}});
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

// What a live session may wait for an answer, on a busy machine. Who waits for
// Redis, or for a name, waits for longer.
constexpr absl::Duration kPlayerWaitMax = absl::Milliseconds(500 * kSlowness);

// Clients that ask and wait for the answer, over and over. Each loss and each
// stall is seen.
class Players {
 public:
  Players(const SocketAddress& gate, absl::string_view backend, int count)
      : gate_(gate), backend_(backend), peers_(static_cast<size_t>(count)) {}

  // Gives each its session.
  bool Join() {
    return std::all_of(peers_.begin(), peers_.end(), [&](LoopbackPeer& peer) {
      return IsServedBy(&peer, gate_, backend_);
    });
  }

  // Plays until `end` and at least once.
  void PlayUntil(absl::Time end) {
    do {
      for (LoopbackPeer& peer : peers_) Round(&peer);
    } while (absl::Now() < end && lost_ == 0);
  }

  int lost() const { return lost_; }
  int rounds() const { return rounds_; }
  absl::Duration longest_wait() const { return longest_wait_; }

 private:
  void Round(LoopbackPeer* peer) {
    const std::string payload = absl::StrCat("round ", ++rounds_);
    const absl::Time begin = absl::Now();
    absl::StatusOr<std::string> reply = peer->Ask(gate_, payload);
    longest_wait_ = std::max(longest_wait_, absl::Now() - begin);
    if (!reply.ok() || *reply != absl::StrCat(backend_, ":", payload)) ++lost_;
  }

  const SocketAddress gate_;
  const std::string backend_;
  std::vector<LoopbackPeer> peers_;
  int lost_ = 0;
  int rounds_ = 0;
  absl::Duration longest_wait_;
};

class RedisAwayTest : public GateTest,
                      public ::testing::WithParamInterface<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, RedisAwayTest,
                         ::testing::Values(Shape{4, 1}, Shape{0, 1},
                                           Shape{2, 2}),
                         ShapeName);

TEST_P(RedisAwayTest, AGateStartsWithoutRedisAndConnectsWhenItAppears) {
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

TEST_P(RedisAwayTest, LiveSessionsDoNotNoticeThatRedisDiesAndComesBack) {
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
  // It has subscribed again.
  EchoBackend third("third");
  SetBackend(third);
  Publish(late.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&late, address(), "third"));
  EXPECT_EQ(lobby.sources().size(), 8u);
}

TEST_P(RedisAwayTest, LiveSessionsDoNotNoticeThatRedisHangs) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(2500);
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam(), {{"REDIS_TIMEOUT_MS",
                          absl::StrCat(kTimeout / absl::Milliseconds(1))}});
  Players players(address(), "lobby", 32);
  ASSERT_TRUE(players.Join());
  redis().Pause();
  // New clients wait for an answer that does not come.
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

// A name server that says nothing any more.
class MuteNameServerTest : public InProcessGateTest {
 protected:
  MuteNameServerTest() {
    options_.lookup.dns_servers = dns_.address();
    // Each use of a name asks.
    options_.lookup.success_cache_time = absl::ZeroDuration();
  }

  // While somebody new waits for the answer about `name`.
  void ExpectThatSessionsPlayOnAndStopIsQuick(absl::string_view name) {
    Players players(in_process().address(), "lobby", 8);
    ASSERT_TRUE(players.Join());
    dns_.Hold();
    const int queries_before = dns_.query_count(name);
    // Where the name is that of Redis, it is looked up to connect again.
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

TEST_F(MuteNameServerTest, OfTheNameOfRedisTouchesNoSession) {
  dns_.Set("redis.test", {"127.0.0.1"});
  options_.redis.address = absl::StrCat("redis.test:", redis().port());
  SetBackend(lobby_);
  StartInProcess();
  ExpectThatSessionsPlayOnAndStopIsQuick("redis.test");
}

TEST_F(MuteNameServerTest, OfTheNameOfTheBackendTouchesNoSession) {
  dns_.Set("lobby.test", {"127.0.0.1"});
  options_.named_backend = absl::StrCat("lobby.test:", lobby_.address().port());
  StartInProcess();
  ExpectThatSessionsPlayOnAndStopIsQuick("lobby.test");
}

// What comes back instead of an answer, by way of a relay.
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

TEST_P(RedisReplyTest, IsSurvivedAndTheNextDatagramTriesAgain) {
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

TEST_F(RedisConnectionTest, AReplyCutInTheMiddleIsAskedForAgain) {
  EchoBackend lobby("lobby");
  TcpRelay relay(redis().port());
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", relay.address()}});
  LoopbackPeer first;
  ASSERT_TRUE(AwaitServedBy(&first, address(), "lobby"));
  for (const size_t bytes : {0, 1, 5, 10}) {
    relay.CutAfterReplyBytes(bytes);
    // One datagram, which waits for the next connection.
    LoopbackPeer client;
    EXPECT_TRUE(IsServedBy(&client, address(), "lobby")) << bytes;
  }
  EXPECT_TRUE(IsServedBy(&first, address(), "lobby", 3));
}

TEST_F(RedisConnectionTest, AServerThatAcceptsAndNeverAnswersIsGivenUp) {
  EchoBackend lobby("lobby");
  TcpRelay relay(redis().port());
  relay.HoldReplies();
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", relay.address()}, {"REDIS_TIMEOUT_MS", "200"}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  // The resolver and the subscription give up and try again, each.
  EXPECT_TRUE(relay.AwaitConnections(6));
  relay.ReleaseReplies();
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitSubscriber(&redis()));
}

TEST_F(RedisConnectionTest, AClientWaitsForItsBackendNoLongerThanItMay) {
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
  // Sooner than where nothing is set.
  EXPECT_LT(absl::Now() - begin,
            kTimeout + absl::Milliseconds(500 * kSlowness));
  relay.ReleaseReplies();
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

TEST_F(RedisConnectionTest, ASubscriptionThatIsLostIsMadeAgain) {
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

TEST_F(RedisConnectionTest, OneEventTakesABackendOut) {
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
  // From the same IP address as everybody.
  SetBackend(lobby);
  Publish("ip 127.0.0.1");
  EXPECT_TRUE(AwaitServedBy(&late, address(), "lobby"));
  EXPECT_EQ(lobby.sources().size(), lobby_sources + 1);
}

TEST_F(RedisConnectionTest, ASilentSubscriptionIsNoticed) {
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
  // A PING now and then has no answer, so the gate tries again.
  EXPECT_TRUE(gate().AwaitLog("no answer", kAwaitTimeout, log_before));
  EXPECT_TRUE(relay.AwaitConnections(3));
  relay.ReleaseReplies();
  ASSERT_TRUE(gate().AwaitLog("subscribed", kAwaitTimeout, log_before));
  SetBackend(arena);
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_F(RedisConnectionTest, ACrowdWithoutABackendFillsNoLog) {
  StartGate();
  std::vector<LoopbackPeer> crowd(50);
  for (int i = 0; i < 40; ++i) {
    for (LoopbackPeer& client : crowd) {
      ASSERT_TRUE(client.Send(address(), "hello").ok());
    }
  }
  // Before there is a backend: a busy gate may read all of them late.
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
