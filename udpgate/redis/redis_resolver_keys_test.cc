// Several keys, and keys that depend on the client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/resolver_fixture.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::kBackend;
using test::kKey;
using test::kLongTimeout;
using test::kUnavailable;
using test::RedisBackendResolverTest;
using test::Resolution;
using test::ScriptedPeer;
using test::ScriptedRedis;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kTemplates[] = "udp_gate:backend:{client_ip} udp_gate:backend";

ResolveRequest From(absl::string_view client,
                    absl::Duration timeout = kLongTimeout) {
  ResolveRequest request;
  request.client = *SocketAddress::Parse(client);
  request.timeout = timeout;
  return request;
}

// The keys of the GETs that a peer has got.
std::vector<std::string> KeysOf(const ScriptedPeer& peer) {
  std::vector<std::string> keys;
  for (const ScriptedPeer::Command& command : peer.commands()) {
    if (command[0] == "GET") keys.push_back(command[1]);
  }
  return keys;
}

class RedisKeysTest : public RedisBackendResolverTest {
 protected:
  RedisKeysTest() { options_.backend_key = kTemplates; }
};

TEST_F(RedisKeysTest, TheFirstKeyThatExistsWins) {
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  Set(*redis, "10.0.0.1:1");
  Set(*redis, "10.0.0.2:2", "udp_gate:backend:1.2.3.4");
  const auto backend_of = [&](absl::string_view client) {
    return Resolution(resolver.get(), From(client)).Await();
  };
  EXPECT_EQ(backend_of("1.2.3.4:5"), "10.0.0.2:2 10.0.0.2:2");
  EXPECT_EQ(backend_of("1.2.3.4:6"), "10.0.0.2:2 10.0.0.2:2");
  EXPECT_EQ(backend_of("1.2.3.5:5"), "10.0.0.1:1 10.0.0.1:1");
  ASSERT_TRUE(redis->Command({"DEL", "udp_gate:backend:1.2.3.4"}).ok());
  EXPECT_EQ(backend_of("1.2.3.4:5"), "10.0.0.1:1 10.0.0.1:1");
  // A key that holds no backend is not passed over.
  Set(*redis, "nonsense", "udp_gate:backend:1.2.3.4");
  EXPECT_THAT(backend_of("1.2.3.4:5"),
              HasSubstr("INVALID_ARGUMENT: key \"udp_gate:backend:1.2.3.4\""));
  ASSERT_TRUE(redis->Command({"DEL", "udp_gate:backend:1.2.3.4"}).ok());
  ASSERT_TRUE(
      redis->Command({"LPUSH", "udp_gate:backend:1.2.3.4", "10.0.0.3:3"}).ok());
  EXPECT_THAT(backend_of("1.2.3.4:5"), HasSubstr("WRONGTYPE"));
  ASSERT_TRUE(redis->Command({"DEL", kKey}).ok());
  EXPECT_EQ(backend_of("1.2.3.5:5"),
            "NOT_FOUND: keys \"udp_gate:backend:1.2.3.5\", "
            "\"udp_gate:backend\" are missing");
  EXPECT_EQ(log_.CountOf("connected, backends come from keys "
                         "\"udp_gate:backend:{client_ip}\", "
                         "\"udp_gate:backend\""),
            1);
  EXPECT_EQ(log_.lines().size(), 1u);  // all on one connection
}

TEST_F(RedisKeysTest, AsksForAllKeysInOneRoundTrip) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeConnected(peer.address());
  const Resolution resolution(resolver.get(), From("1.2.3.4:5"));
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 2; }));
  EXPECT_THAT(KeysOf(peer),
              ElementsAre("udp_gate:backend:1.2.3.4", "udp_gate:backend"));
  // The result does not wait for the second reply, which belongs to nobody.
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.1:1"));
  EXPECT_EQ(resolution.Await(), "10.0.0.1:1 10.0.0.1:1");
  const Resolution next(resolver.get(), From("1.2.3.5:5"));
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 4; }));
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.2:2") + "$-1\r\n");
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.3:3"));
  EXPECT_EQ(next.Await(), "10.0.0.3:3 10.0.0.3:3");
  EXPECT_EQ(resolver->GetStats().gets_sent, 4u);
}

