// Changes of routes, addresses, links and routers withdraw the flows that they
// affect.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/namespace_fixture.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::AwaitTrue;
using test::LoopbackPeer;
using test::NetworkNamespace;

class NetworkChangeTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, NetworkChangeTest, AllVariants(), NameOf);

TEST_P(NetworkChangeTest, RouteChangeWithdrawsAffectedFlows) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  gate_space_->Command(ipv6() ? "ip route add fd00:77::/64 dev g1"
                              : "ip route add 10.77.0.0/16 dev g1");
  // Changes are reported in order: once the second one is handled, the first
  // one was too.
  ExpectRelayed(peer, 10);
  EXPECT_FALSE(gate_->IsWithdrawn(peer.address()));
  gate_space_->Command(ipv6() ? "ip route add fd00:1::2/128 dev g1"
                              : "ip route add 10.1.0.2/32 dev g1");
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  EXPECT_TRUE(AwaitTrue([&] { return offload_->withdrawn_by_changes() == 1; }));
  ExpectOnSockets(peer, 10);
  ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
  Promote(peer);
  ExpectRelayed(peer, 10);
}

TEST_P(NetworkChangeTest, RemovedAddressWithdrawsAllFlows) {
  gate_space_->Command(
      "ip link add other type dummy || ip link add other type "
      "veth peer name unused; ip link set other up");
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  GiveAddresses(*gate_space_, "other", "88", "1");
  ExpectRelayed(peer, 10);
  EXPECT_FALSE(gate_->IsWithdrawn(peer.address()));
  gate_space_->Command("ip addr flush dev other");
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  ExpectOnSockets(peer, 10);
}

TEST_P(NetworkChangeTest, AttachesAgainToARecreatedInterface) {
  ASSERT_TRUE(Load({"g1", "g2"}).ok());
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  gate_space_->Command("ip link del g2");
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  EXPECT_THAT(offload_->AttachedInterfaces(), ::testing::ElementsAre("g1"));
  NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
  GiveAddresses(*gate_space_, "g2", "2", "1");
  GiveAddresses(*backend_space_, "b0", "2", "2");
  ASSERT_TRUE(
      AwaitTrue([&] { return offload_->AttachedInterfaces().size() == 2; }));
  // The link comes up in several steps, each of which withdraws the flows.
  ASSERT_TRUE(AwaitTrue([&] {
    return peer.Ask(gate_->address(), "again", absl::Milliseconds(50)).ok() &&
           gate_->Reinstall(peer.address()).ok();
  })) << Describe();
  while (peer.TryReceive().ok()) {
  }
  Promote(peer);
  ExpectRelayed(peer, 10);
}

// The backend is behind a router with two addresses on the link of g2.
class NextHopTest : public NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    GiveAddresses(*backend_space_, "b0", "2", "3");
    GiveAddresses(*backend_space_, "lo", "9", "2");
    // The second address must not leave with the first one.
    backend_space_->Command(
        "echo 1 > /proc/sys/net/ipv4/conf/b0/promote_secondaries");
  }

  std::string Family() const { return ipv6() ? "ip -6" : "ip -4"; }
  std::string Router(const std::string& host) const {
    return Ip("2", host).IpToString();
  }
  std::string Via(const std::string& host) const {
    return absl::StrCat(" via ", Router(host), " dev g2 ");
  }
  // Adds or replaces the route to the backend.
  void Route(const std::string& what) {
    gate_space_->Command(absl::StrCat(Family(), " route replace ",
                                      ipv6() ? "fd00:9::/64 " : "10.9.0.0/24 ",
                                      what));
  }
  LoopbackPeer& PromoteOne() {
    EXPECT_TRUE(Load().ok());
    StartBackend(*backend_space_, Ip("9", "2"));
    StartGate();
    LoopbackPeer& peer = NewPeer();
    Promote(peer);
    ExpectRelayed(peer, 10);
    return peer;
  }
  void ExpectWithdrawn(LoopbackPeer& peer) {
    ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
    ExpectOnSockets(peer, 10);
  }
  // Expects that the session uses the router's second address after the
  // change: the first one no longer exists.
  void ExpectRelayedBySecondRouter(LoopbackPeer& peer) {
    ExpectWithdrawn(peer);
    backend_space_->Command(absl::StrCat("ip addr del ", Router("2"),
                                         ipv6() ? "/64" : "/24", " dev b0"));
    gate_space_->Command(Family() + " neigh flush dev g2");
    ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
    Promote(peer);
    ExpectRelayed(peer, 10);
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, NextHopTest, AllVariants(), NameOf);

TEST_P(NextHopTest, ChangedRouterOnTheSameInterfaceWithdraws) {
  Route(Via("2"));
  LoopbackPeer& peer = PromoteOne();
  Route(Via("3"));
  ExpectRelayedBySecondRouter(peer);
}

TEST_P(NextHopTest, ChangedNextHopObjectWithdraws) {
  gate_space_->Command(absl::StrCat("ip nexthop add id 1", Via("2")));
  Route("nhid 1");
  LoopbackPeer& peer = PromoteOne();
  gate_space_->Command(absl::StrCat("ip nexthop replace id 1", Via("3")));
  ExpectRelayedBySecondRouter(peer);
}

TEST_P(NextHopTest, ChangedMultipathRouteWithdraws) {
  Route(absl::StrCat("nexthop", Via("2"), "nexthop", Via("3")));
  LoopbackPeer& peer = PromoteOne();
  Route(Via("3"));
  ExpectRelayedBySecondRouter(peer);
}

// The kernel may prefer another router then.
TEST_P(NextHopTest, FailedRouterWithdraws) {
  Route(Via("2"));
  LoopbackPeer& peer = PromoteOne();
  gate_space_->Command(absl::StrCat(Family(), " neigh replace ", Router("3"),
                                    " dev g2 nud failed"));
  gate_space_->Command(absl::StrCat(Family(), " neigh change ",
                                    ClientAddress().IpToString(),
                                    " dev g1 nud failed"));
  ExpectRelayed(peer, 10);
  EXPECT_FALSE(gate_->IsWithdrawn(peer.address()));
  gate_space_->Command(absl::StrCat(Family(), " neigh change ", Router("2"),
                                    " dev g2 nud failed"));
  ExpectWithdrawn(peer);
  EXPECT_TRUE(AwaitTrue([&] { return offload_->withdrawn_by_changes() == 1; }));
}

class Ipv6RouterTest : public NextHopTest {};
INSTANTIATE_TEST_SUITE_P(Variants, Ipv6RouterTest, Ipv4Variants(), NameOf);

// RFC 5549.
TEST_P(Ipv6RouterTest, RelaysIpv4ByAnIpv6Router) {
  Route("via inet6 fd00:2::2 dev g2");
  LoopbackPeer& peer = PromoteOne();
  Route("via inet6 fd00:2::3 dev g2");
  ExpectWithdrawn(peer);
  ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
  Promote(peer);
  ExpectRelayed(peer, 10);
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
