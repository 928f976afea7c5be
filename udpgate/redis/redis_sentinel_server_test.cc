// A real master that is killed, its replica, and three real Sentinels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/strings/str_split.h"
#include "testing/internal/support/redis_sentinels.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_sentinel.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::Resolution;

// With down-after-milliseconds 1000.
constexpr absl::Duration kFailoverMax = absl::Seconds(3);
constexpr char kPassword[] = "sentinel-password";

class RedisSentinelServerTest : public test::RedisBackendResolverTest {
 protected:
  RedisSentinelServerTest() : group_(GroupOptions()) {
    const absl::Status started = group_.Start();
    EXPECT_TRUE(started.ok()) << started;
    Set(group_.master(), "1.2.3.4:5");
    EXPECT_TRUE(group_.master().Command({"WAIT", "1", "5000"}).ok());
    sentinel_options_.sentinels = absl::StrSplit(group_.addresses(), ',');
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

  static test::RedisSentinelsOptions GroupOptions() {
    test::RedisSentinelsOptions options;
    options.master_name = "lobby";
    options.sentinel_password = kPassword;
    return options;
  }

  test::RedisSentinels group_;
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
  group_.master().Kill();
  EXPECT_TRUE(AwaitBackend(resolver.get(), test::kBackend));
  const absl::Duration time = absl::Now() - killed;
  EXPECT_LE(time, kFailoverMax) << ::testing::PrintToString(log_.lines());
  RecordProperty("milliseconds",
                 static_cast<int>(absl::ToInt64Milliseconds(time)));
  // The subscription has moved, too.
  EXPECT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  ASSERT_TRUE(
      group_.replica()
          .Command({"PUBLISH", options_.disconnect_channel, "1.2.3.4:5"})
          .ok());
  EXPECT_TRUE(AwaitTrue([&] { return events == 1; }));
  (*source)->Stop();
}

}  // namespace
}  // namespace udpgate
