// A flow offload that relays nothing by itself: the test says what was relayed,
// and sees what the gateway tells it.
//
//   auto offload = std::make_shared<udpgate::test::FakeFlowOffload>();
//   dependencies.flow_offload = offload;
//   ...
//   offload->SetActivity(0, FlowDirection::kFromClient, {3, 300, now});
#ifndef UDPGATE_TESTING_FAKE_FLOW_OFFLOAD_H_
#define UDPGATE_TESTING_FAKE_FLOW_OFFLOAD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/types/optional.h"
#include "udpgate/base/export.h"
#include "udpgate/flow_offload.h"

namespace udpgate {
namespace test {

// Threads: one at a time.
class UDPGATE_EXPORT FakeFlowOffload : public FlowOffload {
 public:
  struct Flow {
    SessionAddresses addresses;
    FlowState state = FlowState::kInstalled;
    SessionActivity activity;
    std::array<int64_t, 2> handled_nanoseconds{};  // by direction
    uint32_t packet_bytes_max = 0;  // from the client; 0: none was set
    bool is_removed = false;
  };

  // All that were ever installed, by slot.
  const std::deque<Flow>& flows() const { return flows_; }

  // What was relayed in a direction, so far in all.
  void SetActivity(uint32_t slot, FlowDirection direction,
                   const DirectionActivity& activity) {
    SessionActivity& all = flows_[slot].activity;
    (direction == FlowDirection::kFromClient ? all.from_client
                                             : all.from_backend) = activity;
  }
  // What was relayed of removed sessions beside.
  void SetLateActivity(const SessionActivity& activity) { late_ = activity; }
  // It has decided, or the network has changed.
  void SetState(uint32_t slot, FlowState state) { flows_[slot].state = state; }
  // From now on Install begins with this state.
  void AnswerWith(FlowState state) { answer_ = state; }
  // From now on Install has room, or none.
  void set_has_room(bool has_room) { has_room_ = has_room; }

  absl::optional<uint32_t> Install(const SessionAddresses& addresses) override {
    if (!has_room_) return absl::nullopt;
    flows_.emplace_back();
    flows_.back().addresses = addresses;
    flows_.back().state = answer_;
    return static_cast<uint32_t>(flows_.size() - 1);
  }
  FlowState state(uint32_t slot) const override { return flows_[slot].state; }
  void PublishHandled(uint32_t slot, FlowDirection direction,
                      int64_t receive_time_nanoseconds) override {
    flows_[slot].handled_nanoseconds[static_cast<size_t>(direction)] =
        receive_time_nanoseconds;
  }
  void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                           uint32_t bytes) override {
    if (direction == FlowDirection::kFromClient) {
      flows_[slot].packet_bytes_max = bytes;
    }
  }
  SessionActivity ReadActivity(uint32_t slot) const override {
    return flows_[slot].activity;
  }
  SessionActivity Remove(uint32_t slot) override {
    flows_[slot].is_removed = true;
    return flows_[slot].activity;
  }
  SessionActivity LateActivity() const override { return late_; }

 private:
  bool has_room_ = true;
  FlowState answer_ = FlowState::kInstalled;
  SessionActivity late_;
  std::deque<Flow> flows_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_FAKE_FLOW_OFFLOAD_H_
