// A Redis whose name or role changes while it still replies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::Resolution;
using test::ScriptedPeer;

// Two servers on one port of two addresses, for one name.
class MovingRedisTest : public test::RedisBackendResolverTest {
 protected:
  MovingRedisTest() {
    HostLookupOptions lookup_options;
    lookup_options.dns_servers = dns_.address();
    lookup_options.success_cache_time = absl::ZeroDuration();
    lookup_ = *HostLookup::Create(lookup_options);
    options_.clock = &clock_;
    options_.command_timeout = absl::Minutes(1);
    options_.ping_interval = absl::Hours(1);
    dns_.Set("redis.test", {"127.0.0.1"});
  }

  std::string address() const {
    return absl::StrCat("redis.test:", first_.port());
  }
  // Lets the time pass in steps, until `condition` or for so long.
  bool AwaitWithin(absl::Duration limit, RedisBackendResolver* resolver,
                   const std::function<bool()>& condition) {
    for (absl::Duration passed; passed < limit; passed += absl::Seconds(1)) {
      clock_.Advance(absl::Seconds(1));
      EXPECT_TRUE(AwaitAllQueued(resolver));  // wakes the thread up
      // The lookup and the new connection take real time.
      absl::SleepFor(absl::Milliseconds(5));
      if (condition()) return true;
    }
    return AwaitTrue(condition);
  }
  ScriptedPeer::Action Reply(const ScriptedPeer::Command& command,
                             absl::string_view backend) {
    if (command[0] == "GET") {
      return ScriptedPeer::Say(ScriptedPeer::Bulk(backend));
    }
    return ScriptedPeer::Healthy(command);
  }

  std::atomic<bool> is_replica_{false};
  std::atomic<bool> closes_at_info_{false};
  ScriptedPeer first_{[this](const ScriptedPeer::Command& command) {
    if (command[0] == "INFO" && closes_at_info_) {
      return ScriptedPeer::SayAndClose("");
    }
    if (command[0] == "INFO" && is_replica_) {
      return ScriptedPeer::Say(
          ScriptedPeer::Bulk("# Replication\r\nrole:slave\r\n"));
    }
    return Reply(command, "1.1.1.1:1");
  }};
  ScriptedPeer second_{[this](const ScriptedPeer::Command& command) {
                         return Reply(command, "2.2.2.2:2");
                       },
                       "127.0.0.2", first_.port()};
};

TEST_F(MovingRedisTest, FollowsTheNameThoughTheOldServerReplies) {
  const auto resolver = MakeConnected(address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.1.1.1:1 1.1.1.1:1");
  dns_.Set("redis.test", {"127.0.0.2"});
  EXPECT_TRUE(AwaitWithin(absl::Minutes(1), resolver.get(),
                          [&] { return second_.accepted_count() == 1; }));
  EXPECT_TRUE(AwaitBackend(resolver.get(), "2.2.2.2:2 2.2.2.2:2"));
  EXPECT_EQ(log_.CountOf("the host name has another address than 127.0.0.1"),
            1);
}

TEST_F(MovingRedisTest, StaysWhileTheNameHasTheAddressAmongOthers) {
  const auto resolver = MakeConnected(address());
  dns_.Set("redis.test", {"127.0.0.2", "127.0.0.1"});
  const int before = dns_.query_count("redis.test");
  EXPECT_TRUE(AwaitWithin(absl::Minutes(2), resolver.get(), [&] {
    return dns_.query_count("redis.test") >= before + 5;
  }));
  EXPECT_EQ(first_.accepted_count(), 1);
  EXPECT_EQ(second_.accepted_count(), 0);
}

TEST_F(MovingRedisTest, LeavesAMasterThatHasBecomeAReplica) {
  const auto resolver = MakeConnected(address());
  ASSERT_TRUE(AwaitWithin(absl::Minutes(1), resolver.get(),
                          [&] { return first_.command_count("INFO") > 0; }));
  // The reply to GET follows that to INFO.
  EXPECT_EQ(Resolution(resolver.get()).Await(), "1.1.1.1:1 1.1.1.1:1");
  dns_.Set("redis.test", {"127.0.0.2"});
  is_replica_ = true;
  EXPECT_TRUE(AwaitWithin(absl::Seconds(20), resolver.get(),
                          [&] { return second_.accepted_count() == 1; }));
  EXPECT_TRUE(AwaitBackend(resolver.get(), "2.2.2.2:2 2.2.2.2:2"));
  EXPECT_EQ(log_.CountOf("has become a replica, and the host name has another "
                         "address now"),
            1);
}

TEST_F(MovingRedisTest, LeavesARealServerThatIsDemoted) {
  const auto redis = StartRedis();
  Set(*redis, "1.1.1.1:1");
  const ScriptedPeer promoted(
      [this](const ScriptedPeer::Command& command) {
        return Reply(command, "2.2.2.2:2");
      },
      "127.0.0.2", redis->port());
  const auto resolver =
      MakeConnected(absl::StrCat("redis.test:", redis->port()));
  // The first role is known.
  ASSERT_TRUE(AwaitWithin(absl::Seconds(20), resolver.get(), [&] {
    const auto clients = redis->Command({"CLIENT", "LIST"});
    return clients.ok() && absl::StrContains(*clients, "cmd=info");
  }));
  dns_.Set("redis.test", {"127.0.0.2"});
  ASSERT_TRUE(redis->Command({"REPLICAOF", "127.0.0.1", "1"}).ok());
  EXPECT_TRUE(AwaitWithin(absl::Seconds(20), resolver.get(),
                          [&] { return promoted.accepted_count() == 1; }));
  EXPECT_EQ(log_.CountOf("has become a replica"), 1);
}

// It was chosen as it is.
TEST_F(MovingRedisTest, StaysAtAServerThatHasAlwaysBeenAReplica) {
  is_replica_ = true;
  dns_.Set("redis.test", {"127.0.0.1"});
  const auto resolver = MakeConnected(address());
  dns_.Set("redis.test", {"127.0.0.1", "127.0.0.2"});
  EXPECT_TRUE(AwaitWithin(absl::Minutes(2), resolver.get(),
                          [&] { return first_.command_count("INFO") >= 4; }));
  EXPECT_EQ(first_.accepted_count(), 1);
}

TEST_F(MovingRedisTest, AsksAProxyThatClosesAtInfoOnlyOnce) {
  closes_at_info_ = true;
  const auto resolver = MakeConnected(address());
  ASSERT_TRUE(AwaitWithin(absl::Minutes(1), resolver.get(), [&] {
    return first_.accepted_count() == 2 && resolver->Health().ok();
  }));
  const int before = dns_.query_count("redis.test");
  EXPECT_TRUE(AwaitWithin(absl::Minutes(2), resolver.get(), [&] {
    return dns_.query_count("redis.test") >= before + 4;
  }));
  EXPECT_EQ(first_.command_count("INFO"), 1);
  EXPECT_EQ(first_.accepted_count(), 2);
}

}  // namespace
}  // namespace udpgate