TEST_F(RedisKeysTest, ClientsWithTheSameKeysShareAQuestion) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  options_.gets_in_flight_max = 1;
  const auto resolver = MakeConnected(peer.address());
  const Resolution first(resolver.get(), From("1.1.1.1:1"));
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 2; }));
  std::vector<Resolution> twos;
  std::vector<Resolution> threes;
  for (int port = 1; port <= 50; ++port) {
    twos.emplace_back(resolver.get(), From(absl::StrCat("2.2.2.2:", port)));
    threes.emplace_back(resolver.get(), From(absl::StrCat("3.3.3.3:", port)));
  }
  // It has timed out, so the resolver has read all of them.
  EXPECT_EQ(Resolution(resolver.get(), From("2.2.2.2:1", absl::Milliseconds(1)))
                .AwaitCode(),
            absl::StatusCode::kDeadlineExceeded);
  const std::string none = "$-1\r\n";
  peer.SayToAll(none + ScriptedPeer::Bulk("10.0.0.1:1"));
  EXPECT_EQ(first.Await(), "10.0.0.1:1 10.0.0.1:1");
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 4; }));
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.2:2") + none);
  for (const Resolution& two : twos) {
    EXPECT_EQ(two.Await(), "10.0.0.2:2 10.0.0.2:2");
  }
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 6; }));
  for (const Resolution& three : threes) EXPECT_FALSE(three.is_done());
  peer.SayToAll(ScriptedPeer::Bulk("10.0.0.3:3") + none);
  for (const Resolution& three : threes) {
    EXPECT_EQ(three.Await(), "10.0.0.3:3 10.0.0.3:3");
    EXPECT_EQ(three.count(), 1);
  }
  EXPECT_EQ(peer.command_count("GET"), 6);
}

// What a stranger sends is an argument, and never a command.
TEST_F(RedisKeysTest, ADatagramCannotInjectACommand) {
  options_.backend_key = "{stun_ufrag} p:{prefix:32} k\xff{client_port}";
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  const std::string datagram =
      "\r\n*1\r\n$8\r\nFLUSHALL\r\n*2\r\n$3\r\nDEL\r\n";
  Set(*redis, "10.0.0.1:1",
      absl::StrCat("p:", absl::BytesToHexString(datagram.substr(0, 32))));
  Set(*redis, "10.0.0.2:2",
      "k\xff"
      "5");
  ResolveRequest request = From("1.2.3.4:5");
  request.first_datagram = datagram;
  EXPECT_EQ(Resolution(resolver.get(), request).Await(),
            "10.0.0.1:1 10.0.0.1:1");
  request.first_datagram = "short";
  EXPECT_EQ(Resolution(resolver.get(), request).Await(),
            "10.0.0.2:2 10.0.0.2:2");
  const auto count = redis->Command({"DBSIZE"});
  ASSERT_TRUE(count.ok());
  EXPECT_EQ(*count, "2");
  EXPECT_EQ(log_.lines().size(), 1u);  // still the first connection
}

TEST_F(RedisKeysTest, AClientWithoutAnyKeyHasNoBackend) {
  options_.backend_key = "{stun_ufrag}";
  const auto redis = StartRedis();
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get(), From("1.2.3.4:5")).Await(),
            "NOT_FOUND: no key can be filled in for this client");
  EXPECT_EQ(resolver->GetStats().gets_sent, 0u);
  EXPECT_EQ(resolver->GetStats().questions_waiting, 0u);
}

