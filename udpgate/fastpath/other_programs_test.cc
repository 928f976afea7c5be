// NAT, filters and settings of the host, and a second gateway.
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/namespace_fixture.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::LoopbackPeer;

class OtherProgramsTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, OtherProgramsTest, AllVariants(), NameOf);

// With NAT, which the program would bypass, the tuples at the hook differ from
// those of the session, so nothing is relayed.
TEST_P(OtherProgramsTest, DestinationNatKeepsSessionsOnSockets) {
  StartAll();
  const std::string family = ipv6() ? "ip6" : "ip";
  gate_space_->Command(
      absl::StrCat("nft 'table ", family,
                   " t { chain c { type nat hook prerouting priority "
                   "-100; udp dport 19100 redirect to :19132; }; }'"));
  LoopbackPeer& peer = NewPeer();
  const SocketAddress translated = listen_.WithPort(19100);
  for (int i = 0; i < 50; ++i) {
    absl::StatusOr<std::string> reply = peer.Ask(translated, "hello");
    ASSERT_TRUE(reply.ok()) << reply.status();
  }
  EXPECT_TRUE(gate_->install_status().ok());
  EXPECT_EQ(gate_->from_clients(), 50);
  EXPECT_EQ(gate_->from_backend(), 50);
}

TEST_P(OtherProgramsTest, SourceNatKeepsSessionsOnSockets) {
  // An address that no socket uses by default.
  gate_space_->Command(
      "ip addr add 10.2.0.7/24 dev g2;"
      "ip addr add fd00:2::7/64 dev g2 nodad preferred_lft 0");
  StartAll();
  const std::string family = ipv6() ? "ip6" : "ip";
  gate_space_->Command(absl::StrCat(
      "nft 'table ", family,
      " t { chain c { type nat hook postrouting priority 100; oifname g2 snat "
      "to ",
      Ip("2", "7").IpToString(), "; }; }'"));
  LoopbackPeer& peer = NewPeer();
  ExpectOnSockets(peer, 50);
  EXPECT_TRUE(gate_->install_status().ok());
  EXPECT_EQ(backend_->sources()[0].IpToString(), Ip("2", "7").IpToString());
}

TEST_P(OtherProgramsTest, KeepsFiltersOfOtherPrograms) {
  gate_space_->Command("tc qdisc replace dev g1 clsact");
  // Both see each packet and match none.
  gate_space_->Command(
      "tc filter add dev g1 ingress pref 1 handle 1 bpf bytecode '1,6 0 0 0' "
      "flowid 1:1");
  gate_space_->Command(
      "tc filter add dev g1 ingress pref 30000 handle 1 bpf bytecode "
      "'1,6 0 0 0' flowid 1:1");
  const std::string before = gate_space_->Output(kFiltersOfG1);
  StartAll();
  EXPECT_TRUE(absl::StrContains(Log(), "filters after ours on g1")) << Log();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 10);
  // A link runs before all filters; our filter runs between the two.
  EXPECT_TRUE(absl::StrContains(
      Log(), HasLinks() ? "relayed: bpf, bpf" : "relayed: bpf\n"))
      << Log();
  EXPECT_EQ(absl::StrContains(gate_space_->Output(kFiltersOfG1), "udpgate_eth"),
            !HasLinks());
  TearDown();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), before);
}

TEST_P(OtherProgramsTest, TwoGatewaysShareAnInterface) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  std::unique_ptr<KernelFlowOffload> first = std::move(offload_);
  ASSERT_TRUE(Load().ok());
  const std::string filters = gate_space_->Output(kFiltersOfG1);
  EXPECT_EQ(absl::StrContains(filters, "handle 0x1 "), !HasLinks()) << filters;
  EXPECT_EQ(absl::StrContains(filters, "handle 0x2 "), !HasLinks()) << filters;
  ExpectRelayed(peer, 10);
  offload_.reset();
  ExpectRelayed(peer, 10);
  gate_.reset();
  first.reset();
}

TEST_P(OtherProgramsTest, ReportsAMissingInterface) {
  const absl::Status status = Load({"g1", "nonesuch"});
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "nonesuch")) << status;
  // The interface that was attached first is detached again.
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
}

TEST_P(OtherProgramsTest, RefusesAnInterfaceWithGroLists) {
  gate_space_->Command("ethtool -K g1 rx-gro-list on");
  const absl::Status status = Load();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(
      absl::StrContains(status.message(), "ethtool -K g1 rx-gro-list off"))
      << status;
  gate_space_->Command("ethtool -K g1 rx-gro-list off");
  EXPECT_TRUE(Load().ok());
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
