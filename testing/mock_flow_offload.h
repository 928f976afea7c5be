// A mock of `FlowOffload`.
//
//   auto offload = std::make_shared<::testing::NiceMock<MockFlowOffload>>();
//   EXPECT_CALL(*offload, Install).WillOnce(::testing::Return(7u));
#ifndef UDPGATE_TESTING_MOCK_FLOW_OFFLOAD_H_
#define UDPGATE_TESTING_MOCK_FLOW_OFFLOAD_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "udpgate/flow_offload.h"

namespace udpgate {
namespace test {

// `Install` without an expectation fails, so that every session stays on its
// sockets; no activity and nothing withdrawn.
class MockFlowOffload : public FlowOffload {
 public:
  MockFlowOffload() {
    ON_CALL(*this, Install)
        .WillByDefault([](const SessionAddresses& /*addresses*/) {
          return absl::StatusOr<uint32_t>(
              absl::ResourceExhaustedError("no slot is free"));
        });
  }

  MOCK_METHOD(absl::StatusOr<uint32_t>, Install,
              (const SessionAddresses& addresses), (override));
  MOCK_METHOD(void, PublishHandled,
              (uint32_t slot, FlowDirection direction,
               int64_t receive_time_nanoseconds),
              (override));
  MOCK_METHOD(void, LowerPacketBytesMax,
              (uint32_t slot, FlowDirection direction, uint32_t bytes),
              (override));
  MOCK_METHOD(DirectionActivity, ReadActivity,
              (uint32_t slot, FlowDirection direction), (const, override));
  MOCK_METHOD(bool, is_withdrawn, (uint32_t slot), (const, override));
  MOCK_METHOD(void, Remove, (uint32_t slot), (override));
  MOCK_METHOD(void, Release, (uint32_t slot), (override));
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_MOCK_FLOW_OFFLOAD_H_
