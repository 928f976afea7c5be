// Promotion to the kernel and return to the sockets: nothing is reordered, lost
// or counted twice.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/namespace_fixture.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::AwaitTrue;
using test::LoopbackPeer;

class FlowLifecycleTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, FlowLifecycleTest, AllVariants(), NameOf);

TEST_P(FlowLifecycleTest, RemovedFlowsReturnToTheSockets) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 10);
  gate_->RemoveFlows();
  const SessionActivity relayed = gate_->RelayedInAll();
  EXPECT_GE(relayed.from_client.datagrams, 10u);
  EXPECT_GE(relayed.from_backend.datagrams, 10u);
  ExpectOnSockets(peer, 10);
  // No datagram was in flight.
  EXPECT_EQ(offload_->LateActivity().from_client.datagrams, 0u);
}

TEST_P(FlowLifecycleTest, RefusesAddressesThatItCannotRelay) {
  StartAll();
  SessionAddresses addresses;
  addresses.client = *SocketAddress::Parse("10.1.0.2:5000");
  addresses.listen = *SocketAddress::Parse("10.1.0.1:19132");
  addresses.relay = *SocketAddress::Parse("[fd00:2::1]:5000");
  addresses.backend = *SocketAddress::Parse("[fd00:2::2]:19133");
  EXPECT_TRUE(absl::IsUnimplemented(InstallStatus(addresses)));
  addresses.relay = *SocketAddress::Parse("10.2.0.1:5000");
  addresses.backend = *SocketAddress::Parse("10.99.0.2:19133");
  EXPECT_TRUE(absl::IsNotFound(InstallStatus(addresses)));
  addresses.listen = SocketAddress::Ipv4Any(19132);
  EXPECT_TRUE(absl::IsInvalidArgument(InstallStatus(addresses)));
  EXPECT_TRUE(absl::StrContains(Log(),
                                "the session of 10.1.0.2:5000 stays on "
                                "sockets: client and backend are of "
                                "different address families"))
      << Log();
}

// A client floods while its flows are removed and installed again. Each
// datagram is counted once, by the sockets or by the fast path, including those
// that the program was processing during a removal.
TEST_P(FlowLifecycleTest, CountsEachDatagramOnceDuringRemovals) {
  constexpr int kRounds = 200;
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const size_t received_before = backend_->received_count();
  const int from_clients_before = gate_->from_clients();
  const uint64_t relayed_before = gate_->RelayedInAll().from_client.datagrams;
  std::atomic<bool> is_done{false};
  std::atomic<uint32_t> unanswered{0};
  size_t sent = 0;
  std::thread sender([&] {
    while (!is_done) {
      if (unanswered >= 32) continue;
      EXPECT_TRUE(peer.Send(gate_->address(), "flood").ok());
      ++unanswered;
      ++sent;
    }
  });
  int round = 0;
  uint64_t removed_at = relayed_before;
  EXPECT_TRUE(AwaitTrue([&] {
    for (int i = 0; i < 1000 && peer.TryReceive().ok(); ++i) --unanswered;
    // As soon as it relays again.
    const uint64_t relayed = gate_->RelayedInAll().from_client.datagrams;
    if (relayed > removed_at) {
      removed_at = relayed;
      EXPECT_TRUE(gate_->Reinstall(peer.address()).ok());
      ++round;
    }
    return round == kRounds;
  }));
  is_done = true;
  sender.join();
  EXPECT_TRUE(AwaitTrue(
      [&] { return backend_->received_count() - received_before == sent; }));
  const SessionActivity late = offload_->LateActivity();
  EXPECT_EQ(static_cast<uint64_t>(gate_->from_clients() - from_clients_before) +
                gate_->RelayedInAll().from_client.datagrams - relayed_before,
            sent);
  std::cout << sent << " datagrams, " << kRounds << " removals, "
            << late.from_client.datagrams + late.from_backend.datagrams
            << " counted late\n";
}

struct Order {
  size_t received = 0;
  size_t reordered = 0;  // a smaller number after a larger one
};

Order OrderOf(const std::vector<uint32_t>& numbers) {
  Order order;
  uint32_t newest = 0;
  for (const uint32_t number : numbers) {
    ++order.received;
    if (number < newest) ++order.reordered;
    newest = std::max(newest, number);
  }
  return order;
}

uint32_t NumberIn(const std::string& payload) {
  uint32_t number = 0;
  std::memcpy(&number, payload.data(),
              std::min(payload.size(), sizeof(number)));
  return number;
}

// A client that does not wait for replies, while its session moves between the
// sockets and the kernel repeatedly.
TEST_P(FlowLifecycleTest, NeitherReordersNorLosesDatagrams) {
  constexpr uint32_t kDatagrams = 20'000;
  constexpr uint32_t kHandOverEach = 1'000;
  // Datagrams in flight: enough that each queue holds some, and no more than a
  // socket's buffer holds.
  constexpr uint32_t kWindow = 64;
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Ask(peer, "begin");
  const size_t received_before = backend_->received_count();
  std::atomic<uint32_t> replied{0};
  std::thread sender([&] {
    for (uint32_t number = 1; number <= kDatagrams; ++number) {
      EXPECT_TRUE(AwaitTrue([&] { return number - replied <= kWindow; }));
      if (::testing::Test::HasFailure()) return;
      const absl::Time next = absl::Now() + absl::Microseconds(40);
      EXPECT_TRUE(peer.Send(gate_->address(),
                            std::string(reinterpret_cast<const char*>(&number),
                                        sizeof(number)))
                      .ok());
      while (absl::Now() < next) {
      }
    }
  });
  std::vector<uint32_t> replies;
  int relayed_phases = 0;
  while (replies.size() < kDatagrams) {
    auto reply = peer.Receive(absl::Seconds(5));
    if (!reply.ok()) break;
    replies.push_back(NumberIn(reply->payload));
    ++replied;
    if (replies.size() % kHandOverEach != 0) continue;
    if (gate_->Activity(peer.address(), FlowDirection::kFromBackend).datagrams >
        0) {
      ++relayed_phases;
    }
    EXPECT_TRUE(gate_->Reinstall(peer.address()).ok());
  }
  sender.join();
  std::vector<uint32_t> requests;
  for (const auto& datagram : backend_->received()) {
    requests.push_back(NumberIn(datagram.payload));
  }
  requests.erase(requests.begin(),
                 requests.begin() + static_cast<int>(received_before));
  const Order there = OrderOf(requests), back = OrderOf(replies);
  EXPECT_EQ(there.received, kDatagrams) << Describe();
  EXPECT_EQ(back.received, kDatagrams) << Describe();
  EXPECT_EQ(there.reordered, 0u);
  EXPECT_EQ(back.reordered, 0u);
  EXPECT_GT(relayed_phases, 5);
  std::cout << relayed_phases << " promotions, " << gate_->from_clients()
            << " of " << kDatagrams << " datagrams through the sockets\n";
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
