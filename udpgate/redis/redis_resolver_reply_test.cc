// What the key may hold, and what Redis may reply to a GET.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::kBackend;
using test::kFailedPrecondition;
using test::kKey;
using test::kLongTimeout;
using test::kUnavailable;
using test::RedisBackendResolverTest;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::HasSubstr;

TEST_F(RedisBackendResolverTest, ReadsTheKeyForEachResolution) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  Set(*redis, " 10.0.0.5:19132\n");
  EXPECT_EQ(Resolution(resolver.get()).Await(),
            "10.0.0.5:19132 10.0.0.5:19132");
  Set(*redis, "[fd00::5]:1");
  EXPECT_EQ(Resolution(resolver.get()).Await(), "[fd00::5]:1 [fd00::5]:1");
  EXPECT_EQ(log_.CountOf("info: Redis " + redis->tcp_address() +
                         " (backend key): connected, backends come from key "
                         "\"udp_gate:backend\""),
            1);
  EXPECT_EQ(log_.lines().size(), 1u);
}

TEST_F(RedisBackendResolverTest, LooksUpTheNameInTheKey) {
  dns_.Set("lobby.test", {"10.0.0.7"});
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  Set(*redis, "lobby.test:19132");
  EXPECT_EQ(Resolution(resolver.get()).Await(),
            "10.0.0.7:19132 lobby.test:19132");
  Set(*redis, "missing.test:19132");
  EXPECT_THAT(Resolution(resolver.get()).Await(), HasSubstr("NOT_FOUND"));
}

TEST_F(RedisBackendResolverTest, ReportsAnInvalidKey) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get()).Await(),
            "NOT_FOUND: key \"udp_gate:backend\" is missing");
  for (const std::string& value :
       {std::string(), std::string(" \n"), std::string("garbage"),
        std::string("1.2.3.4"), std::string("1.2.3.4:0"),
        std::string("\0\xff\r\n*3\r\n", 8), std::string(60000, 'x')}) {
    Set(*redis, value);
    EXPECT_THAT(Resolution(resolver.get()).Await(),
                HasSubstr("INVALID_ARGUMENT: key \"udp_gate:backend\""));
  }
  ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  ASSERT_TRUE(redis->Command({"LPUSH", kKey, "1.2.3.4:5"}).ok());
  EXPECT_THAT(
      Resolution(resolver.get()).Await(),
      HasSubstr("INVALID_ARGUMENT: key \"udp_gate:backend\": Redis " +
                redis->tcp_address() + " (backend key): replied \"WRONGTYPE"));
  // All on one connection.
  EXPECT_EQ(log_.lines().size(), 1u);
  ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  Set(*redis, "1.2.3.4:5");
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, RejectsAValueOfOneMegabyte) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  Set(*redis, std::string(1 << 20, 'x'));
  EXPECT_THAT(Resolution(resolver.get()).Await(),
              HasSubstr("INVALID_ARGUMENT: key \"udp_gate:backend\""));
  Set(*redis, "1.2.3.4:5");
  EXPECT_TRUE(AwaitBackend(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
}

TEST_F(RedisBackendResolverTest, HealthFollowsTheLastReplyAndRecovers) {
  const auto redis = StartRedis();
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(resolver->Health().code(), absl::StatusCode::kNotFound);
  Set(*redis, "1.2.3.4:5");
  EXPECT_TRUE(AwaitHealthy(resolver.get()));  // without a resolution
}

// A reply to GET, and the result of the resolution.
struct ReplyCase {
  const char* name;
  std::string bytes;
  absl::StatusCode code;
  const char* text;
  bool is_connection_kept;
};

class RedisReplyTest : public RedisBackendResolverTest,
                       public ::testing::WithParamInterface<ReplyCase> {};

TEST_P(RedisReplyTest, FailsTheResolutionAndRecovers) {
  std::atomic<bool> is_bad{true};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(is_bad.load() ? GetParam().bytes
                                           : ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer.address());
  const Resolution resolution(resolver.get());
  EXPECT_EQ(resolution.AwaitCode(), GetParam().code) << resolution.Await();
  EXPECT_THAT(resolution.Await(), HasSubstr(GetParam().text));
  // Otherwise it may have reconnected already.
  if (GetParam().is_connection_kept) {
    EXPECT_FALSE(resolver->Health().ok());
  }
  is_bad.store(false);
  EXPECT_TRUE(AwaitBackend(resolver.get(), "1.2.3.4:5 1.2.3.4:5"));
  EXPECT_TRUE(resolver->Health().ok());
  if (GetParam().is_connection_kept) {
    EXPECT_EQ(peer.accepted_count(), 1);
  } else {
    EXPECT_GE(peer.accepted_count(), 2);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RedisReplyTest,
    ::testing::Values(
        ReplyCase{"Loading", "-LOADING Redis is loading the dataset\r\n",
                  kUnavailable, "LOADING Redis is", true},
        ReplyCase{"ReadOnly", "-READONLY You can't write\r\n", kUnavailable,
                  "READONLY", true},
        ReplyCase{"NoAuth", "-NOAUTH Authentication required.\r\n",
                  kFailedPrecondition, "NOAUTH", false},
        ReplyCase{"NoPerm", "-NOPERM no\r\n", kFailedPrecondition, "NOPERM",
                  true},
        ReplyCase{"Moved", "-MOVED 1 10.0.0.1:6379\r\n", kFailedPrecondition,
                  "MOVED", true},
        ReplyCase{"Error", "-ERR \x01\xff\r\n", kFailedPrecondition,
                  "ERR \\x01\\xff", true},
        ReplyCase{"LongError", "-" + std::string(60000, 'e') + "\r\n",
                  kFailedPrecondition, "eeee", true},
        ReplyCase{"Nil", "$-1\r\n", absl::StatusCode::kNotFound, "missing",
                  true},
        ReplyCase{"Integer", ":5\r\n", kUnavailable, "not a string", false},
        ReplyCase{"Status", "+OK\r\n", kUnavailable, "not a string", false},
        ReplyCase{"Array", "*1\r\n$1\r\na\r\n", kUnavailable, "not a string",
                  false},
        ReplyCase{"Message", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
                  kUnavailable, "unexpected pub/sub message", false},
        ReplyCase{"AbsurdArray", "*2000000000\r\n", kUnavailable,
                  "not valid Redis protocol", false},
        ReplyCase{"AbsurdString", "$2000000000\r\n",
                  absl::StatusCode::kInvalidArgument, "longer than", false},
        ReplyCase{"NotRedis", "HTTP/1.1 400 Bad Request\r\n\r\n", kUnavailable,
                  "not valid Redis protocol", false}),
    [](const ::testing::TestParamInfo<ReplyCase>& completed) {
      return std::string(completed.param.name);
    });

TEST_F(RedisBackendResolverTest, AHangingNameServerDelaysNoOtherResolution) {
  const auto redis = StartRedis();
  dns_.Hold();
  Set(*redis, "lobby.test:19132");
  const auto resolver = MakeConnected(redis->tcp_address());
  const Resolution hanging(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return dns_.query_count("lobby.test") == 1; }));
  Set(*redis, "1.2.3.4:5");
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  }
  EXPECT_FALSE(hanging.is_done());
  EXPECT_TRUE(resolver->Health().ok());
}

