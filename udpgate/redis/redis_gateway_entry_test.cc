// With a real redis-server, and with a peer that is slow or sends errors.
#include "udpgate/redis/redis_gateway_entry.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::RedisServer;
using test::ScriptedPeer;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

constexpr char kKey[] = "udp_gate:gateways";
constexpr char kHash[] = "{udp_gate:gateways}:gateway-1";

class RedisGatewayEntryTest : public ::testing::Test {
 protected:
  using Hash = std::map<std::string, std::string>;

  RedisGatewayEntryTest() {
    lookup_ = *HostLookup::Create({});
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
    entry_options_.key = kKey;
    entry_options_.id = "gateway-1";
    entry_options_.version = "1.2.3";
    entry_options_.interval = absl::Milliseconds(100);
    state_.address = "203.0.113.1:19132";
  }

  std::unique_ptr<RedisGatewayEntry> Start(absl::string_view address) {
    options_.address = std::string(address);
    auto entry = RedisGatewayEntry::Create(options_, entry_options_, lookup_);
    EXPECT_TRUE(entry.ok()) << entry.status();
    const absl::Status started = (*entry)->Start([this] {
      internal::MutexLock lock(&mutex_);
      return state_;
    });
    EXPECT_TRUE(started.ok()) << started;
    return *std::move(entry);
  }
  void SetState(const RedisGatewayState& state) {
    internal::MutexLock lock(&mutex_);
    state_ = state;
  }

  static Hash Read(const RedisServer& redis, absl::string_view key = kHash) {
    Hash hash;
    const auto reply = redis.Command({"HGETALL", std::string(key)});
    const std::vector<std::string> parts =
        absl::StrSplit(reply.value_or(""), '\n');
    for (size_t i = 0; i + 1 < parts.size(); i += 2) {
      hash[parts[i]] = parts[i + 1];
    }
    return hash;
  }
  static std::string Ids(const RedisServer& redis) {
    return redis.Command({"ZRANGE", kKey, "0", "-1"}).value_or("error");
  }
  static int64_t Integer(const absl::StatusOr<std::string>& reply) {
    int64_t value = 0;
    EXPECT_TRUE(absl::SimpleAtoi(reply.value_or("x"), &value));
    return value;
  }
  static bool AwaitWrites(const RedisGatewayEntry& entry, uint64_t count) {
    return AwaitTrue([&] { return entry.GetStats().writes >= count; });
  }

  test::LogCollector log_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
  RedisGatewayEntryOptions entry_options_;

  internal::Mutex mutex_;
  RedisGatewayState state_ ABSL_GUARDED_BY(mutex_);
};

class RedisGatewayEntryServerTest : public RedisGatewayEntryTest {
 protected:
  void SetUp() override { ASSERT_TRUE(redis_.Start().ok()); }

  RedisServer redis_;
};

TEST_F(RedisGatewayEntryServerTest, TheHashSaysWhatAnAutoscalerNeeds) {
  RedisGatewayState state;
  state.address = "203.0.113.1:19132";
  state.sessions = 12;
  state.sessions_pending = 3;
  state.sessions_confirmed = 9;
  state.sessions_max = 1000;
  state.is_draining = true;
  state.backends = {{SocketAddress::Ipv4Loopback(1), 7},
                    {SocketAddress::Ipv6Loopback(2), 4},
                    {SocketAddress::Ipv4Loopback(3), 1}};
  SetState(state);
  entry_options_.backends_max = 2;
  const auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*entry, 1));
  Hash hash = Read(redis_);
  EXPECT_NE(hash["instance"], "");
  hash.erase("instance");
  EXPECT_EQ(hash, (Hash{{"id", "gateway-1"},
                        {"address", "203.0.113.1:19132"},
                        {"version", "1.2.3"},
                        {"sessions", "12"},
                        {"sessions_pending", "3"},
                        {"sessions_confirmed", "9"},
                        {"sessions_max", "1000"},
                        {"new_sessions_per_second", "0.00"},
                        {"draining", "1"},
                        {"backends", "3"},
                        {"backend:127.0.0.1:1", "7"},
                        {"backend:[::1]:2", "4"},
                        {"backend:other", "1"}}));
  EXPECT_EQ(Ids(redis_), "gateway-1");
  EXPECT_TRUE(entry->GetStats().is_current);
}

