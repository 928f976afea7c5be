// The life of a slot, and takeover of the table. No packets.
#include "udpgate/fastpath/internal/flow_table.h"

#include <arpa/inet.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "udpgate/fastpath/internal/packet_model.h"
#include "udpgate/fastpath/internal/program_fixture.h"
#include "udpgate/flow_offload.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

class FlowTableTest : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    exit_.packet_bytes_max = kMtuBytes;
  }
  bool IsInIndex(const SessionAddresses& addresses) {
    const udpgate_tuple tuple = MakeTuple(addresses.client, addresses.listen);
    if (!program_->RemoveFromIndex(tuple).ok()) return false;
    EXPECT_TRUE(program_->AddToIndex(tuple, 0).ok());
    return true;
  }

  Exit exit_;
};

TEST_F(FlowTableTest, IsInQuarantineBeforeReuse) {
  program_->activity(6).datagrams = 5;
  EXPECT_EQ(table_->GiveBack(3).from_client.datagrams, 5u);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 1000);
  table_->FreeRested(1000 + FlowTable::kRestNanoseconds - 1);
  EXPECT_EQ(table_->Take(SessionNumber(3)), absl::nullopt);
  EXPECT_EQ(program_->activity(6).datagrams, 5u);
  table_->FreeRested(1000 + FlowTable::kRestNanoseconds);
  EXPECT_EQ(table_->Take(SessionNumber(3)), 3u);
  EXPECT_EQ(table_->state(3), FlowState::kWaiting);
  EXPECT_EQ(table_->ReadActivity(3).from_client.datagrams, 0u);
}

// What the program counts after GiveBack has read the counters.
TEST_F(FlowTableTest, CountsLateActivity) {
  program_->activity(6).datagrams = 5;
  program_->activity(7).payload_bytes = 500;
  EXPECT_EQ(table_->GiveBack(3).from_backend.payload_bytes, 500u);
  EXPECT_EQ(table_->LateActivity().from_client.datagrams, 0u);
  program_->activity(6).datagrams = 7;
  EXPECT_EQ(table_->LateActivity().from_client.datagrams, 2u);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  program_->activity(7).payload_bytes = 540;
  EXPECT_EQ(table_->LateActivity().from_backend.payload_bytes, 40u);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  EXPECT_EQ(table_->Take(SessionNumber(3)), 3u);
  const SessionActivity late = table_->LateActivity();
  EXPECT_EQ(late.from_client.datagrams, 2u);
  EXPECT_EQ(late.from_backend.payload_bytes, 40u);
}

// Given back before the owner has handled the request.
TEST_F(FlowTableTest, IsNotInstalledAfterGiveBack) {
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  ASSERT_EQ(table_->Take(SessionNumber(3)), 3u);
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3") << "and no request to add";
  table_->Clear(3, 0);
  EXPECT_FALSE(IsInIndex(SessionNumber(3)));
  // It was never in the index, so it needs no quarantine.
  EXPECT_EQ(table_->Take(SessionNumber(3)), 3u);
  EXPECT_EQ(NextRequest(), "add 3");
  // While the owner is adding it.
  table_->GiveBack(3);
  EXPECT_TRUE(table_->Add(3, exit_, exit_).ok());
  EXPECT_EQ(program_->flow(6).packet_bytes_max, 0u);
  EXPECT_EQ(program_->flow(7).packet_bytes_max, 0u);
  EXPECT_NE(table_->state(3), FlowState::kInstalled);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  EXPECT_FALSE(IsInIndex(SessionNumber(3)));
  EXPECT_EQ(table_->Take(SessionNumber(3)), absl::nullopt) << "quarantine";
}

// The path MTU may decrease before the flow is installed.
TEST_F(FlowTableTest, KeepsTheLowestLimit) {
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  ASSERT_EQ(table_->Take(SessionNumber(3)), 3u);
  table_->LowerPacketBytesMax(3, FlowDirection::kFromClient, 600);
  table_->LowerPacketBytesMax(3, FlowDirection::kFromClient, 900);
  ASSERT_TRUE(table_->Add(3, exit_, exit_).ok());
  EXPECT_EQ(program_->flow(6).packet_bytes_max, 600u);
  EXPECT_EQ(program_->flow(7).packet_bytes_max, kMtuBytes);
}

TEST_F(FlowTableTest, WithdrawEndsTheFlowsAndKeepsTheSlot) {
  program_->activity(6).datagrams = 5;
  const auto concerns = [](const SessionAddresses& addresses, const Exit&,
                           const Exit&) {
    return addresses.client == SessionNumber(3).client;
  };
  EXPECT_EQ(table_->WithdrawWhere(concerns), 1);
  EXPECT_EQ(table_->state(3), FlowState::kWithdrawn);
  EXPECT_FALSE(IsInIndex(SessionNumber(3)));
  EXPECT_EQ(program_->flow(6).packet_bytes_max, 0u);
  EXPECT_EQ(table_->ReadActivity(3).from_client.datagrams, 5u);
  EXPECT_EQ(table_->WithdrawWhere(concerns), 0);
  EXPECT_EQ(table_->Take(SessionNumber(3)), absl::nullopt);
}

TEST_F(FlowTableTest, IndexesEachTupleOnce) {
  table_->GiveBack(7);
  EXPECT_EQ(NextRequest(), "clear 7");
  table_->Clear(7, 0);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  SessionAddresses addresses = SessionNumber(6);
  addresses.client = *SocketAddress::Parse("10.6.0.3:1");
  ASSERT_EQ(table_->Take(addresses), 7u);
  // Its tuple from the backend is that of session 6.
  EXPECT_TRUE(absl::IsAlreadyExists(table_->Add(7, exit_, exit_)));
  EXPECT_EQ(table_->state(7), FlowState::kRefused);
  // The other direction is removed from the index again.
  EXPECT_FALSE(IsInIndex(addresses));
}

