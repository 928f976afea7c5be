// A gateway's part in a session store: sessions come from other gateways, and
// go to them.
#ifndef UDPGATE_INTERNAL_CONTROL_PROXY_RESTORE_H_
#define UDPGATE_INTERNAL_CONTROL_PROXY_RESTORE_H_

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "udpgate/internal/control/data_plane.h"
#include "udpgate/internal/control/start_stop.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/session_restore.h"

namespace udpgate {
namespace internal {

// Threads: any, see Proxy.
class ProxyRestore {
 public:
  // All must outlive it.
  ProxyRestore(GateContext* context, DataPlane* data_plane, LifeState* life)
      : context_(context), data_plane_(data_plane), life_(life) {}
  ProxyRestore(const ProxyRestore&) = delete;
  ProxyRestore& operator=(const ProxyRestore&) = delete;

  // See Proxy.
  absl::StatusOr<std::vector<RestoredSession>> Restore(
      absl::Span<const RestorableSession> sessions)
      ABSL_LOCKS_EXCLUDED(life_->mutex);
  void SetStandby(bool is_standby);
  void Supersede(absl::Span<const uint64_t> session_ids)
      ABSL_LOCKS_EXCLUDED(life_->mutex);

 private:
  absl::Status RestoreTasks(std::vector<RestoreTask>* tasks)
      ABSL_LOCKS_EXCLUDED(life_->mutex);
  absl::Status RestorePhase(bool takes_other_relays,
                            std::vector<RestoreTask>* tasks)
      ABSL_LOCKS_EXCLUDED(life_->mutex);

  GateContext* const context_;
  DataPlane* const data_plane_;
  LifeState* const life_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_PROXY_RESTORE_H_
