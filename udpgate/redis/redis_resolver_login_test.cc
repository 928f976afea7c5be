// Addresses of Redis, login, and the password in logs and errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using redis::internal::Connection;
using test::AwaitTrue;
using test::kBackend;
using test::RedisBackendResolverTest;
using test::RedisServerOptions;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(RedisBackendResolverTest, UsesAUnixSocketAndADatabase) {
  RedisServerOptions server;
  server.tcp = false;
  server.unix_socket = true;
  const auto redis = StartRedis(server);
  options_.database = 3;
  options_.backend_key = "other_key";
  ASSERT_TRUE(redis->Command({"SET", "other_key", "1.2.3.4:1"}).ok());
  ASSERT_TRUE(redis->Command({"MOVE", "other_key", "3"}).ok());
  const auto resolver = MakeConnected(redis->unix_address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.2.3.4:1 1.2.3.4:1");
}

TEST_F(RedisBackendResolverTest, ResolvesTheHostNameOfRedis) {
  dns_.Set("redis.test", {"127.0.0.1"});
  const auto redis = StartRedis();
  Set(*redis, "1.2.3.4:5");
  const auto resolver =
      MakeConnected(absl::StrCat("redis.test:", redis->port()));
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, TriesEachAddressOfTheHostName) {
  dns_.Set("redis.test", {"127.0.0.9", "127.0.0.1"});  // no server at the first
  const auto redis = StartRedis();
  MakeConnected(absl::StrCat("redis.test:", redis->port()));
}

TEST_F(RedisBackendResolverTest, LogsThatTheHostNameIsUnknown) {
  const auto resolver = Make("missing.test:6379");
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf(
        "warn: Redis missing.test:6379 (backend key): host "
        "\"missing.test\"");
  }));
}

TEST_F(RedisBackendResolverTest, LogsInWithAPassword) {
  RedisServerOptions server;
  server.password = "se\"cret\r\n*1";
  server.extra_arguments = {"--requirepass", server.password};
  const auto redis = StartRedis(server);
  Set(*redis, "1.2.3.4:5");
  options_.password = server.password;
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
}

TEST_F(RedisBackendResolverTest, LogsInAsAUserWithPermissionForGetOnly) {
  const auto redis = StartRedis();
  ASSERT_TRUE(
      redis->Command({"ACL", "SETUSER", "gate", "on", ">secret", "~*", "+get"})
          .ok());
  Set(*redis, "1.2.3.4:5");
  options_.username = "gate";
  options_.password = "secret";
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(redis->tcp_address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.2.3.4:5 1.2.3.4:5");
  ASSERT_TRUE(redis->Command({"ACL", "SETUSER", "gate", "-get"}).ok());
  EXPECT_THAT(Resolution(resolver.get()).Await(),
              HasSubstr("FAILED_PRECONDITION"));
}

TEST_F(RedisBackendResolverTest, ReportsAFailedLoginWithoutThePassword) {
  RedisServerOptions server;
  server.password = "right";
  server.extra_arguments = {"--requirepass", "right"};
  const auto redis = StartRedis(server);
  for (const char* password : {"", "wrong-secret"}) {
    options_.password = password;
    const auto resolver = Make(redis->tcp_address());
    const std::string kind = *password == 0 ? "NOAUTH" : "WRONGPASS";
    EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf(kind) == 1; }));
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
              absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(resolver->Health().code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_THAT(log_.lines(), Each(Not(HasSubstr("wrong-secret"))));
}

TEST_F(RedisBackendResolverTest, NeverShowsAPasswordQuotedByThePeer) {
  // The whole password, and truncated as Redis quotes an unknown command.
  const std::function<std::string(const std::string&)> answers[] = {
      [](const std::string& password) { return "-ERR " + password; },
      [](const std::string& password) {
        return "-ERR unknown command 'AUTH', with args beginning with: '" +
               password.substr(0, 8) + "'";
      },
      [](const std::string& password) { return "-" + password; }};
  options_.password = "wrong-secret";
  for (const auto& answer : answers) {
    const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
      return ScriptedPeer::Say(answer(command.back()) + "\r\n");
    });
    const auto resolver = Make(peer.address());
    EXPECT_TRUE(AwaitTrue([&] {
      return log_.CountOf(peer.address() + " (backend key): login rejected");
    }));
    EXPECT_THAT(Resolution(resolver.get()).Await(), Not(HasSubstr("wrong-")));
    EXPECT_THAT(resolver->Health().ToString(), Not(HasSubstr("wrong-")));
  }
  EXPECT_THAT(log_.lines(), Each(Not(HasSubstr("wrong-"))));
}

TEST_F(RedisBackendResolverTest,
       AnUnexpectedReplyDuringLoginEndsTheConnection) {
  for (const char* bytes : {":1\r\n", "*1\r\n$4\r\nPING\r\n", "$-1\r\n",
                            "-LOADING later\r\n", "-DENIED mode\r\n", "\n"}) {
    const ScriptedPeer peer(
        [&](const ScriptedPeer::Command&) { return ScriptedPeer::Say(bytes); });
    const auto resolver = Make(peer.address());
    EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() >= 2; })) << bytes;
    EXPECT_FALSE(resolver->Health().ok()) << bytes;
  }
}

// Two servers on one port; a host name has the address of either.
class MovedRedisTest : public RedisBackendResolverTest {
 protected:
  MovedRedisTest() {
    HostLookupOptions lookup_options;
    lookup_options.dns_servers = dns_.address();
    lookup_options.success_cache_time = absl::ZeroDuration();
    lookup_ = *HostLookup::Create(lookup_options);
    dns_.Set("redis.test", {"127.0.0.1"});
  }

  std::string address() const {
    return absl::StrCat("redis.test:", down_.port());
  }

  ScriptedPeer down_{[](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say("-MASTERDOWN Link with MASTER is down\r\n");
  }};
  ScriptedPeer up_{[](const ScriptedPeer::Command& command) {
                     if (command[0] != "GET") {
                       return ScriptedPeer::Healthy(command);
                     }
                     return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
                   },
                   "127.0.0.2", down_.port()};
};

TEST_F(MovedRedisTest, LooksTheNameUpAgainIfTheMasterIsDown) {
  const auto resolver = MakeConnected(address());
  EXPECT_THAT(Resolution(resolver.get()).Await(), HasSubstr("MASTERDOWN"));
  dns_.Set("redis.test", {"127.0.0.2"});
  EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
  EXPECT_EQ(down_.accepted_count(), 1);
  EXPECT_GE(log_.CountOf("the host name has another address now"), 1);
}

TEST_F(MovedRedisTest, TriesAnotherAddressOfTheName) {
  const auto resolver = MakeConnected(address());
  dns_.Set("redis.test", {"127.0.0.1", "127.0.0.2"});
  EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
}

TEST_F(MovedRedisTest, KeepsTheConnectionIfTheAddressIsTheSame) {
  const auto resolver = MakeConnected(address());
  const absl::Time begin = absl::Now();
  const absl::Time end = begin + 1.5 * Connection::kAddressCheckInterval;
  int count = 0;
  while (absl::Now() < end) {
    EXPECT_THAT(Resolution(resolver.get()).Await(), HasSubstr("MASTERDOWN"));
    ++count;
  }
  EXPECT_GT(count, 2);
  EXPECT_EQ(down_.accepted_count(), 1);
  // One to connect, and one per interval.
  EXPECT_LE(dns_.query_count("redis.test"),
            2 + static_cast<int>((absl::Now() - begin) /
                                 Connection::kAddressCheckInterval));
}

}  // namespace
}  // namespace udpgate
