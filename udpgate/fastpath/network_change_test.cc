// Changes of routes, addresses and links withdraw the flows that they affect.
#include <string>

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
  EXPECT_EQ(offload_->withdrawn_by_changes(), 1u);
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

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
