// A mock of `FlowOffload`.
//
//   auto offload = std::make_shared<::testing::NiceMock<MockFlowOffload>>();
//   EXPECT_CALL(*offload, Install).WillOnce(::testing::Return(7u));
#ifndef UDPGATE_TESTING_MOCK_FLOW_OFFLOAD_H_
#define UDPGATE_TESTING_MOCK_FLOW_OFFLOAD_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/types/optional.h"
#include "gmock/gmock.h"
#include "udpgate/base/export.h"
#include "udpgate/flow_offload.h"

namespace udpgate {
namespace test {

// `Install` without an expectation has no room, so that every session stays on
// its sockets; no activity.
class UDPGATE_EXPORT MockFlowOffload : public FlowOffload {
 public:
  MockFlowOffload() {
    ON_CALL(*this, Install)
        .WillByDefault([](const SessionAddresses& /*addresses*/) {
          return absl::optional<uint32_t>();
        });
  }

  MOCK_METHOD(absl::optional<uint32_t>, Install,
              (const SessionAddresses& addresses), (override));
  MOCK_METHOD(FlowState, state, (uint32_t slot), (const, override));
  MOCK_METHOD(void, PublishHandled,
              (uint32_t slot, FlowDirection direction,
               int64_t receive_time_nanoseconds),
              (override));
  MOCK_METHOD(void, LowerPacketBytesMax,
              (uint32_t slot, FlowDirection direction, uint32_t bytes),
              (override));
  MOCK_METHOD(SessionActivity, ReadActivity, (uint32_t slot),
              (const, override));
  MOCK_METHOD(SessionActivity, Remove, (uint32_t slot), (override));
  MOCK_METHOD(SessionActivity, LateActivity, (), (const, override));
  MOCK_METHOD((std::map<std::string, int>), CopyDescriptors, (),
              (const, override));
  MOCK_METHOD(bool, BeginHandOver, (), (override));
  MOCK_METHOD(void, CancelHandOver, (), (override));
  MOCK_METHOD(void, LetGo, (), (override));
  MOCK_METHOD(bool, has_adopted, (), (const, override));
  MOCK_METHOD(bool, Adopt, (uint32_t slot, const SessionAddresses& addresses),
              (override));
  MOCK_METHOD(void, StartAdopted, (), (override));
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_MOCK_FLOW_OFFLOAD_H_
