// Startup and shutdown of a gateway.
#ifndef UDPGATE_INTERNAL_CONTROL_START_STOP_H_
#define UDPGATE_INTERNAL_CONTROL_START_STOP_H_

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "udpgate/internal/control/data_plane.h"
#include "udpgate/internal/control/disconnect_router.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace internal {

// The life of a gateway.
struct LifeState {
  // kTakingOver: between StartTakeover and Start.
  enum class Phase { kCreated, kTakingOver, kRunning, kStopped };

  // Held by startup, shutdown and the pause of a takeover from begin to end, so
  // that they cannot overlap.
  Mutex mutex;
  Phase phase ABSL_GUARDED_BY(mutex) = Phase::kCreated;
};

// Threads: any.
class StartStop {
 public:
  // All must outlive it.
  StartStop(GateContext* context, DataPlane* data_plane,
            DisconnectRouter* disconnects, LifeState* life)
      : context_(context),
        data_plane_(data_plane),
        disconnects_(disconnects),
        life_(life) {}
  StartStop(const StartStop&) = delete;
  StartStop& operator=(const StartStop&) = delete;

  // See Proxy.
  absl::Status Start() ABSL_LOCKS_EXCLUDED(life_->mutex);
  void Stop() ABSL_LOCKS_EXCLUDED(life_->mutex);

  // Starts what receives disconnects, and keeps them until Start. If it fails
  // the gateway is stopped.
  absl::Status StartTakeover() ABSL_LOCKS_EXCLUDED(life_->mutex);

  // Stops what is left when the data plane has stopped. With the mutex.
  void StopControl();

 private:
  absl::Status StartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(life_->mutex);
  absl::Status StartControlThreads();

  GateContext* const context_;
  DataPlane* const data_plane_;
  DisconnectRouter* const disconnects_;
  LifeState* const life_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_START_STOP_H_
