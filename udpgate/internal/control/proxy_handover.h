// A gateway's part in a takeover, as the old process and as the new one.
#ifndef UDPGATE_INTERNAL_CONTROL_PROXY_HANDOVER_H_
#define UDPGATE_INTERNAL_CONTROL_PROXY_HANDOVER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "udpgate/internal/control/data_plane.h"
#include "udpgate/internal/control/disconnect_router.h"
#include "udpgate/internal/control/start_stop.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {

// Threads: see Handover; `GetStats` from any.
class ProxyHandover final : public Handover {
 public:
  // All must outlive it.
  ProxyHandover(GateContext* context, DataPlane* data_plane,
                DisconnectRouter* disconnects, StartStop* start_stop,
                LifeState* life)
      : context_(context),
        data_plane_(data_plane),
        disconnects_(disconnects),
        start_stop_(start_stop),
        life_(life) {}
  ProxyHandover(const ProxyHandover&) = delete;
  ProxyHandover& operator=(const ProxyHandover&) = delete;

  // The counters of this process, and of those before it.
  ProxyStats GetStats() const;

  uint64_t hash_seed() const override { return context_->hash.seed(); }
  absl::StatusOr<std::vector<UniqueFd>> CopyListenSockets() override;
  std::map<std::string, UniqueFd> CopyFlowDescriptors() override;
  absl::Status VisitSockets(
      absl::FunctionRef<absl::Status(std::vector<HandedSession>)> visit)
      override {
    return data_plane_->VisitSockets(visit);
  }
  absl::Status HandOver(
      bool keeps_flows,
      absl::FunctionRef<absl::Status(const HandedGate&)> give) override;

  absl::Status ListenForDisconnects() override {
    return start_stop_->StartTakeover();
  }
  bool HearsDisconnects() const override {
    return disconnects_->IsSourceHealthy();
  }
  bool KeepsFlows() const override {
    return context_->flow_offload != nullptr &&
           context_->flow_offload->has_adopted();
  }
  absl::Status Prepare(absl::Span<HandedSession> sessions) override;
  absl::Status TakeOver(HandedGate gate) override;

 private:
  void FillGate(bool keeps_flows, HandedGate* gate)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(life_->mutex);
  // The new process has everything.
  void StopHandedOver(bool keeps_flows)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(life_->mutex);

  GateContext* const context_;
  DataPlane* const data_plane_;
  DisconnectRouter* const disconnects_;
  StartStop* const start_stop_;
  LifeState* const life_;

  // The counters of the processes before this one.
  mutable Mutex earlier_stats_mutex_;
  ProxyStats earlier_stats_ ABSL_GUARDED_BY(earlier_stats_mutex_);
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_PROXY_HANDOVER_H_