// A stranger's failure neither delays other clients nor makes the gateway
// unready.
TEST_F(RedisKeysTest, APauseAfterAFailureIsOfTheSameKeysAlone) {
  options_.clock = &clock_;
  options_.failure_pause = absl::Milliseconds(100);
  options_.backend_key = "b:{client_ip}";
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5", "b:1.1.1.1");
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get(), From("9.9.9.9:9")).AwaitCode(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(resolver->Health().ok()) << resolver->Health();
  // The same client waits for the end of the pause, with the time standing
  // still.
  const Resolution retry(resolver.get(), From("9.9.9.9:9"));
  EXPECT_EQ(Resolution(resolver.get(), From("1.1.1.1:1")).Await(), kBackend);
  EXPECT_FALSE(retry.is_done());
  EXPECT_EQ(resolver->GetStats().gets_sent, 2u);
  // One whose timeout ends before does not wait.
  EXPECT_EQ(
      Resolution(resolver.get(), From("9.9.9.9:9", options_.failure_pause))
          .AwaitCode(),
      absl::StatusCode::kNotFound);
  Set(*redis, "1.2.3.4:5", "b:9.9.9.9");
  clock_.Advance(options_.failure_pause);
  EXPECT_EQ(retry.Await(), kBackend);
  EXPECT_EQ(resolver->GetStats().gets_sent, 3u);
}

TEST_F(RedisKeysTest, GivesEachClientTheLastBackendOfItsOwnKeys) {
  options_.stale_backend_age_max = absl::Hours(1);
  options_.reconnect_patience = absl::ZeroDuration();
  const auto redis = StartRedis();
  Set(*redis, "10.0.0.1:1", "udp_gate:backend:1.1.1.1");
  Set(*redis, "10.0.0.2:2", "udp_gate:backend:2.2.2.2");
  const auto resolver = MakeConnected(redis->tcp_address());
  const auto backend_of = [&](absl::string_view client) {
    return Resolution(resolver.get(), From(client)).Await();
  };
  EXPECT_EQ(backend_of("1.1.1.1:1"), "10.0.0.1:1 10.0.0.1:1");
  EXPECT_EQ(backend_of("2.2.2.2:1"), "10.0.0.2:2 10.0.0.2:2");
  redis->Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_EQ(backend_of("1.1.1.1:2"), "10.0.0.1:1 10.0.0.1:1");
  EXPECT_EQ(backend_of("2.2.2.2:2"), "10.0.0.2:2 10.0.0.2:2");
  EXPECT_EQ(Resolution(resolver.get(), From("3.3.3.3:1")).AwaitCode(),
            kUnavailable);
  EXPECT_EQ(resolver->GetStats().stale_answers, 2u);
}

TEST_F(RedisKeysTest, ForgetsTheOldestKeysAtTheLimit) {
  options_.stale_backend_age_max = absl::Hours(1);
  options_.key_sets_max = 2;
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  const auto resolver = MakeConnected(redis->tcp_address());
  for (const char* client :
       {"1.1.1.1:1", "2.2.2.2:1", "1.1.1.1:2", "3.3.3.3:1"}) {
    EXPECT_EQ(Resolution(resolver.get(), From(client)).Await(), kBackend);
  }
  EXPECT_EQ(resolver->GetStats().key_sets, 2u);
  EXPECT_EQ(resolver->GetStats().key_sets_forgotten, 1u);
  redis->Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_EQ(Resolution(resolver.get(), From("1.1.1.1:1")).Await(), kBackend);
  EXPECT_EQ(Resolution(resolver.get(), From("2.2.2.2:1")).AwaitCode(),
            kUnavailable);
}

// An error of Redis concerns all keys, and the health recovers without clients.
TEST_F(RedisKeysTest, AnErrorOfRedisIsAPauseForAllKeys) {
  options_.clock = &clock_;
  options_.failure_pause = absl::Milliseconds(100);
  std::atomic<bool> is_loading{true};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(is_loading.load()
                                 ? "-LOADING later\r\n"
                                 : ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer.address());
  EXPECT_EQ(Resolution(resolver.get(), From("1.1.1.1:1")).AwaitCode(),
            kUnavailable);
  EXPECT_THAT(resolver->Health().ToString(), HasSubstr("LOADING"));
  const Resolution other(resolver.get(), From("2.2.2.2:2"));
  EXPECT_EQ(
      Resolution(resolver.get(), From("3.3.3.3:3", options_.failure_pause))
          .AwaitCode(),
      kUnavailable);
  EXPECT_FALSE(other.is_done());
  EXPECT_EQ(resolver->GetStats().gets_sent, 2u);
  is_loading.store(false);
  clock_.Advance(options_.failure_pause);
  EXPECT_EQ(other.Await(), kBackend);
  EXPECT_TRUE(AwaitHealthy(resolver.get()));
}

