// A flow offload that relays nothing by itself: the test says what was relayed,
// and sees what the gate tells it.
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
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/flow_offload.h"

namespace udpgate {
namespace test {

// Threads: one at a time.
class FakeFlowOffload : public FlowOffload {
 public:
  struct Flow {
    SessionAddresses addresses;
    // By direction.
    std::array<DirectionActivity, 2> activity;
    std::array<int64_t, 2> handled_nanoseconds{};
    uint32_t packet_bytes_max = 0;  // from the client; 0: none was set
    bool is_removed = false;
    bool is_released = false;
  };

  // All that were ever installed, by slot.
  const std::deque<Flow>& flows() const { return flows_; }

  // What was relayed in a direction, so far in all.
  void SetActivity(uint32_t slot, FlowDirection direction,
                   const DirectionActivity& activity) {
    flows_[slot].activity[static_cast<size_t>(direction)] = activity;
  }
  // The network has changed.
  void Withdraw(uint32_t slot) { flows_[slot].is_removed = true; }
  // From now on Install fails, unless the status is OK.
  void RefuseWith(absl::Status status) { refusal_ = std::move(status); }

  absl::StatusOr<uint32_t> Install(const SessionAddresses& addresses) override {
    if (!refusal_.ok()) return refusal_;
    flows_.emplace_back();
    flows_.back().addresses = addresses;
    return static_cast<uint32_t>(flows_.size() - 1);
  }
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
  DirectionActivity ReadActivity(uint32_t slot,
                                 FlowDirection direction) const override {
    return flows_[slot].activity[static_cast<size_t>(direction)];
  }
  bool is_withdrawn(uint32_t slot) const override {
    return flows_[slot].is_removed;
  }
  void Remove(uint32_t slot) override { flows_[slot].is_removed = true; }
  void Release(uint32_t slot) override {
    flows_[slot].is_removed = true;
    flows_[slot].is_released = true;
  }

 private:
  absl::Status refusal_;
  std::deque<Flow> flows_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_FAKE_FLOW_OFFLOAD_H_