TEST_F(RedisBackendResolverTest, ReadsAReplyByteByByte) {
  const ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    return ScriptedPeer::SayByteByByte(
        command[0] == "GET" ? ScriptedPeer::Bulk("1.2.3.4:5")
                            : ScriptedPeer::Healthy(command).bytes);
  });
  const auto resolver = MakeConnected(peer.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, AnUnexpectedReplyEndsTheConnection) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeConnected(peer.address());
  peer.SayToAll(ScriptedPeer::Bulk("6.6.6.6:6"));
  EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() == 2; }));
}

TEST_F(RedisBackendResolverTest, AnIncompleteReplyDoesNotExtendTheTimeLimit) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.command_timeout = absl::Milliseconds(50);
  const auto resolver = MakeConnected(peer.address());
  const Resolution resolution(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 1; }));
  peer.SayToAll("$60000\r\n");
  EXPECT_TRUE(AwaitTrue([&] {
    peer.SayToAll("x");
    return resolution.is_done();
  }));
  EXPECT_THAT(resolution.Await(), HasSubstr("no reply within"));
}

TEST_F(RedisBackendResolverTest, ServesManyThreads) {
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  const auto resolver = MakeConnected(redis->tcp_address());
  constexpr int kThreads = 4;
  constexpr int kResolutions = 2000;
  std::atomic<int> completed{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < kResolutions; ++i) {
        ResolveRequest request;
        request.timeout = kLongTimeout;
        resolver->Resolve(request, [&](absl::StatusOr<ResolveResult> result) {
          if (result.ok()) completed.fetch_add(1);
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(
      AwaitTrue([&] { return completed.load() == kThreads * kResolutions; }));
}

TEST(RedisBackendResolverCreateTest, RejectsInvalidOptions) {
  RedisOptions options;
  options.address = "nowhere";
  const auto lookup = HostLookup::Create({});
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  EXPECT_EQ(RedisBackendResolver::Create(options, *lookup).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace udpgate
