// A firewall that drops what belongs to a connection.
#include <gtest/gtest.h>

#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::kBackend;
using test::RedisBackendResolverTest;
using test::Resolution;
using test::ScriptedPeer;

TEST_F(RedisBackendResolverTest, AFirewallThatForgetsTheConnectionFailsNobody) {
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  options_.command_timeout = absl::Seconds(2);
  options_.ping_interval = absl::Minutes(1);
  const auto resolver = MakeConnected(peer.address());
  if (!peer.StopHearing()) GTEST_SKIP() << "SO_ATTACH_FILTER is not permitted";
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(peer.accepted_count(), 2);
  EXPECT_EQ(resolver->GetStats().questions_asked_again, 1u);
  EXPECT_EQ(log_.CountOf("the network no longer delivers"), 1);
}

// A Redis that hangs acknowledges what it does not read: no new connection is
// tried for the resolution.
TEST_F(RedisBackendResolverTest, AHangingRedisIsNoDeadPath) {
  const auto redis = StartRedis();
  options_.command_timeout = absl::Milliseconds(500);
  const auto resolver = MakeConnected(redis->tcp_address());
  redis->Pause();
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), test::kUnavailable);
  EXPECT_EQ(log_.CountOf("no reply within 500ms"), 1);
  EXPECT_EQ(resolver->GetStats().questions_asked_again, 0u);
  redis->Resume();
}

}  // namespace
}  // namespace udpgate
