// Loss of the connection, hanging servers, reconnecting and stopping.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/resolver_fixture.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::kBackend;
using test::kStopTimeMax;
using test::kUnavailable;
using test::RedisBackendResolverTest;
using test::RedisServer;
using test::Resolution;
using test::ScriptedPeer;
using test::ScriptedRedis;
using ::testing::HasSubstr;

TEST_F(RedisBackendResolverTest, StartsWithoutRedisAndConnectsLater) {
  RedisServer redis;
  const auto resolver = Make(redis.tcp_address());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("Connection refused"); }));
  // Disconnected: fails at once, whatever its timeout.
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(resolver->Health().code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(redis.Start().ok());
  Set(redis, "1.2.3.4:5");
  EXPECT_TRUE(AwaitBackend(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
  EXPECT_TRUE(resolver->Health().ok());
  // Logged once, not for each attempt.
  EXPECT_EQ(log_.CountOf("warn:"), 1);
  EXPECT_EQ(log_.CountOf("info:"), 1);
}

TEST_F(RedisBackendResolverTest, ReconnectsAfterARestart) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  for (int round = 0; round < 3; ++round) {
    redis->Kill();
    EXPECT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
              absl::StatusCode::kUnavailable);
    ASSERT_TRUE(redis->Restart().ok());
    Set(*redis, absl::StrCat("1.2.3.4:", round + 1));
    const std::string backend = absl::StrCat("1.2.3.4:", round + 1);
    EXPECT_TRUE(AwaitBackend(resolver.get(), backend + " " + backend));
  }
}

TEST_F(RedisBackendResolverTest, FailsAfterTheCommandTimeoutIfRedisHangs) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  options_.command_timeout = absl::Milliseconds(50);
  const auto resolver = MakeConnected(redis->tcp_address());
  redis->Pause();
  EXPECT_THAT(Resolution(resolver.get()).Await(),
              HasSubstr("UNAVAILABLE: Redis " + redis->tcp_address() +
                        " (backend key): no reply within 50ms"));
  redis->Resume();
  EXPECT_TRUE(AwaitBackend(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
}

TEST_F(RedisBackendResolverTest, DetectsAHangingRedisWithoutResolutions) {
  const auto redis = StartRedis();
  options_.command_timeout = absl::Milliseconds(50);
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(redis->tcp_address());
  redis->Pause();
  EXPECT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  redis->Resume();
  EXPECT_TRUE(AwaitHealthy(resolver.get()));
}

TEST_F(RedisBackendResolverTest, ResolutionsWaitForAConnectionAttempt) {
  // The test sends the reply to the first PING, which is the connection
  // attempt's.
  std::atomic<bool> is_first_ping{true};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] == "GET") {
      return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
    }
    if (command[0] == "PING" && is_first_ping.exchange(false)) {
      return ScriptedPeer::SayNothing();
    }
    return ScriptedPeer::Healthy(command);
  });
  const auto resolver = Make(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("PING") == 1; }));
  const Resolution resolution(resolver.get());
  peer.SayToAll("+PONG\r\n");
  EXPECT_EQ(resolution.Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, AResolutionShortensALongBackoff) {
  const ScriptedPeer peer([](const ScriptedPeer::Command&) {
    return ScriptedPeer::SayAndClose("-ERR max number of clients reached\r\n");
  });
  options_.reconnect_backoff_min = absl::Milliseconds(1);
  options_.reconnect_backoff_max = absl::Hours(1);
  const auto resolver = Make(peer.address());
  // Without resolutions the thirtieth attempt would take more than an hour.
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
              absl::StatusCode::kUnavailable);
    return peer.accepted_count() >= 30;
  }));
}

