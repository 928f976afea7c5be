// With a real redis-server, and with a peer that sends invalid replies.
#include "udpgate/redis/redis_disconnect_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::RedisServer;
using test::RedisServerOptions;
using test::ScriptedPeer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kChannel[] = "udp_gate:disconnect";
// The documented limit is 100 ms; the rest is for a busy machine.
constexpr absl::Duration kStopTimeMax = absl::Seconds(1);

// Records the calls of a handler: targets as text, errors as their code.
class Events {
 public:
  DisconnectSource::Handler Handler() {
    return [this](absl::StatusOr<DisconnectTarget> target) {
      internal::MutexLock lock(&mutex_);
      while (is_blocked_) changed_.Wait(&mutex_);
      texts_.push_back(target.ok()
                           ? target->ToString()
                           : absl::StatusCodeToString(target.status().code()));
    };
  }
  std::vector<std::string> texts() const {
    internal::MutexLock lock(&mutex_);
    return texts_;
  }
  bool Await(size_t count) const {
    return AwaitTrue([&] { return texts().size() >= count; });
  }
  // Blocks the handler.
  void Block() {
    internal::MutexLock lock(&mutex_);
    is_blocked_ = true;
  }
  void Unblock() {
    internal::MutexLock lock(&mutex_);
    is_blocked_ = false;
    changed_.SignalAll();
  }

 private:
  mutable internal::Mutex mutex_;
  internal::ConditionVariable changed_;
  bool is_blocked_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::string> texts_ ABSL_GUARDED_BY(mutex_);
};

class RedisDisconnectSourceTest : public ::testing::Test {
 protected:
  RedisDisconnectSourceTest() {
    lookup_ = *HostLookup::Create({});
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
  }

  std::shared_ptr<RedisDisconnectSource> Start(absl::string_view address) {
    options_.address = std::string(address);
    auto source = RedisDisconnectSource::Create(options_, lookup_);
    EXPECT_TRUE(source.ok()) << source.status();
    const absl::Status started = (*source)->Start(events_.Handler());
    EXPECT_TRUE(started.ok()) << started;
    return *std::move(source);
  }
  std::shared_ptr<RedisDisconnectSource> StartSubscribed(
      absl::string_view address) {
    auto source = Start(address);
    EXPECT_TRUE(AwaitHealthy(*source)) << source->Health();
    return source;
  }
  static bool AwaitHealthy(const RedisDisconnectSource& source) {
    return AwaitTrue([&] { return source.Health().ok(); });
  }
  static std::unique_ptr<RedisServer> StartRedis(
      RedisServerOptions options = {}) {
    auto redis = std::make_unique<RedisServer>(std::move(options));
    const absl::Status status = redis->Start();
    EXPECT_TRUE(status.ok()) << status;
    return redis;
  }
  static void Publish(const RedisServer& redis, absl::string_view payload) {
    const auto receivers =
        redis.Command({"PUBLISH", kChannel, std::string(payload)});
    ASSERT_TRUE(receivers.ok()) << receivers.status();
    EXPECT_EQ(*receivers, "1");
  }
  static absl::Duration TimeToStop(RedisDisconnectSource* source) {
    const absl::Time before = absl::Now();
    source->Stop();
    return absl::Now() - before;
  }

  // Declared before the sources, which call it.
  Events events_;
  test::LogCollector log_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
};

TEST_F(RedisDisconnectSourceTest, PassesPayloadsOnInOrder) {
  const auto redis = StartRedis();
  const auto source = StartSubscribed(redis->tcp_address());
  for (const absl::string_view payload :
       {absl::string_view("1.2.3.4:54321"), absl::string_view(" [::1]:5\n"),
        absl::string_view("54321"), absl::string_view("garbage"),
        absl::string_view(""), absl::string_view("\0\r\n$5\r\n", 7),
        absl::string_view("65536"), absl::string_view("1")}) {
    Publish(*redis, payload);
  }
  ASSERT_TRUE(events_.Await(8));
  EXPECT_THAT(events_.texts(),
              ElementsAre("1.2.3.4:54321", "[::1]:5", "54321",
                          "INVALID_ARGUMENT", "INVALID_ARGUMENT",
                          "INVALID_ARGUMENT", "INVALID_ARGUMENT", "1"));
  EXPECT_THAT(log_.lines(), ElementsAre("info: Redis " + redis->tcp_address() +
                                        " (disconnect channel): subscribed to "
                                        "channel \"udp_gate:disconnect\""));
}