TEST_F(RedisGatewayEntryServerTest, WhatIsNoLongerTrueIsGone) {
  RedisGatewayState state;
  state.backends = {{SocketAddress::Ipv4Loopback(1), 7}};
  SetState(state);
  const auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*entry, 1));
  EXPECT_THAT(Read(redis_), Contains(Pair("backend:127.0.0.1:1", "7")));
  SetState({});
  EXPECT_TRUE(AwaitTrue([&] {
    const Hash hash = Read(redis_);
    return !hash.empty() && hash.count("backend:127.0.0.1:1") == 0;
  }));
}

TEST_F(RedisGatewayEntryServerTest, HashAndIndexExpireByThemselves) {
  entry_options_.interval = absl::Milliseconds(200);
  entry_options_.lifetime = absl::Seconds(2);
  auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*entry, 1));
  for (const char* key : {kHash, kKey}) {
    const int64_t milliseconds = Integer(redis_.Command({"PTTL", key}));
    EXPECT_GT(milliseconds, 0) << key;
    EXPECT_LE(milliseconds, 2000) << key;
  }
  entry->Stop();
  EXPECT_EQ(Ids(redis_), "gateway-1");
  EXPECT_TRUE(AwaitTrue([&] {
    return Integer(redis_.Command({"EXISTS", kHash, kKey})) == 0;
  }));
}

TEST_F(RedisGatewayEntryServerTest, TheIndexForgetsWhoHasDied) {
  entry_options_.lifetime = absl::Seconds(1);
  auto first = Start(redis_.tcp_address());
  entry_options_.id = "gateway-2";
  auto second = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitTrue([&] { return Ids(redis_) == "gateway-1\ngateway-2"; }));
  first->Stop();
  EXPECT_TRUE(AwaitTrue([&] { return Ids(redis_) == "gateway-2"; }));
}

TEST_F(RedisGatewayEntryServerTest, ARemovedEntryIsGoneAtOnceAndStaysSo) {
  const auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*entry, 1));
  entry->Remove(test::kAwaitTimeout);
  EXPECT_EQ(Integer(redis_.Command({"EXISTS", kHash, kKey})), 0);
  EXPECT_FALSE(entry->GetStats().is_current);
  const uint64_t writes = entry->GetStats().writes;
  entry->Update();
  entry->Remove(test::kAwaitTimeout);
  entry->Stop();
  EXPECT_EQ(entry->GetStats().writes, writes);
  EXPECT_EQ(Integer(redis_.Command({"EXISTS", kHash, kKey})), 0);
}

TEST_F(RedisGatewayEntryServerTest, AnUpdateIsWrittenAtOnce) {
  entry_options_.interval = absl::Hours(1);
  entry_options_.lifetime = absl::Hours(3);
  const auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*entry, 1));
  RedisGatewayState state;
  state.is_draining = true;
  SetState(state);
  entry->Update();
  EXPECT_TRUE(AwaitTrue([&] { return Read(redis_)["draining"] == "1"; }));
}

TEST_F(RedisGatewayEntryServerTest, TheLastSessionOfADrainIsNoticed) {
  entry_options_.interval = absl::Hours(1);
  entry_options_.lifetime = absl::Hours(3);
  RedisGatewayState state;
  state.is_draining = true;
  state.sessions = 1;
  SetState(state);
  const auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*entry, 1));
  EXPECT_EQ(Read(redis_)["sessions"], "1");
  state.sessions = 0;
  SetState(state);
  EXPECT_TRUE(AwaitTrue([&] { return Read(redis_)["sessions"] == "0"; }));
}

TEST_F(RedisGatewayEntryServerTest, TheRateIsThatOfTheLastInterval) {
  RedisGatewayState state;
  const auto entry = Start(redis_.tcp_address());
  EXPECT_TRUE(AwaitTrue([&] {
    state.sessions_created += 10;
    SetState(state);
    return Read(redis_)["new_sessions_per_second"] > "1";
  }));
  EXPECT_TRUE(AwaitTrue(
      [&] { return Read(redis_)["new_sessions_per_second"] == "0.00"; }));
}