TEST_F(RedisBackendResolverTest, ManyResolutionsDoNotExceedTheRateOfAttempts) {
  const ScriptedPeer peer([](const ScriptedPeer::Command&) {
    return ScriptedPeer::SayAndClose("-ERR max number of clients reached\r\n");
  });
  options_.reconnect_backoff_min = absl::Milliseconds(50);
  const absl::Time before = absl::Now();
  const auto resolver = Make(peer.address());
  ASSERT_TRUE(AwaitTrue([&] {
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
              absl::StatusCode::kUnavailable);
    return peer.accepted_count() >= 5;
  }));
  // Jitter shortens the first wait by up to half.
  const double waits =
      absl::FDivDuration(absl::Now() - before, absl::Milliseconds(25));
  EXPECT_LE(peer.accepted_count(), waits + 1);
}

TEST_F(RedisBackendResolverTest, AnIncompleteReplyIsAFailure) {
  const std::string reply = ScriptedPeer::Bulk("1.2.3.4:5");
  for (size_t cut = 0; cut < reply.size(); ++cut) {
    const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
      if (command[0] != "GET") return ScriptedPeer::Healthy(command);
      return ScriptedPeer::SayAndClose(reply.substr(0, cut));
    });
    const auto resolver = MakeConnected(peer.address());
    EXPECT_THAT(Resolution(resolver.get()).Await(),
                HasSubstr("closed the connection"));
  }
}

TEST_F(RedisBackendResolverTest, SendsTheGetAgainIfTheConnectionCloses) {
  std::atomic<int> cuts{redis::internal::kGetsPerRequestMax - 1};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    if (cuts.fetch_sub(1) > 0) return ScriptedPeer::SayAndClose("$9\r\n");
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer.address());
  const Resolution resolution(resolver.get());
  EXPECT_EQ(resolution.Await(), kBackend);
  EXPECT_EQ(resolution.count(), 1);
  EXPECT_EQ(resolver->GetStats().questions_asked_again,
            redis::internal::kGetsPerRequestMax - 1u);
}

TEST_F(RedisBackendResolverTest, LimitsTheGetsOfAResolution) {
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::SayAndClose("");
  });
  const auto resolver = MakeConnected(peer.address());
  EXPECT_THAT(Resolution(resolver.get()).Await(),
              HasSubstr("closed the connection"));
  EXPECT_EQ(peer.command_count("GET"), redis::internal::kGetsPerRequestMax);
}

// Between two attempts after a loss.
TEST_F(RedisBackendResolverTest, ResolutionsWaitForTheReconnect) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.reconnect_backoff_min = absl::Milliseconds(100);
  options_.reconnect_backoff_max = absl::Milliseconds(100);
  const auto resolver = MakeConnected(redis.address());
  redis.CloseConnections();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  const Resolution resolution(resolver.get());
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  EXPECT_FALSE(resolution.is_done());
  clock_.Advance(absl::Milliseconds(100));
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));  // wakes the thread up
  EXPECT_EQ(resolution.Await(), kBackend);
}

// As after the server's or a proxy's limit for idle connections.
TEST_F(RedisBackendResolverTest, ReconnectsAtOnceIfAnIdleConnectionWasClosed) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.reconnect_backoff_min = absl::Minutes(1);
  options_.reconnect_backoff_max = absl::Minutes(1);
  options_.ping_interval = absl::Hours(1);
  const auto resolver = MakeConnected(redis.address());
  clock_.Advance(absl::Minutes(1));
  redis.CloseConnections();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
}

TEST_F(RedisBackendResolverTest, TheWaitForAReconnectEndsWithTheTimeout) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.reconnect_patience = absl::Minutes(1);
  options_.reconnect_backoff_min = absl::Seconds(30);
  options_.reconnect_backoff_max = absl::Seconds(30);
  const auto resolver = MakeConnected(redis.address());
  redis.CloseConnections();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_EQ(Resolution(resolver.get(), absl::Milliseconds(50)).AwaitCode(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RedisBackendResolverTest, TheWaitForAReconnectIsLimited) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.reconnect_patience = absl::Milliseconds(200);
  const auto resolver = MakeConnected(redis.address());
  redis.Disconnect();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
  // Later ones fail without that wait.
  redis.Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
}

