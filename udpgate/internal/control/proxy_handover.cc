#include "udpgate/internal/control/proxy_handover.h"

#include <chrono>
#include <future>
#include <memory>
#include <utility>

#include "udpgate/internal/control/gateway_stats.h"
#include "udpgate/internal/control/handed_gate.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace internal {
namespace {

// How long the old process waits for the host program's `done` callbacks.
constexpr auto kCallbacksMax = std::chrono::seconds(1);

absl::Status NotRunning() {
  return absl::FailedPreconditionError("the gateway is not running");
}

absl::Status AlreadyStarted() {
  return absl::FailedPreconditionError("the Proxy was already started");
}

}  // namespace

ProxyStats ProxyHandover::GetStats() const {
  ProxyStats stats;
  {
    MutexLock lock(&earlier_stats_mutex_);
    stats = earlier_stats_;
  }
  AddGatewayStats(*context_, *data_plane_, *disconnects_, &stats);
  return stats;
}

// The old process.

absl::StatusOr<std::vector<UniqueFd>> ProxyHandover::CopyListenSockets() {
  MutexLock lock(&life_->mutex);
  if (life_->phase != LifeState::Phase::kRunning) return NotRunning();
  std::vector<UniqueFd> fds;
  for (const ListenSocket& socket : context_->listeners) {
    const SysCallResult copy = context_->sys_calls->Duplicate(socket.fd.get());
    if (!copy.ok()) return ErrnoToStatus(copy.error, "fcntl");
    fds.emplace_back(copy.value);
  }
  return fds;
}

std::map<std::string, UniqueFd> ProxyHandover::CopyFlowDescriptors() {
  std::map<std::string, UniqueFd> copies;
  if (context_->flow_offload == nullptr) return copies;
  for (const auto& [name, fd] : context_->flow_offload->CopyDescriptors()) {
    copies[name].Reset(fd);
  }
  return copies;
}

absl::Status ProxyHandover::HandOver(
    bool keeps_flows, absl::FunctionRef<absl::Status(const HandedGate&)> give) {
  data_plane_->ShortenWaits();

  // The first write to a page costs a fault, and all sessions together fill
  // thousands of pages: they are touched before the pause.
  HandedGate gate;
  gate.sessions.resize(GetStats().sessions_active * 9 / 8 + 64);
  gate.sessions.clear();

  MutexLock lock(&life_->mutex);
  if (life_->phase != LifeState::Phase::kRunning) return NotRunning();
  gate.pause_began_nanoseconds = context_->clock->NowNanoseconds();
  data_plane_->StopThreads();
  FlowOffload* const offload = context_->flow_offload.get();
  keeps_flows = keeps_flows && offload != nullptr && offload->BeginHandOver();
  FillGate(keeps_flows, &gate);
  absl::Status status = give(gate);
  for (HandedSession& session : gate.sessions) session.upstream_fd.Release();
  if (status.ok()) {
    StopHandedOver(keeps_flows);
    return status;
  }
  if (keeps_flows) offload->CancelHandOver();
  data_plane_->StartThreadsWithRetry();
  return status;
}

void ProxyHandover::FillGate(bool keeps_flows, HandedGate* gate) {
  data_plane_->HandOver(keeps_flows, gate);
  gate->now_nanoseconds = context_->clock->NowNanoseconds();
  gate->is_draining = context_->is_draining.load(std::memory_order_relaxed);
  gate->is_standby = context_->is_standby.load(std::memory_order_relaxed);
  gate->quarantined = context_->relay_ports.Quarantined();
  gate->stats = GetStats();
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (field.kind == ProxyStatField::Kind::kGauge) {
      gate->stats.*field.value = 0;
    }
  }
}

void ProxyHandover::StopHandedOver(bool keeps_flows) {
  life_->phase = LifeState::Phase::kStopped;
  context_->is_running = false;
  data_plane_->ForgetSessions();
  if (keeps_flows) context_->flow_offload->LetGo();
  disconnects_->StopSource();
  // Callers of Disconnect are told that no session has ended here. The host
  // program's callbacks may hang.
  auto is_told = std::make_shared<std::promise<void>>();
  std::future<void> told = is_told->get_future();
  context_->control.Post([is_told] { is_told->set_value(); });
  told.wait_for(kCallbacksMax);
  start_stop_->StopControl();
}

// The new process.

absl::Status ProxyHandover::Prepare(absl::Span<HandedSession> sessions) {
  MutexLock lock(&life_->mutex);
  if (life_->phase != LifeState::Phase::kTakingOver) return AlreadyStarted();
  return data_plane_->Prepare(sessions);
}

absl::Status ProxyHandover::TakeOver(HandedGate gate) {
  MutexLock lock(&life_->mutex);
  if (life_->phase != LifeState::Phase::kTakingOver) return AlreadyStarted();
  if (absl::Status status = CheckRanges(gate); !status.ok()) return status;
  ConvertTimes(context_->clock->NowNanoseconds(), &gate);
  if (absl::Status status = data_plane_->TakeOver(&gate); !status.ok()) {
    return status;
  }
  context_->relay_ports.AdoptQuarantined(gate.quarantined);
  if (gate.is_draining) {
    context_->is_draining.store(true, std::memory_order_relaxed);
  }
  context_->is_standby.store(gate.is_standby, std::memory_order_relaxed);
  MutexLock stats_lock(&earlier_stats_mutex_);
  earlier_stats_ = gate.stats;
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace udpgate
