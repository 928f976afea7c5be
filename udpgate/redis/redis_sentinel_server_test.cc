// A real master that is killed, its replica, and three real Sentinels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_sentinel.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::RedisServer;
using test::RedisServerOptions;
using test::Resolution;

// With down-after-milliseconds 1000.
constexpr absl::Duration kFailoverMax = absl::Seconds(3);
constexpr char kPassword[] = "sentinel-password";

class RedisSentinelServerTest : public test::RedisBackendResolverTest {
 protected:
  RedisSentinelServerTest() {
    master_ = StartRedis();
    Set(*master_, "1.2.3.4:5");
    RedisServerOptions replica;
    replica.extra_arguments = {"--replicaof", "127.0.0.1",
                               absl::StrCat(master_->port())};
    replica_ = StartRedis(replica);
    EXPECT_TRUE(AwaitTrue([&] { return Says(*master_, {"INFO"}, "online"); }));
    RedisServerOptions sentinel;
    sentinel.password = kPassword;
    sentinel.sentinel_configuration = absl::StrCat(
        "requirepass ", kPassword, "\nsentinel sentinel-pass ", kPassword,
        "\nsentinel monitor lobby 127.0.0.1 ", master_->port(),
        " 2\nsentinel down-after-milliseconds lobby 1000\n"
        "sentinel failover-timeout lobby 5000\n");
    for (auto& server : sentinels_) {
      server = StartRedis(sentinel);
      sentinel_options_.sentinels.push_back(server->tcp_address());
    }
    for (const auto& server : sentinels_) {
      EXPECT_TRUE(AwaitTrue([&] {
        return Says(*server, {"SENTINEL", "CKQUORUM", "lobby"},
                    "OK 3 usable") &&
               Says(*server, {"SENTINEL", "MASTER", "lobby"},
                    "num-other-sentinels\n2") &&
               Says(*server, {"SENTINEL", "REPLICAS", "lobby"}, "port");
      }));
    }
    sentinel_options_.master = "lobby";
    sentinel_options_.password = kPassword;
    sentinel_options_.log_sink = log_.Sink();
    auto sentinel_source = RedisSentinel::Create(sentinel_options_, lookup_);
    EXPECT_TRUE(sentinel_source.ok()) << sentinel_source.status();
    RedisSentinel::SetSource(*sentinel_source, &options_);
    // The defaults of the program.
    const RedisOptions defaults;
    options_.command_timeout = defaults.command_timeout;
    options_.reconnect_backoff_min = defaults.reconnect_backoff_min;
    options_.reconnect_backoff_max = defaults.reconnect_backoff_max;
  }

  static bool Says(const RedisServer& server,
                   const std::vector<std::string>& command,
                   const std::string& part) {
    const auto reply = server.Command(command);
    return reply.ok() && absl::StrContains(*reply, part);
  }

  std::unique_ptr<RedisServer> master_;
  std::unique_ptr<RedisServer> replica_;
  std::array<std::unique_ptr<RedisServer>, 3> sentinels_;
  RedisSentinelOptions sentinel_options_;
};

TEST_F(RedisSentinelServerTest, ServesNewClientsSoonAfterTheMasterIsKilled) {
  const auto resolver = MakeConnected(options_.address);
  EXPECT_EQ(Resolution(resolver.get()).Await(), test::kBackend);
  const auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok()) << source.status();
  std::atomic<int> events{0};
  ASSERT_TRUE((*source)
                  ->Start([&](absl::StatusOr<DisconnectTarget> target) {
                    if (target.ok()) ++events;
                  })
                  .ok());
  ASSERT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  const absl::Time killed = absl::Now();
  master_->Kill();
  EXPECT_TRUE(AwaitBackend(resolver.get(), test::kBackend));
  const absl::Duration time = absl::Now() - killed;
  EXPECT_LE(time, kFailoverMax) << ::testing::PrintToString(log_.lines());
  RecordProperty("milliseconds",
                 static_cast<int>(absl::ToInt64Milliseconds(time)));
  // The subscription has moved, too.
  EXPECT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  ASSERT_TRUE(
      replica_->Command({"PUBLISH", options_.disconnect_channel, "1.2.3.4:5"})
          .ok());
  EXPECT_TRUE(AwaitTrue([&] { return events == 1; }));
  (*source)->Stop();
}

}  // namespace
}  // namespace udpgate