TEST_F(FlowTableTest, RefusedSlotIsNotIndexedAndCanBeReused) {
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  ASSERT_EQ(table_->Take(SessionNumber(3)), 3u);
  EXPECT_EQ(NextRequest(), "add 3");
  table_->Refuse(3);
  EXPECT_EQ(table_->state(3), FlowState::kRefused);
  EXPECT_FALSE(IsInIndex(SessionNumber(3)));
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  EXPECT_EQ(table_->Take(SessionNumber(3)), 3u) << "without quarantine";
}

// Another table on the same maps, as in the new process of a takeover.
TEST_F(FlowTableTest, AdoptsASessionOnceAndOnlyInItsSlot) {
  FlowTable adopting(program_.get(), kSessions, /*is_adopting=*/true);
  EXPECT_EQ(adopting.Take(SessionNumber(3)), absl::nullopt);
  EXPECT_FALSE(adopting.Adopt(2, SessionNumber(3)));
  EXPECT_FALSE(adopting.Adopt(kSessions, SessionNumber(3)));
  SessionAddresses other_client = SessionNumber(3);
  other_client.client = other_client.client.WithPort(1);
  EXPECT_FALSE(adopting.Adopt(3, other_client));
  EXPECT_TRUE(adopting.Adopt(3, SessionNumber(3)));
  EXPECT_EQ(adopting.state(3), FlowState::kInstalled);
  EXPECT_FALSE(adopting.Adopt(3, SessionNumber(3)));
  // A flow that was withdrawn cannot be adopted.
  EXPECT_EQ(table_->WithdrawWhere([](const SessionAddresses& addresses,
                                     const Exit&, const Exit&) {
    return addresses.client == SessionNumber(4).client;
  }),
            1);
  EXPECT_FALSE(adopting.Adopt(4, SessionNumber(4)));
}

TEST_F(FlowTableTest, FinishedAdoptionEndsAllOtherFlows) {
  FlowTable adopting(program_.get(), kSessions, /*is_adopting=*/true);
  ASSERT_TRUE(adopting.Adopt(3, SessionNumber(3)));
  ASSERT_TRUE(adopting.Adopt(5, SessionNumber(5)));
  // The kernel knows only one direction of this session.
  ASSERT_TRUE(program_
                  ->RemoveFromIndex(
                      adopting.flow(5, FlowDirection::kFromBackend).expected)
                  .ok());
  adopting.FinishAdoption(/*now_nanoseconds=*/1000);
  EXPECT_EQ(adopting.state(3), FlowState::kInstalled);
  EXPECT_EQ(adopting.state(5), FlowState::kWithdrawn);
  EXPECT_EQ(program_->Indexed().size(), 2u) << "both directions of session 3";
  EXPECT_EQ(adopting.flow(3, FlowDirection::kFromClient).packet_bytes_max,
            kMtuBytes);
  EXPECT_EQ(adopting.flow(0, FlowDirection::kFromClient).packet_bytes_max, 0u);
  // The slots of the old process are in quarantine first.
  adopting.FreeRested(999 + FlowTable::kRestNanoseconds);
  EXPECT_EQ(adopting.Take(SessionNumber(0)), absl::nullopt);
  adopting.FreeRested(1000 + FlowTable::kRestNanoseconds);
  EXPECT_TRUE(adopting.Take(SessionNumber(0)).has_value());
}

TEST_F(FlowTableTest, ListsTheInterfacesThatFlowsLeaveBy) {
  EXPECT_EQ(table_->ExitInterfaces(),
            (std::set<int>{static_cast<int>(kLoopbackIndex),
                           static_cast<int>(kOtherIndex)}));
  table_->WithdrawWhere([](const SessionAddresses&, const Exit& to_backend,
                           const Exit&) { return to_backend.is_loopback; });
  EXPECT_EQ(table_->ExitInterfaces(),
            std::set<int>{static_cast<int>(kOtherIndex)});
}

TEST(MakeTupleTest, HoldsAddressesAndPortsInNetworkByteOrder) {
  const udpgate_tuple tuple = MakeTuple(*SocketAddress::Parse("10.1.2.3:258"),
                                        *SocketAddress::Parse("10.4.5.6:772"));
  const uint8_t expected[sizeof(tuple)] = {
      10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // source
      10, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // destination
      1,  2, 3, 4, 4, 0, 0, 0};                         // ports, family
  EXPECT_EQ(std::memcmp(&tuple, expected, sizeof(tuple)), 0);
  EXPECT_EQ(MakeTuple(*SocketAddress::Parse("[::1]:1"),
                      *SocketAddress::Parse("[::2]:2"))
                .family,
            6u);
}

// Adding the difference to a checksum gives that of the changed bytes.
TEST(ChecksumDifferenceTest, AgreesWithAFullChecksum) {
  const uint8_t before[] = {0x12, 0x34, 0xFF, 0xFF, 0x00, 0x01};
  const uint8_t after[] = {0xAB, 0xCD, 0x00, 0x00, 0xFE, 0xDC};
  const auto checksum = [](const uint8_t* data) {
    return static_cast<uint16_t>(~Sum(data, 6));
  };
  // The difference is in the byte order of memory, as the words are.
  uint32_t sum = static_cast<uint16_t>(~htons(checksum(before))) +
                 ChecksumDifference(before, after, 6);
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  EXPECT_EQ(static_cast<uint16_t>(~sum), htons(checksum(after)));
  EXPECT_EQ(ChecksumDifference(before, before, 6), 0xFFFFu) << "minus zero";
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
