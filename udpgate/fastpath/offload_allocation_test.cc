// The calls that workers make allocate no memory in a steady state.
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/allocation_count.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace fastpath {
namespace {

constexpr int kSessions = 64;

TEST(OffloadAllocationTest, InstallAndRemoveAllocateNothing) {
  auto space = test::NetworkNamespace::Create();
  UDPGATE_NEEDS_RIGHTS(space.status());
  (*space)->Command("ip link set lo up");
  std::unique_ptr<KernelFlowOffload> offload;
  (*space)->Run([&] {
    KernelFlowOffload::Options options;
    options.sessions_max = kSessions;
    options.listen_addresses = {SocketAddress::Ipv4Loopback(19132)};
    offload = *KernelFlowOffload::Create(options);
  });
  std::vector<SessionAddresses> sessions;
  for (int i = 0; i < kSessions; ++i) {
    const auto port = static_cast<uint16_t>(1000 + i);
    sessions.push_back({*SocketAddress::FromIpAndPort("127.0.0.2", port),
                        *SocketAddress::FromIpAndPort("127.0.0.1", 19132),
                        *SocketAddress::FromIpAndPort("127.0.0.3", port),
                        *SocketAddress::FromIpAndPort("127.0.0.4", 19133)});
  }
  // Every third one is refused, since there is no such route.
  for (size_t i = 0; i < sessions.size(); i += 3) {
    sessions[i].backend = *SocketAddress::FromIpAndPort("10.9.9.9", 19133);
  }
  std::vector<uint32_t> slots;
  slots.reserve(sessions.size());
  const int64_t before = test::AllocationCount();
  // All slots three times, each as soon as its quarantine is over.
  for (int round = 0; round < 3; ++round) {
    slots.clear();
    for (const SessionAddresses& session : sessions) {
      absl::optional<uint32_t> slot;
      EXPECT_TRUE(test::AwaitTrue([&] {
        slot = offload->Install(session);  // also if no slot is free
        return slot.has_value();
      }));
      if (!slot.has_value()) return;
      slots.push_back(*slot);
      EXPECT_EQ(offload->ReadActivity(*slot).from_client.datagrams, 0u);
      offload->PublishHandled(*slot, FlowDirection::kFromClient, 7);
      offload->LowerPacketBytesMax(*slot, FlowDirection::kFromClient, 900);
    }
    EXPECT_TRUE(test::AwaitTrue([&] {
      for (const uint32_t slot : slots) {
        if (offload->state(slot) == FlowState::kWaiting) return false;
      }
      return true;
    }));
    for (size_t i = 0; i < slots.size(); ++i) {
      EXPECT_EQ(offload->state(slots[i]),
                i % 3 == 0 ? FlowState::kRefused : FlowState::kInstalled);
      EXPECT_EQ(offload->Remove(slots[i]).from_client.datagrams, 0u);
    }
  }
  EXPECT_EQ(test::AllocationCount(), before);
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