TEST_F(RedisKeysTest, AsksAgainForTheSameKeysAfterALostConnection) {
  std::atomic<int> gets{0};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    // The first question's second GET ends the connection.
    if (++gets == 2) return ScriptedPeer::SayAndClose("");
    if (gets.load() == 1) return ScriptedPeer::Say("$-1\r\n");
    return ScriptedPeer::Say(absl::EndsWith(command[1], "1.1.1.1")
                                 ? "$-1\r\n"
                                 : ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer.address());
  const Resolution resolution(resolver.get(), From("1.1.1.1:1"));
  EXPECT_EQ(resolution.Await(), kBackend);
  EXPECT_EQ(resolution.count(), 1);
  EXPECT_THAT(KeysOf(peer),
              ElementsAre("udp_gate:backend:1.1.1.1", "udp_gate:backend",
                          "udp_gate:backend:1.1.1.1", "udp_gate:backend"));
  EXPECT_EQ(resolver->GetStats().questions_asked_again, 1u);
}

TEST_F(RedisKeysTest, TenThousandClientsWithKeysOfTheirOwn) {
  options_.gets_in_flight_max = 256;
  options_.backend_key = "b:{client_ip}:{client_port}";
  const auto redis = StartRedis();
  constexpr int kClients = 10'000;
  for (int i = 0; i < kClients; i += 1000) {
    std::vector<std::string> command = {"MSET"};
    for (int port = i + 1; port <= i + 1000; ++port) {
      command.push_back(absl::StrCat("b:1.1.1.1:", port));
      command.push_back(absl::StrCat("10.0.0.1:", port));
    }
    ASSERT_TRUE(redis->Command(command).ok());
  }
  const auto resolver = MakeConnected(redis->tcp_address());
  std::vector<Resolution> resolutions;
  for (int port = 1; port <= kClients; ++port) {
    resolutions.emplace_back(resolver.get(),
                             From(absl::StrCat("1.1.1.1:", port)));
  }
  for (int port = 1; port <= kClients; ++port) {
    const std::string backend = absl::StrCat("10.0.0.1:", port);
    ASSERT_EQ(resolutions[static_cast<size_t>(port - 1)].Await(),
              absl::StrCat(backend, " ", backend));
  }
  EXPECT_EQ(resolver->GetStats().gets_sent, static_cast<uint64_t>(kClients));
}

TEST_F(RedisKeysTest, TheKeysOfAllWhoWaitAreOneBatchOfTheRateLimit) {
  ScriptedRedis redis(ScriptedPeer::Bulk("1.2.3.4:5"));
  options_.clock = &clock_;
  options_.gets_per_second_max = 10;
  options_.gets_in_flight_max = 256;
  options_.backend_key = "b:{client_port}";
  const auto resolver = MakeConnected(redis.address());
  EXPECT_EQ(Resolution(resolver.get(), From("1.1.1.1:1")).Await(), kBackend);
  constexpr int kClients = 100;
  std::vector<Resolution> waiting;
  for (int i = 0; i < kClients; ++i) {
    waiting.emplace_back(resolver.get(), From(absl::StrCat("1.1.1.1:", 2 + i)));
  }
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  EXPECT_EQ(redis.gets(), 1);
  // 100 ms per batch.
  clock_.Advance(absl::Milliseconds(100));
  for (const Resolution& resolution : waiting) {
    EXPECT_EQ(resolution.Await(), kBackend);
  }
  EXPECT_EQ(redis.gets(), 1 + kClients);
}

TEST_F(RedisKeysTest, RejectsAnUnknownPlaceholder) {
  options_.backend_key = "b:{client}";
  const absl::Status status =
      RedisBackendResolver::Create(options_, lookup_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("RedisOptions::backend_key: the placeholders are "));
}

}  // namespace
}  // namespace udpgate