// As in a takeover: the old process writes until the new one has the sessions.
TEST_F(RedisGatewayEntryServerTest, TheLaterOneOfAnIdHasTheHash) {
  ASSERT_TRUE(redis_
                  .Command({"HSET", kHash, "instance", "0", "address", "old",
                            "new_sessions_per_second", "4.50"})
                  .ok());
  entry_options_.interval = absl::Milliseconds(500);
  auto old = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*old, 1));
  // A process without a rate of its own leaves that which is known.
  EXPECT_EQ(Read(redis_)["new_sessions_per_second"], "4.50");
  RedisGatewayState state;
  state.address = "203.0.113.2:19132";
  SetState(state);
  const auto later = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*later, 1));
  EXPECT_EQ(Read(redis_)["address"], "203.0.113.2:19132");
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("writes entry") >= 3; }));
  const uint64_t writes = old->GetStats().writes;
  EXPECT_EQ(Read(redis_)["address"], "203.0.113.2:19132");
  EXPECT_EQ(log_.CountOf("the gateway at 203.0.113.2:19132 writes entry "
                         "\"{udp_gate:gateways}:gateway-1\", too"),
            1);
  EXPECT_GE(old->GetStats().writes_refused, 2u);
  // Nor does the old one delete it.
  old->Remove(test::kAwaitTimeout);
  EXPECT_EQ(old->GetStats().writes, writes);
  EXPECT_EQ(Read(redis_)["address"], "203.0.113.2:19132");
}

TEST_F(RedisGatewayEntryServerTest, AfterAnOutageThereIsOneEntry) {
  auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitWrites(*entry, 1));
  redis_.Kill();
  const uint64_t writes = entry->GetStats().writes;
  ASSERT_TRUE(AwaitTrue([&] { return entry->GetStats().writes_skipped >= 3; }));
  EXPECT_EQ(entry->GetStats().writes, writes);
  ASSERT_TRUE(redis_.Restart().ok());
  ASSERT_TRUE(AwaitWrites(*entry, writes + 1));
  EXPECT_THAT(Read(redis_), Contains(Key("sessions")));
}

// Of the user, and inside of the script.
TEST_F(RedisGatewayEntryServerTest, AMissingPermissionIsSaidOnce) {
  options_.username = "gate";
  options_.password = "password";
  const auto allow = [this](const std::vector<std::string>& rules) {
    std::vector<std::string> command = {"ACL", "SETUSER", "gate"};
    command.insert(command.end(), rules.begin(), rules.end());
    EXPECT_TRUE(redis_.Command(command).ok());
  };
  allow({"on", ">password", "-@all", "+ping", "+info"});
  const auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitTrue([&] { return entry->GetStats().writes_refused >= 3; }));
  EXPECT_EQ(log_.CountOf("NOPERM"), 1);
  EXPECT_EQ(log_.CountOf("autoscalers do not see this gateway"), 1);
  allow({"~*", "+eval", "+hmget"});
  ASSERT_TRUE(AwaitTrue([&] {
    return log_.CountOf("autoscalers do not see this gateway") == 2;
  }));
  // What docs/redis.md grants.
  allow({"resetkeys", "~udp_gate:gateways", "~{udp_gate:gateways}:*", "+hset",
         "+hget", "+del", "+pexpire", "+time", "+zadd", "+zrem",
         "+zremrangebyscore"});
  ASSERT_TRUE(AwaitTrue([&] { return log_.CountOf("writes entry") == 1; }));
  entry->Remove(test::kAwaitTimeout);
  EXPECT_EQ(Integer(redis_.Command({"EXISTS", kHash, kKey})), 0);
}

TEST_F(RedisGatewayEntryServerTest, AReplicaIsSaidOnce) {
  ASSERT_TRUE(redis_.Command({"REPLICAOF", "127.0.0.1", "1"}).ok());
  const auto entry = Start(redis_.tcp_address());
  ASSERT_TRUE(AwaitTrue([&] { return entry->GetStats().writes_refused >= 3; }));
  EXPECT_EQ(log_.CountOf("READONLY"), 1);
  ASSERT_TRUE(redis_.Command({"REPLICAOF", "NO", "ONE"}).ok());
  EXPECT_TRUE(AwaitWrites(*entry, 1));
}

