// Another offload, as in a new process, continues with the flows.
#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/namespace_fixture.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::AwaitTrue;
using test::LoopbackPeer;

class TakeoverTest : public NamespaceTest {
 protected:
  // An offload that can continue with the flows of `offload_`.
  std::unique_ptr<KernelFlowOffload> NewAdopting(
      KernelFlowOffload::Options options) {
    options.adopted = offload_->CopyDescriptors();
    EXPECT_FALSE(options.adopted.empty());
    return NewOffload(options);
  }
  // Hands the flows of `offload_` over to `new_offload`, and replaces it.
  void ReplaceOffload(std::unique_ptr<KernelFlowOffload> new_offload) {
    ASSERT_TRUE(new_offload->has_adopted()) << Log();
    ASSERT_TRUE(offload_->BeginHandOver());
    EXPECT_EQ(gate_->ContinueWith(new_offload.get()), 0);
    new_offload->StartAdopted();
    offload_->LetGo();
    offload_ = std::move(new_offload);
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, TakeoverTest, LinkVariants(), NameOf);

TEST_P(TakeoverTest, FlowsContinue) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  LoopbackPeer& other = NewPeer();
  Promote(other);
  // A slot in quarantine, and a removal that the old offload has not handled.
  ASSERT_TRUE(gate_->Reinstall(other.address()).ok());
  Promote(other);
  const uint64_t before = gate_->RelayedInAll().from_client.datagrams;
  for (int i = 0; i < 5; ++i) {
    auto new_offload = NewAdopting(MakeOptions());
    ExpectRelayed(peer, 100);
    ReplaceOffload(std::move(new_offload));
    ExpectRelayed(peer, 100);
    ExpectRelayed(other, 100);
  }
  EXPECT_EQ(gate_->RelayedInAll().from_client.datagrams - before, 1500u);
  // Longer than the lease.
  const absl::Time end = absl::Now() + absl::Milliseconds(2500);
  while (absl::Now() < end) ExpectRelayed(peer, 100);
  // New sessions can be installed, old ones removed and installed again.
  LoopbackPeer& new_peer = NewPeer();
  ASSERT_TRUE(AwaitTrue([&] {
    Ask(new_peer, "hello");
    return gate_->install_status().ok();
  }));
  Promote(new_peer);
  ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
  Promote(peer);
  ExpectRelayed(peer, 10);
  gate_->RemoveFlows();
  ExpectOnSockets(peer, 10);
  ExpectOnSockets(other, 10);
  EXPECT_EQ(Log(), "");
  EXPECT_THAT(offload_->AttachedInterfaces(),
              ::testing::UnorderedElementsAre("g1", "g2"));
}

// A change between BeginHandOver and StartAdopted withdraws adopted flows.
TEST_P(TakeoverTest, NetworkChangeDuringTheTakeoverWithdrawsFlows) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  auto new_offload = NewAdopting(MakeOptions());
  ASSERT_TRUE(offload_->BeginHandOver());
  gate_space_->Command(ipv6() ? "ip route add fd00:2::2/128 dev g2"
                              : "ip route add 10.2.0.2/32 dev g2");
  EXPECT_EQ(gate_->ContinueWith(new_offload.get()), 0);
  new_offload->StartAdopted();
  offload_->LetGo();
  offload_ = std::move(new_offload);
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  ExpectOnSockets(peer, 10);
  ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
  Promote(peer);
  ExpectRelayed(peer, 10);
}

TEST_P(TakeoverTest, FailedTakeoverChangesNothing) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  for (int i = 0; i < 3; ++i) {
    auto new_offload = NewAdopting(MakeOptions());
    ASSERT_TRUE(new_offload->has_adopted());
    ASSERT_TRUE(offload_->BeginHandOver());
    // As a Proxy does whose startup fails.
    ASSERT_TRUE(new_offload->Adopt(
        0, {peer.address(), listen_, backend_->sources().at(0),
            backend_->address()}));
    EXPECT_FALSE(new_offload->Adopt(
        0, {peer.address(), listen_, backend_->sources().at(0),
            backend_->address()}));
    EXPECT_FALSE(new_offload->Adopt(
        1, {peer.address(), listen_, backend_->sources().at(0),
            backend_->address()}));
    EXPECT_FALSE(new_offload->Adopt(UINT32_MAX, {}));
    EXPECT_GT(new_offload->Remove(0).from_client.datagrams, 0u);
    ExpectRelayed(peer, 100);
    new_offload.reset();
    offload_->CancelHandOver();
    ExpectRelayed(peer, 100);
  }
  // Longer than the lease: the old offload keeps renewing it.
  ASSERT_TRUE(offload_->BeginHandOver());
  const absl::Time end = absl::Now() + absl::Milliseconds(2500);
  while (absl::Now() < end) ExpectRelayed(peer, 100);
  gate_space_->Command(ipv6() ? "ip route add fd00:2::2/128 dev g2"
                              : "ip route add 10.2.0.2/32 dev g2");
  offload_->CancelHandOver();
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
}

TEST_P(TakeoverTest, StartsWithoutFlowsIfTheyCannotBeAdopted) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  KernelFlowOffload::Options options = MakeOptions();
  options.sessions_max = 1000;
  EXPECT_FALSE(NewAdopting(options)->has_adopted());
  EXPECT_TRUE(absl::StrContains(Log(), "has another layout")) << Log();
  options = MakeOptions();
  options.interfaces = {"g1"};
  EXPECT_FALSE(NewAdopting(options)->has_adopted());
  EXPECT_TRUE(absl::StrContains(Log(), "other interfaces")) << Log();
  options = MakeOptions();
  options.may_use_tcx = false;
  EXPECT_FALSE(NewAdopting(options)->has_adopted());
  // Each descriptor may be another file.
  for (const auto& entry : offload_->CopyDescriptors()) {
    ::close(entry.second);
    options = MakeOptions();
    options.adopted = offload_->CopyDescriptors();
    ::close(options.adopted[entry.first]);
    options.adopted[entry.first] = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const auto new_offload = NewOffload(options);
    if (absl::StartsWith(entry.first, "link/")) continue;
    EXPECT_FALSE(new_offload->has_adopted()) << entry.first;
  }
  ExpectRelayed(peer, 100);
}

class DescriptorTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, DescriptorTest, Ipv4Variants(), NameOf);

// A clsact filter cannot be passed to another process.
TEST_P(DescriptorTest, OnlyLinksCanBeHandedOver) {
  StartAll();
  const std::map<std::string, int> copies = offload_->CopyDescriptors();
  EXPECT_EQ(copies.empty(), !HasLinks());
  for (const auto& entry : copies) ::close(entry.second);
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
