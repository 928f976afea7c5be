#include <sys/resource.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "testing/simulated_clock.h"
#include "udpgate/cidr.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_options.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

TEST(ProxySessionLimitTest, DescriptorLimitBoundsSessions) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  auto proxy = Proxy::Create(LoopbackOptions(), FixedBackend());
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EXPECT_GT((*proxy)->max_sessions(), 0);
  EXPECT_LT((*proxy)->max_sessions(), static_cast<int64_t>(limit.rlim_cur));
}

TEST(ProxySessionLimitTest, LowestOfThreeLimitsAppliesAndIsReported) {
  using Cause = SessionLimit::Cause;
  const auto limit_of = [](const ProxyOptions& options) {
    auto proxy = Proxy::Create(options, FixedBackend());
    EXPECT_TRUE(proxy.ok()) << proxy.status();
    return (*proxy)->session_limit();
  };
  rlimit descriptors;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
  ProxyOptions options = LoopbackOptions();
  options.relay_ports = {40001, 40002, 40003};
  EXPECT_EQ(limit_of(options).sessions_max, 3);
  EXPECT_EQ(limit_of(options).cause, Cause::kSourcePorts);
  // Each bind address can use every port.
  options.upstream_bind_addresses = {SocketAddress::Ipv4Loopback(0),
                                     *SocketAddress::Parse("127.0.0.2:0")};
  EXPECT_EQ(limit_of(options).sessions_max, 6);
  EXPECT_EQ(limit_of(options).cause, Cause::kSourcePorts);
  options.limits.max_sessions = 5;
  EXPECT_EQ(limit_of(options).sessions_max, 5);
  EXPECT_EQ(limit_of(options).cause, Cause::kSetting);
  // A reserve of descriptors is kept, whatever the setting is.
  options.relay_ports.clear();
  for (uint16_t port = 1024; port < 65535; ++port) {
    options.relay_ports.push_back(port);
  }
  rlimit few = descriptors;
  few.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  options.limits.max_sessions = 1'000'000;
  EXPECT_EQ(limit_of(options).cause, Cause::kDescriptors);
  EXPECT_GT(limit_of(options).sessions_max, 500);
  EXPECT_LE(limit_of(options).sessions_max, 1000 - 192);
  // The same applies to SetLimits.
  options.limits.max_sessions = 10;
  auto proxy = Proxy::Create(options, FixedBackend());
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EXPECT_EQ((*proxy)->max_sessions(), 10);
  options.limits.max_sessions = 1'000'000;
  ASSERT_TRUE((*proxy)->SetLimits(options.limits).ok());
  EXPECT_EQ((*proxy)->session_limit().cause, Cause::kDescriptors);
  EXPECT_LE((*proxy)->max_sessions(), 1000 - 192);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
}

using ProxyLimitsTest = ProxyTest;

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyLimitsTest, AllThreadCounts(),
                         NameOf);

TEST_P(ProxyLimitsTest, SetLimitsAppliesToNewClientsAndIdleSessions) {
  Start();
  LoopbackPeer first, second, third;
  EXPECT_EQ(Ask(first, "one"), "echo:one");
  ProxyLimits limits;
  limits.max_sessions = 1;
  ASSERT_TRUE(proxy_->SetLimits(limits).ok());
  EXPECT_EQ(proxy_->max_sessions(), 1);
  limits.backend_refusals_max = 0;
  limits.max_sessions = 5;
  const absl::Status refused = proxy_->SetLimits(limits);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(proxy_->max_sessions(), 1);
  limits = ProxyLimits();
  limits.deny_cidrs = *ParseCidrList("127.0.0.0/8");
  limits.session_idle_timeout = absl::Milliseconds(50);
  ASSERT_TRUE(proxy_->SetLimits(limits).ok());
  ASSERT_TRUE(second.Send(proxy_->listen_addresses().front(), "two").ok());
  EXPECT_TRUE(AwaitDropped(DropReason::kDenied, 1));
  // The session began with a longer idle timeout.
  EXPECT_TRUE(AwaitEnded(EndReason::kIdle, 1));
  ASSERT_TRUE(proxy_->SetLimits(ProxyLimits()).ok());
  EXPECT_EQ(Ask(third, "three"), "echo:three");
}

TEST_P(ProxyLimitsTest, UnconfirmedSessionsPerIpAreLimitedAcrossShards) {
  options_.limits.max_unconfirmed_sessions_per_ip = 3;
  Start();
  std::vector<LoopbackPeer> clients(3);
  for (LoopbackPeer& client : clients) EXPECT_EQ(Ask(client, "1"), "echo:1");
  LoopbackPeer late;
  Send(late, "refused");
  EXPECT_TRUE(AwaitDropped(DropReason::kUnconfirmedLimitPerIp, 1));
  ProxyLimits limits = options_.limits;
  limits.max_unconfirmed_sessions_per_ip = 0;
  ASSERT_TRUE(proxy_->SetLimits(limits).ok());
  EXPECT_EQ(Ask(late, "2"), "echo:2");
}

}  // namespace
}  // namespace test
}  // namespace udpgate