TEST_F(RedisDisconnectSourceTest, ReportsALongPayloadAsInvalid) {
  const auto redis = StartRedis();
  const auto source = StartSubscribed(redis->tcp_address());
  Publish(*redis, std::string(4096, ' '));
  Publish(*redis, std::string(4095, ' ') + "7");
  Publish(*redis, std::string(4097, ' ') + "7");
  Publish(*redis, std::string(60000, 'x'));
  Publish(*redis, "8");
  ASSERT_TRUE(events_.Await(5));
  EXPECT_THAT(events_.texts(),
              ElementsAre("INVALID_ARGUMENT", "7", "INVALID_ARGUMENT",
                          "INVALID_ARGUMENT", "8"));
  EXPECT_EQ(log_.lines().size(), 1u);  // no reconnect
}

TEST_F(RedisDisconnectSourceTest, SubscribesAgainAfterAnOversizedPayload) {
  const auto redis = StartRedis();
  const auto source = StartSubscribed(redis->tcp_address());
  Publish(*redis, std::string(1 << 20, 'x'));
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("longer than") == 1; }));
  EXPECT_TRUE(AwaitHealthy(*source));
  Publish(*redis, "8");
  ASSERT_TRUE(events_.Await(2));
  EXPECT_THAT(events_.texts(), ElementsAre("INVALID_ARGUMENT", "8"));
  EXPECT_EQ(source->GetStats().gaps, 1u);
}

TEST_F(RedisDisconnectSourceTest, LogsInOverAUnixSocket) {
  RedisServerOptions server;
  server.unix_socket = true;
  server.username = "default";
  server.password = "secret";
  server.extra_arguments = {"--requirepass", "secret"};
  const auto redis = StartRedis(server);
  options_.username = "default";
  options_.password = "secret";
  options_.database = 2;  // channels belong to no database
  const auto source = StartSubscribed(redis->unix_address());
  Publish(*redis, "8");
  EXPECT_TRUE(events_.Await(1));
}

TEST_F(RedisDisconnectSourceTest, ReportsMissingPermissionToSubscribe) {
  const auto redis = StartRedis();
  ASSERT_TRUE(redis
                  ->Command({"ACL", "SETUSER", "gate", "on", "nopass", "~*",
                             "+@all", "resetchannels"})
                  .ok());
  options_.username = "gate";
  const auto source = Start(redis->tcp_address());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("NOPERM") == 1; }));
  EXPECT_FALSE(source->Health().ok());
  ASSERT_TRUE(redis->Command({"ACL", "SETUSER", "gate", "&*"}).ok());
  EXPECT_TRUE(AwaitHealthy(*source));
}

TEST_F(RedisDisconnectSourceTest, StartsWithoutRedisAndSubscribesLater) {
  RedisServer redis;
  const auto source = Start(redis.tcp_address());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("refused") == 1; }));
  EXPECT_FALSE(source->Health().ok());
  ASSERT_TRUE(redis.Start().ok());
  EXPECT_TRUE(AwaitHealthy(*source));
  Publish(redis, "8");
  EXPECT_TRUE(events_.Await(1));
  EXPECT_EQ(log_.CountOf("warn:"), 1);
}

TEST_F(RedisDisconnectSourceTest, SubscribesAgainAfterARestart) {
  const auto redis = StartRedis();
  const auto source = StartSubscribed(redis->tcp_address());
  for (size_t round = 1; round <= 3; ++round) {
    redis->Kill();
    EXPECT_TRUE(AwaitTrue([&] { return !source->Health().ok(); }));
    ASSERT_TRUE(redis->Restart().ok());
    EXPECT_TRUE(AwaitHealthy(*source));
    Publish(*redis, "8");
    EXPECT_TRUE(events_.Await(round));
  }
}

TEST_F(RedisDisconnectSourceTest, DetectsASilentPeer) {
  const auto redis = StartRedis();
  options_.command_timeout = absl::Milliseconds(50);
  options_.ping_interval = absl::Milliseconds(5);
  const auto source = StartSubscribed(redis->tcp_address());
  redis->Pause();
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("no reply within") == 1; }));
  EXPECT_FALSE(source->Health().ok());
  redis->Resume();
  EXPECT_TRUE(AwaitHealthy(*source));
  // The server may still count subscriptions from before it was paused.
  const auto receivers = redis->Command({"PUBLISH", kChannel, "8"});
  ASSERT_TRUE(receivers.ok()) << receivers.status();
  EXPECT_TRUE(events_.Await(1));
}