TEST_F(RedisGatewayEntryServerTest, AKeyOfAnotherTypeIsSaid) {
  ASSERT_TRUE(redis_.Command({"SET", kKey, "text"}).ok());
  const auto entry = Start(redis_.tcp_address());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("WRONGTYPE") == 1; }));
  // The hash is there, and expires.
  EXPECT_GT(Integer(redis_.Command({"PTTL", kHash})), 0);
  EXPECT_EQ(entry->GetStats().writes, 0u);
}

TEST_F(RedisGatewayEntryTest, AServerWithoutScriptsIsAskedOnceAPeriod) {
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    if (command[0] != "EVAL") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say("-ERR unknown command 'EVAL'\r\n");
  });
  const auto entry = Start(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return entry->GetStats().writes_refused >= 3; }));
  EXPECT_EQ(log_.CountOf("unknown command"), 1);
  EXPECT_EQ(log_.CountOf("by EVAL: autoscalers do not see"), 1);
  EXPECT_EQ(peer.accepted_count(), 1);
}

// twemproxy closes the connection at a command that it does not know.
TEST_F(RedisGatewayEntryTest, AProxyThatClosesIsAskedOnceAPeriod) {
  entry_options_.interval = absl::Hours(1);
  entry_options_.lifetime = absl::Hours(3);
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    if (command[0] != "EVAL") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::SayAndClose("");
  });
  const auto entry = Start(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return peer.accepted_count() == 3; }));
  entry->Stop();
  EXPECT_EQ(peer.command_count("EVAL"), 2);
}

TEST_F(RedisGatewayEntryTest, ASlowServerGetsNoSecondCommand) {
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    return command[0] == "EVAL" ? ScriptedPeer::SayNothing()
                                : ScriptedPeer::Healthy(command);
  });
  const auto entry = Start(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return entry->GetStats().writes_skipped >= 3; }));
  EXPECT_EQ(peer.command_count("EVAL"), 1);
  // What was wanted at once follows as soon as there is a reply.
  entry->Update();
  peer.SayToAll(":1\r\n");
  EXPECT_TRUE(AwaitTrue([&] { return peer.command_count("EVAL") == 2; }));
  EXPECT_EQ(entry->GetStats().writes, 1u);
}

TEST_F(RedisGatewayEntryTest, RemovingDoesNotWaitForAServerThatIsAway) {
  const auto entry = Start("127.0.0.1:1");
  entry->Remove(test::kAwaitTimeout);  // would take the test's time limit
  entry->Stop();
}

TEST_F(RedisGatewayEntryTest, ARepliesThatIsNoneEndsTheConnection) {
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    return command[0] == "EVAL" ? ScriptedPeer::Say("*0\r\n")
                                : ScriptedPeer::Healthy(command);
  });
  const auto entry = Start(peer.address());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("unexpected reply") >= 1; }));
  EXPECT_EQ(entry->GetStats().writes, 0u);
}

TEST(RedisGatewayEntryOptionsTest, NamesTheFieldAtFault) {
  const auto fault = [](void (*change)(RedisGatewayEntryOptions*)) {
    RedisGatewayEntryOptions options;
    options.key = "k";
    options.id = "i";
    EXPECT_TRUE(options.Validate().ok());
    change(&options);
    return OptionAtFault(options.Validate());
  };
  using Options = RedisGatewayEntryOptions;
  const std::string prefix = "RedisGatewayEntryOptions::";
  EXPECT_EQ(fault([](Options* options) { options->key = ""; }), prefix + "key");
  EXPECT_EQ(fault([](Options* options) { options->key = "a}"; }),
            prefix + "key");
  EXPECT_EQ(fault([](Options* options) { options->id = "a b"; }),
            prefix + "id");
  EXPECT_EQ(fault([](Options* options) { options->id = std::string(65, 'a'); }),
            prefix + "id");
  EXPECT_EQ(
      fault([](Options* options) { options->version = std::string(257, 'a'); }),
      prefix + "version");
  EXPECT_EQ(
      fault([](Options* options) { options->interval = absl::Seconds(0); }),
      prefix + "interval");
  EXPECT_EQ(
      fault([](Options* options) { options->lifetime = absl::Seconds(9); }),
      prefix + "lifetime");
  EXPECT_EQ(fault([](Options* options) { options->backends_max = 1001; }),
            prefix + "backends_max");
}

}  // namespace
}  // namespace udpgate
