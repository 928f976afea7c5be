#include "udpgate/internal/control/start_stop.h"

#include <utility>

namespace udpgate {
namespace internal {

absl::Status StartStop::Start() {
  absl::Status status;
  {
    MutexLock lock(&life_->mutex);
    if (life_->phase == LifeState::Phase::kRunning) {
      return absl::FailedPreconditionError("the Proxy was already started");
    }
    if (life_->phase == LifeState::Phase::kStopped) {
      return absl::FailedPreconditionError("the Proxy was stopped");
    }
    status = StartLocked();
  }
  if (!status.ok()) {
    Stop();
    return status;
  }
  disconnects_->ReleaseEvents();
  return absl::OkStatus();
}

absl::Status StartStop::StartLocked() {
  const LifeState::Phase before =
      std::exchange(life_->phase, LifeState::Phase::kRunning);
  context_->is_running = true;
  if (context_->flow_offload != nullptr) context_->flow_offload->StartAdopted();
  if (before == LifeState::Phase::kTakingOver) {
    // The old process has given up its sessions.
    data_plane_->SetListenOptions();
    data_plane_->StartThreadsWithRetry();
    return absl::OkStatus();
  }
  absl::Status status = StartControlThreads();
  if (status.ok()) status = data_plane_->StartThreads();
  if (status.ok()) status = disconnects_->StartSource();
  return status;
}

absl::Status StartStop::StartControlThreads() {
  absl::Status status = context_->control.Start();
  if (status.ok() && context_->session_events != nullptr) {
    status = context_->session_events->Start();
  }
  return status;
}

absl::Status StartStop::StartTakeover() {
  absl::Status status;
  {
    MutexLock lock(&life_->mutex);
    if (life_->phase != LifeState::Phase::kCreated) {
      return absl::FailedPreconditionError("the Proxy was already started");
    }
    life_->phase = LifeState::Phase::kTakingOver;
    disconnects_->KeepEvents();
    status = StartControlThreads();
    if (status.ok()) status = disconnects_->StartSource();
  }
  if (!status.ok()) Stop();
  return status;
}

void StartStop::Stop() {
  MutexLock lock(&life_->mutex);
  const LifeState::Phase before =
      std::exchange(life_->phase, LifeState::Phase::kStopped);
  if (before == LifeState::Phase::kStopped) return;
  context_->is_running = false;
  // First what a disconnect may wait for, and with it the source's thread.
  data_plane_->CloseInboxes();
  disconnects_->ReleaseEvents();
  if (before != LifeState::Phase::kCreated) disconnects_->StopSource();
  data_plane_->StopThreads();
  if (context_->session_events != nullptr)
    context_->session_events->BeginStop();
  data_plane_->EndAllSessions();
  StopControl();
}

void StartStop::StopControl() {
  if (context_->session_events != nullptr) context_->session_events->Stop();
  context_->control.Stop();
  data_plane_->CloseListenSockets();
}

}  // namespace internal
}  // namespace udpgate