// A link that dies without a word: nothing is closed, and nothing arrives.
TEST_F(RedisDisconnectSourceTest, SaysWhichEventsMayBeLost) {
  const auto redis = StartRedis();
  options_.command_timeout = absl::Milliseconds(300);
  options_.ping_interval = absl::Milliseconds(200);
  const auto source = StartSubscribed(redis->tcp_address());
  EXPECT_TRUE(source->GetStats().is_subscribed);
  EXPECT_EQ(source->GetStats().gaps, 0u);
  const absl::Time paused = absl::Now();
  redis->Pause();
  ASSERT_TRUE(AwaitTrue([&] { return !source->Health().ok(); }));
  // The probe period and the time limit; the rest is for a busy machine.
  EXPECT_LT(absl::Now() - paused, absl::Milliseconds(500) + absl::Seconds(1));
  EXPECT_FALSE(source->GetStats().is_subscribed);
  const absl::Time lost = absl::Now();
  redis->Resume();
  ASSERT_TRUE(AwaitHealthy(*source));
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf("(disconnect channel): events between 20") == 1;
  }));
  EXPECT_EQ(source->GetStats().gaps, 1u);
  EXPECT_LE(source->GetStats().subscribed_age, absl::Now() - lost);
}

TEST_F(RedisDisconnectSourceTest, PingsASilentPeerAndKeepsOneThatReplies) {
  const ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    static std::atomic<int> pings{0};
    // The reply of Redis to a subscriber; the first PING is part of the login.
    if (command[0] == "PING" && pings.fetch_add(1) > 0) {
      return ScriptedPeer::Say("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    }
    return ScriptedPeer::Healthy(command);
  });
  options_.ping_interval = absl::Milliseconds(1);
  const auto source = StartSubscribed(peer.address());
  EXPECT_TRUE(AwaitTrue([&] { return peer.command_count("PING") >= 10; }));
  EXPECT_EQ(peer.accepted_count(), 1);
}

TEST_F(RedisDisconnectSourceTest, AnIncompleteReplyDoesNotExtendTheTimeLimit) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.command_timeout = absl::Milliseconds(20);
  options_.ping_interval = absl::Milliseconds(20);
  const auto source = StartSubscribed(peer.address());
  peer.SayToAll("$60000\r\n");
  EXPECT_TRUE(AwaitTrue([&] {
    peer.SayToAll("x");
    return peer.accepted_count() > 1;
  }));
}

// The reply to a PING arrives while the handler blocks for longer than the time
// limit of a command.
TEST_F(RedisDisconnectSourceTest, ASlowHandlerDoesNotEndTheConnection) {
  const std::string pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
  std::atomic<int> pings{0};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "PING") return ScriptedPeer::Healthy(command);
    switch (pings.fetch_add(1)) {
      case 0:
        return ScriptedPeer::Healthy(command);
      case 1:
        return ScriptedPeer::Say(ScriptedPeer::Message(kChannel, "8"));
      default:
        return ScriptedPeer::Say(pong);
    }
  });
  options_.command_timeout = absl::Milliseconds(200);
  options_.ping_interval = absl::Milliseconds(5);
  events_.Block();
  const auto source = StartSubscribed(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("PING") == 2; }));
  const absl::Time until = absl::Now() + absl::Milliseconds(250);
  ASSERT_TRUE(AwaitTrue([&] { return absl::Now() > until; }));
  EXPECT_TRUE(source->Health().ok());
  peer.SayToAll(pong);
  events_.Unblock();
  EXPECT_TRUE(AwaitTrue([&] { return peer.command_count("PING") >= 4; }));
  EXPECT_THAT(events_.texts(), ElementsAre("8"));
  EXPECT_EQ(peer.accepted_count(), 1);
  EXPECT_EQ(log_.CountOf("warn:"), 0);
}

TEST_F(RedisDisconnectSourceTest, StopWaitsForTheHandlerAndNoCallFollows) {
  const auto redis = StartRedis();
  const auto source = StartSubscribed(redis->tcp_address());
  events_.Block();
  for (int i = 1; i <= 100; ++i) Publish(*redis, absl::StrCat(i));
  std::atomic<bool> has_stopped{false};
  std::thread stopper([&] {
    source->Stop();
    has_stopped.store(true);
  });
  EXPECT_FALSE(has_stopped.load());
  events_.Unblock();
  stopper.join();
  const size_t count = events_.texts().size();
  ASSERT_TRUE(redis->Command({"PUBLISH", kChannel, "8"}).ok());
  EXPECT_EQ(events_.texts().size(), count);
  EXPECT_FALSE(source->Health().ok());
}

