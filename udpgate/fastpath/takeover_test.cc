// Another offload, as in a new process, continues with the flows.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
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
INSTANTIATE_TEST_SUITE_P(Variants, TakeoverTest, AllVariants(), NameOf);

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
              ::testing::UnorderedElementsAre("lo", "g1", "g2"));
}

// Each datagram is relayed by the kernel, also while the program is replaced.
TEST_P(TakeoverTest, NoDatagramReachesTheSocketsMeanwhile) {
  constexpr int kTakeovers = 20;
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const int on_sockets = gate_->from_clients() + gate_->from_backend();
  const SessionActivity before = gate_->RelayedInAll();
  const SocketAddress gate_address = gate_->address();
  std::atomic<bool> is_over{false};
  std::atomic<uint64_t> answered_count{0};
  std::thread sender([&] {
    while (!is_over && peer.Ask(gate_address, "load").ok()) ++answered_count;
  });
  for (int i = 0; i < kTakeovers; ++i) {
    const uint64_t count = answered_count;
    ReplaceOffload(NewAdopting(MakeOptions()));
    EXPECT_TRUE(AwaitTrue([&] { return answered_count > count + 10; }));
  }
  is_over = true;
  sender.join();
  const SessionActivity now = gate_->RelayedInAll();
  EXPECT_EQ(now.from_client.datagrams - before.from_client.datagrams,
            answered_count);
  EXPECT_EQ(now.from_backend.datagrams - before.from_backend.datagrams,
            answered_count);
  EXPECT_EQ(gate_->from_clients() + gate_->from_backend(), on_sockets);
  EXPECT_EQ(Log(), "");
}

// The new program takes the place of the old one; a filter keeps its handle.
TEST_P(TakeoverTest, LeavesOneProgramOnEachInterface) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const std::string old_filter = gate_space_->Output(kFiltersOfG1);
  ReplaceOffload(NewAdopting(MakeOptions()));
  ExpectRelayed(peer, 10);
  if (HasLinks()) {
    EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
  } else {
    std::string filter;
    EXPECT_TRUE(AwaitTrue([&] {
      filter = gate_space_->Output(kFiltersOfG1);
      return filter != old_filter;
    }));
    EXPECT_TRUE(absl::StrContains(filter, " handle 0x1 udpgate_eth:"))
        << filter;
    EXPECT_EQ(filter.find(" handle "), filter.rfind(" handle ")) << filter;
  }
  TearDown();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
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
  EXPECT_EQ(NewAdopting(options)->has_adopted(), !HasLinks());
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

// A clsact filter has no descriptor: the new process finds it by its handle.
TEST_P(DescriptorTest, ThereIsOneForEachLink) {
  StartAll();
  int link_count = 0;
  for (const auto& entry : offload_->CopyDescriptors()) {
    if (absl::StartsWith(entry.first, "link/")) ++link_count;
    ::close(entry.second);
  }
  EXPECT_EQ(link_count, HasLinks() ? 3 : 0);
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