TEST_F(RedisBackendResolverTest, StopsImmediatelyInEveryState) {
  {
    const ScriptedPeer silent([](const ScriptedPeer::Command&) {
      return ScriptedPeer::SayNothing();
    });
    auto resolver = Make(silent.address());
    ASSERT_TRUE(AwaitTrue([&] { return silent.command_count("PING") == 1; }));
    const Resolution resolution(resolver.get());
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax) << "no reply";
    EXPECT_FALSE(resolution.is_done());
  }
  {
    ScriptedPeer held(ScriptedPeer::Healthy);
    auto resolver = MakeConnected(held.address());
    const Resolution resolution(resolver.get());
    ASSERT_TRUE(AwaitTrue([&] { return held.command_count("GET") == 1; }));
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax) << "pending GET";
    EXPECT_FALSE(resolution.is_done());
  }
  {
    dns_.Hold();
    auto resolver = Make("redis.test:6379");
    ASSERT_TRUE(AwaitTrue([&] { return dns_.query_count("redis.test") > 0; }));
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax)
        << "pending lookup";
  }
  {
    options_.reconnect_backoff_min = absl::Hours(1);
    options_.reconnect_backoff_max = absl::Hours(1);
    auto resolver = Make(absl::StrCat("127.0.0.1:", test::FreeTcpPort()));
    ASSERT_TRUE(AwaitTrue([&] { return log_.CountOf("refused") > 0; }));
    EXPECT_LT(TimeToStop(std::move(resolver)), kStopTimeMax) << "back-off";
  }
}

// A listener whose backlog is full: the kernel drops further SYNs.
class FullListener {
 public:
  FullListener() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 0), 0);
    EXPECT_EQ(::getsockname(listener_.get(), generic, &size), 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
    for (internal::UniqueFd& filler : fillers_) {
      filler.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      ::connect(filler.get(), generic, size);
    }
  }
  const std::string& address() const { return address_; }

 private:
  internal::UniqueFd listener_;
  internal::UniqueFd fillers_[4];
  std::string address_;
};

TEST_F(RedisBackendResolverTest, AHangingConnectTimesOut) {
  const FullListener listener;
  options_.command_timeout = absl::Milliseconds(30);
  auto resolver = Make(listener.address());
  EXPECT_TRUE(AwaitTrue(
      [&] { return log_.CountOf("connect timed out after 30ms") == 1; }));
  options_.command_timeout = absl::Minutes(1);
  auto hanging = Make(listener.address());
  const Resolution resolution(hanging.get());
  EXPECT_FALSE(resolution.is_done());
  EXPECT_LT(TimeToStop(std::move(hanging)), kStopTimeMax);
}

// The timer of the connection to this port of 127.0.0.1 in /proc/net/tcp, see
// proc(5); "02" is keepalive. Empty if there is no such connection.
std::string TimerOfConnectionTo(uint16_t port) {
  const std::string remote = absl::StrCat(
      "0100007F:",
      absl::AsciiStrToUpper(absl::StrCat(absl::Hex(port, absl::kZeroPad4))));
  std::ifstream table("/proc/net/tcp");
  for (std::string line; std::getline(table, line);) {
    // Number, local and remote address, state, queues, timer:expiry.
    const std::vector<std::string> fields =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (fields.size() > 5 && fields[2] == remote && fields[3] == "01") {
      return fields[5].substr(0, fields[5].find(':'));
    }
  }
  return "";
}

TEST_F(RedisBackendResolverTest, EnablesTcpKeepalive) {
  const ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeConnected(peer.address());
  const auto address = SocketAddress::Parse(peer.address());
  ASSERT_TRUE(address.ok()) << address.status();
  // Until the last segment is acknowledged there is another timer.
  EXPECT_TRUE(
      AwaitTrue([&] { return TimerOfConnectionTo(address->port()) == "02"; }));
}

}  // namespace
}  // namespace udpgate