TEST_F(RedisDisconnectSourceTest, StopsImmediatelyInEveryState) {
  {
    const ScriptedPeer silent([](const ScriptedPeer::Command&) {
      return ScriptedPeer::SayNothing();
    });
    const auto source = Start(silent.address());
    ASSERT_TRUE(AwaitTrue([&] { return silent.command_count("PING") == 1; }));
    EXPECT_LT(TimeToStop(source.get()), kStopTimeMax) << "no reply";
  }
  {
    ScriptedPeer flooding(ScriptedPeer::Healthy);
    const auto source = StartSubscribed(flooding.address());
    std::string messages;
    for (int i = 0; i < 100; ++i) {
      messages += ScriptedPeer::Message(kChannel, "8");
    }
    std::atomic<bool> is_stopping{false};
    std::thread flood([&] {
      while (!is_stopping.load()) flooding.SayToAll(messages);
    });
    EXPECT_TRUE(events_.Await(1000));
    EXPECT_LT(TimeToStop(source.get()), kStopTimeMax) << "flood of messages";
    is_stopping.store(true);
    flood.join();
  }
}

TEST_F(RedisDisconnectSourceTest, StartsOnceAndStopsRepeatedly) {
  const ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.address = peer.address();
  const auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE((*source)->Health().ok());
  (*source)->Stop();
  ASSERT_TRUE((*source)->Start(events_.Handler()).ok());
  EXPECT_TRUE(AwaitHealthy(**source));
  EXPECT_EQ((*source)->Start(events_.Handler()).code(),
            absl::StatusCode::kFailedPrecondition);
  (*source)->Stop();
  (*source)->Stop();
}

// What a peer sends after SUBSCRIBE, or in place of the reply to it. Each ends
// the connection.
struct Said {
  const char* name;
  bool is_answer;
  const char* bytes;
  // The number of events reported.
  size_t invalid_count = 0;
};

class RedisSubscriberTest : public RedisDisconnectSourceTest,
                            public ::testing::WithParamInterface<Said> {};

TEST_P(RedisSubscriberTest, Reconnects) {
  std::atomic<bool> is_bad{true};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    ScriptedPeer::Action action = ScriptedPeer::Healthy(command);
    if (command[0] != "SUBSCRIBE" || !is_bad.exchange(false)) return action;
    if (GetParam().is_answer) action.bytes.clear();
    action.bytes += GetParam().bytes;
    return action;
  });
  const auto source = Start(peer.address());
  EXPECT_TRUE(AwaitTrue([&] { return peer.command_count("SUBSCRIBE") == 2; }));
  EXPECT_TRUE(AwaitHealthy(*source));
  // The reason, and the gap of a subscription that was lost.
  EXPECT_EQ(log_.CountOf("; retrying"), 1);
  EXPECT_EQ(log_.CountOf(" may be lost"), GetParam().is_answer ? 0 : 1);
  EXPECT_EQ(source->GetStats().gaps, GetParam().is_answer ? 0u : 1u);
  EXPECT_EQ(events_.texts(), std::vector<std::string>(GetParam().invalid_count,
                                                      "INVALID_ARGUMENT"));
}

INSTANTIATE_TEST_SUITE_P(
    All, RedisSubscriberTest,
    ::testing::Values(
        Said{"Error", true, "-NOAUTH Authentication required.\r\n"},
        Said{"NoArray", true, "+OK\r\n"}, Said{"Nil", true, "*-1\r\n"},
        Said{"ShortArray", true, "*1\r\n$9\r\nsubscribe\r\n"},
        Said{"NoPayload", false, "*1\r\n$7\r\nmessage\r\n"},
        Said{"NumberAsPayload", false,
             "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:5\r\n"},
        Said{"NilAsPayload", false,
             "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$-1\r\n"},
        Said{"OtherMessage", false,
             "*4\r\n$8\r\npmessage\r\n$1\r\nc\r\n$1\r\nc\r\n$1\r\n5\r\n"},
        Said{"UnaskedError", false, "-ERR go away\r\n"},
        Said{"AbsurdLength", false, "*2000000000\r\n"},
        Said{"AbsurdPayload", false,
             "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2000000000\r\n", 1}),
    [](const ::testing::TestParamInfo<Said>& said) {
      return std::string(said.param.name);
    });

TEST_F(RedisDisconnectSourceTest, AnIncompleteMessageIsNotAnEvent) {
  const std::string message = ScriptedPeer::Message(kChannel, "54321");
  std::atomic<size_t> cut{1};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    ScriptedPeer::Action action = ScriptedPeer::Healthy(command);
    if (command[0] == "SUBSCRIBE" && cut.load() < message.size()) {
      action.bytes += message.substr(0, cut.fetch_add(1));
      action.close = true;
    }
    return action;
  });
  options_.reconnect_backoff_max = options_.reconnect_backoff_min;
  const auto source = Start(peer.address());
  EXPECT_TRUE(AwaitTrue(
      [&] { return cut.load() == message.size() && source->Health().ok(); }));
  EXPECT_TRUE(events_.texts().empty());
}

}  // namespace
}  // namespace udpgate
