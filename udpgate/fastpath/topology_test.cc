// Where client, gateway and backend are: each combination is relayed.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/internal/layout.h"
#include "udpgate/fastpath/namespace_fixture.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::AwaitTrue;
using test::LoopbackPeer;

class TopologyTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, TopologyTest, AllVariants(), NameOf);

TEST_P(TopologyTest, RelaysBothDirections) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Ask(peer, "first");
  Promote(peer);
  ExpectRelayed(peer, 100);
  ExpectRelayed(peer, 1, "");
}

// The backend's address belongs to the gateway's host, but not to lo.
TEST_P(TopologyTest, BackendOnTheGatewayHost) {
  ASSERT_TRUE(Load().ok());
  StartBackend(*gate_space_, Ip("2", "1"));
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 100);
}

TEST_P(TopologyTest, BackendOnLoopback) {
  ASSERT_TRUE(Load().ok());
  StartBackend(*gate_space_, Loopback(0));
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 100);
}

TEST_P(TopologyTest, EverythingOnLoopback) {
  listen_ = Loopback(19132);
  ASSERT_TRUE(Load().ok());
  StartBackend(*gate_space_, Loopback(0));
  StartGate();
  LoopbackPeer& peer = NewPeer(*gate_space_, Loopback(0));
  Promote(peer);
  ExpectRelayed(peer, 100);
  ExpectRelayed(peer, 3, std::string(20'000, 'x'));
}

TEST_P(TopologyTest, ClientOnTheGatewayHost) {
  ASSERT_TRUE(Load().ok());
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  LoopbackPeer& peer = NewPeer(*gate_space_, Ip("1", "1"));
  Promote(peer);
  ExpectRelayed(peer, 100);
}

TEST_P(TopologyTest, ClientAndBackendBehindTheSameInterface) {
  GiveAddresses(*client_space_, "c0", "1", "3");
  ASSERT_TRUE(Load().ok());
  StartBackend(*client_space_, Ip("1", "3"));
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 100);
}

TEST_P(TopologyTest, WildcardListenerAttachesToAllInterfaces) {
  listen_ =
      ipv6() ? SocketAddress::Ipv6Any(19132) : SocketAddress::Ipv4Any(19132);
  ASSERT_TRUE(Load().ok());
  EXPECT_THAT(offload_->AttachedInterfaces(),
              ::testing::UnorderedElementsAre("lo", "g1", "g2"));
}

// Nothing is added to an interface that carries datagrams, which would lose
// some of them before kernel 6.6.
TEST_P(TopologyTest, AttachesToInterfacesOfRoutesAtTheStart) {
  for (const std::string name : {"g3", "g4"}) {
    gate_space_->Command(absl::StrCat(
        "ip link add ", name, " type veth peer name of_", name,
        "; ip link set ", name, " up; ip link set of_", name, " up"));
  }
  GiveAddresses(*gate_space_, "g3", "3", "1");
  ASSERT_TRUE(Load().ok());
  EXPECT_THAT(offload_->AttachedInterfaces(),
              ::testing::UnorderedElementsAre("lo", "g1", "g2", "g3"));
  const std::string qdiscs = gate_space_->Output("tc qdisc show");
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 10);
  EXPECT_EQ(gate_space_->Output("tc qdisc show"), qdiscs);
  EXPECT_EQ(Log(), "");
}

TEST_P(TopologyTest, AttachesToNoMoreInterfacesAtTheStartThanTheLimit) {
  KernelFlowOffload::Options options = MakeOptions();
  options.interfaces_at_start_max = 2;
  offload_ = NewOffload(options);
  EXPECT_THAT(offload_->AttachedInterfaces(),
              ::testing::UnorderedElementsAre("lo", "g1"));
  EXPECT_TRUE(absl::StrContains(Log(), "1 interfaces of routes get")) << Log();
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  NewPeer();
  // A datagram that g2 sends while it gets the program may be lost.
  ASSERT_TRUE(AwaitTrue([&] {
    (void)peers_[0]->Ask(gate_->address(), "first", absl::Milliseconds(50));
    return offload_->AttachedInterfaces().size() == 3;
  })) << Describe();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 10);
}

// The program is attached to the VLAN's interface, where the kernel has removed
// the tag, and to the one below it, where it passes tagged frames up.
TEST_P(TopologyTest, ClientBehindAVlan) {
  const std::string made = client_space_->Output(
      "ip link add link c0 name c0.5 type vlan id 5 2>&1");
  if (!made.empty()) GTEST_SKIP() << "the kernel has no VLANs: " << made;
  gate_space_->Command("ip link add link g1 name g1.5 type vlan id 5");
  client_space_->Command("ip addr flush dev c0; ip link set c0.5 up");
  gate_space_->Command("ip addr flush dev g1; ip link set g1.5 up");
  GiveAddresses(*client_space_, "c0.5", "1", "2");
  GiveAddresses(*gate_space_, "g1.5", "1", "1");
  ASSERT_TRUE(Load({"g1", "g1.5", "g2"}).ok());
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const uint64_t tagged = offload_->PassedUp()[UDPGATE_TAGGED];
  ExpectRelayed(peer, 100);
  // A few more if the hosts ask for each other's link address meanwhile.
  const uint64_t passed_up = offload_->PassedUp()[UDPGATE_TAGGED] - tagged;
  EXPECT_GE(passed_up, 100u);
  EXPECT_LE(passed_up, 110u);
}

TEST_P(TopologyTest, AThousandSessions) {
  constexpr int kClients = 1000;
  StartAll();
  for (int i = 0; i < kClients; ++i) NewPeer();
  for (const auto& peer : peers_) ASSERT_NO_FATAL_FAILURE(Promote(*peer));
  const int from_clients = gate_->from_clients();
  const int from_backend = gate_->from_backend();
  const uint64_t there = gate_->Total(FlowDirection::kFromClient).datagrams;
  const uint64_t back = gate_->Total(FlowDirection::kFromBackend).datagrams;
  const size_t received = backend_->received_count();
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < peers_.size(); ++i) {
      Ask(*peers_[i], absl::StrCat("client ", i));
    }
  }
  EXPECT_EQ(gate_->from_clients(), from_clients);
  EXPECT_EQ(gate_->from_backend(), from_backend);
  EXPECT_EQ(gate_->Total(FlowDirection::kFromClient).datagrams - there,
            3 * kClients);
  EXPECT_EQ(gate_->Total(FlowDirection::kFromBackend).datagrams - back,
            3 * kClients);
  EXPECT_EQ(backend_->received_count() - received, 3u * kClients);
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
