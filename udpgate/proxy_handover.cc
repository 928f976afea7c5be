#include <algorithm>
#include <chrono>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/internal/control/session_slice.h"
#include "udpgate/internal/session_table.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/proxy_impl.h"

namespace udpgate {

using internal::HandedGate;
using internal::HandedPort;
using internal::HandedSession;
using internal::MutexLock;
using internal::Reader;
using internal::ReaderThread;
using internal::SessionSlice;
using internal::ShardMessage;
using internal::Worker;

namespace {

absl::Status NotRunning() {
  return absl::FailedPreconditionError("the gate is not running");
}

}  // namespace

// The giver.

absl::StatusOr<std::vector<internal::UniqueFd>>
Proxy::Impl::CopyListenSockets() {
  MutexLock lock(&start_stop_mutex_);
  if (state_ != State::kRunning) return NotRunning();
  std::vector<internal::UniqueFd> fds;
  for (const internal::ListenSocket& socket : context_.listeners) {
    const internal::SysCallResult copy =
        context_.sys_calls->Duplicate(socket.fd.get());
    if (!copy.ok()) return internal::ErrnoToStatus(copy.error, "fcntl");
    fds.emplace_back(copy.value);
  }
  return fds;
}

std::map<std::string, internal::UniqueFd> Proxy::Impl::CopyFlowDescriptors() {
  std::map<std::string, internal::UniqueFd> copies;
  if (context_.flow_offload == nullptr) return copies;
  for (const auto& [name, fd] : context_.flow_offload->CopyDescriptors()) {
    copies[name].Reset(fd);
  }
  return copies;
}

absl::Status Proxy::Impl::VisitSockets(
    absl::FunctionRef<absl::Status(std::vector<HandedSession>)> visit) {
  using Slice = SessionSlice<HandedSession>;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    uint32_t slot = 0;
    do {
      if (!context_.is_running) return NotRunning();
      auto result = std::make_shared<Slice::Result>();
      ShardMessage message;
      message.kind = ShardMessage::Kind::kCopySockets;
      message.session.slot = slot;
      message.copy_done = Slice(result);
      worker->inbox()->Post(std::move(message));
      if (absl::Status status = visit(result->Take(&slot)); !status.ok()) {
        return status;
      }
    } while (slot != 0);
  }
  return absl::OkStatus();
}

absl::Status Proxy::Impl::HandOver(
    bool keeps_flows, absl::FunctionRef<absl::Status(const HandedGate&)> give) {
  // A reader that waits would delay the stop of the traffic: from its next wait
  // on it waits less.
  for (const std::unique_ptr<ReaderThread>& reader : reader_threads_) {
    (void)reader->SetWaitMax(absl::Milliseconds(1));
  }
  if (!reader_threads_.empty()) {
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(
        ReaderThread::kWaitMax + absl::Milliseconds(5)));
  }

  // The first write to a page costs a fault, and all sessions together fill
  // thousands: they are touched before the pause.
  HandedGate gate;
  gate.sessions.resize(GetStats().sessions_active * 9 / 8 + 64);
  gate.sessions.clear();

  MutexLock lock(&start_stop_mutex_);
  if (state_ != State::kRunning) return NotRunning();
  const int64_t pause_began_nanoseconds = context_.clock->NowNanoseconds();
  StopThreads();
  FlowOffload* const offload = context_.flow_offload.get();
  keeps_flows = keeps_flows && offload != nullptr && offload->BeginHandOver();
  HandOut(keeps_flows, &gate);
  gate.pause_began_nanoseconds = pause_began_nanoseconds;
  absl::Status status = give(gate);
  for (HandedSession& session : gate.sessions) session.upstream_fd.Release();
  if (!status.ok()) {
    if (keeps_flows) offload->CancelHandOver();
    StartThreadsAtLast();
    return status;
  }
  state_ = State::kStopped;
  context_.is_running = false;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->ForgetSessions();
  }
  if (keeps_flows) offload->LetGo();
  disconnects_.StopSource();
  // Who waits for the end of a disconnect hears that none has ended here. The
  // host's calls may hang.
  auto is_told = std::make_shared<std::promise<void>>();
  std::future<void> told = is_told->get_future();
  context_.control.Post([is_told] { is_told->set_value(); });
  told.wait_for(std::chrono::seconds(1));
  Close();
  return absl::OkStatus();
}

void Proxy::Impl::HandOut(bool keeps_flows, HandedGate* gate) {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->HandOverSessions(keeps_flows, &gate->sessions);
    gate->session_number =
        std::max(gate->session_number, worker->session_number());
  }
  gate->now_nanoseconds = context_.clock->NowNanoseconds();
  for (const std::unique_ptr<Reader>& reader : readers_) {
    gate->kernel_drops.push_back(reader->kernel_drops());
  }
  gate->is_draining = is_draining();
  gate->quarantined = context_.relay_ports.Quarantined();
  gate->stats = GetStats();
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (field.kind == ProxyStatField::Kind::kGauge)
      gate->stats.*field.value = 0;
  }
}

// The taker.

absl::Status Proxy::Impl::ListenForDisconnects() {
  absl::Status status;
  {
    MutexLock lock(&start_stop_mutex_);
    if (state_ != State::kCreated) {
      return absl::FailedPreconditionError("the Proxy was already started");
    }
    state_ = State::kTaking;
    disconnects_.KeepEvents();
    status = StartControlThreads();
    if (status.ok()) status = disconnects_.StartSource();
  }
  if (!status.ok()) Stop();
  return status;
}

absl::Status Proxy::Impl::Prepare(absl::Span<HandedSession> sessions) {
  MutexLock lock(&start_stop_mutex_);
  if (state_ != State::kTaking) {
    return absl::FailedPreconditionError("the Proxy was already started");
  }
  for (HandedSession& session : sessions) {
    if (absl::Status status = WorkerOf(session.client).Prepare(&session);
        !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status Proxy::Impl::TakeOver(HandedGate gate) {
  MutexLock lock(&start_stop_mutex_);
  if (state_ != State::kTaking) {
    return absl::FailedPreconditionError("the Proxy was already started");
  }
  // No sum or difference of such numbers overflows.
  constexpr int64_t kTimeMax = INT64_MAX / 4;
  constexpr uint64_t kSessionNumberMax = uint64_t{1} << 54;
  const auto is_time = [&gate](int64_t nanoseconds) {
    return nanoseconds >= 0 && nanoseconds <= gate.now_nanoseconds;
  };
  bool is_sound = gate.now_nanoseconds <= kTimeMax &&
                  is_time(gate.now_nanoseconds) &&
                  gate.session_number < kSessionNumberMax;
  for (const HandedPort& port : gate.quarantined) {
    is_sound = is_sound && is_time(port.since_nanoseconds);
  }
  for (const HandedSession& session : gate.sessions) {
    is_sound = is_sound && is_time(session.first_proof_nanoseconds) &&
               is_time(session.created_nanoseconds) &&
               is_time(session.last_active_nanoseconds) &&
               is_time(session.client_active_nanoseconds) &&
               session.resolve_deadline_nanoseconds >= 0 &&
               session.resolve_deadline_nanoseconds <= kTimeMax &&
               internal::SessionTable::NumberOf(session.id) < kSessionNumberMax;
  }
  if (!is_sound) {
    return absl::InvalidArgumentError("a time or an id is out of range");
  }
  if (gate.kernel_drops.size() != readers_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("numbers of ", gate.kernel_drops.size(), " listeners for ",
                     readers_.size()));
  }
  for (size_t i = 0; i < readers_.size(); ++i) {
    readers_[i]->SetKernelDrops(gate.kernel_drops[i]);
  }
  // One clock serves all processes of a host, but for those in another time
  // namespace (time_namespaces(7)).
  constexpr int64_t kTransferMaxNanoseconds = 60'000'000'000;
  int64_t shift_nanoseconds =
      context_.clock->NowNanoseconds() - gate.now_nanoseconds;
  if (shift_nanoseconds >= 0 && shift_nanoseconds < kTransferMaxNanoseconds) {
    shift_nanoseconds = 0;
  }
  for (HandedPort& port : gate.quarantined) {
    port.since_nanoseconds += shift_nanoseconds;
  }
  uint64_t session_number = gate.session_number;
  std::vector<std::vector<HandedSession*>> parts(workers_.size());
  for (HandedSession& session : gate.sessions) {
    session.first_proof_nanoseconds += shift_nanoseconds;
    session.created_nanoseconds += shift_nanoseconds;
    session.last_active_nanoseconds += shift_nanoseconds;
    session.client_active_nanoseconds += shift_nanoseconds;
    session.resolve_deadline_nanoseconds += shift_nanoseconds;
    session_number =
        std::max(session_number, internal::SessionTable::NumberOf(session.id));
    parts[context_.hash(session.client) % parts.size()].push_back(&session);
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    workers_[i]->DropAllBut(parts[i]);
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (absl::Status status =
            workers_[i]->TakeOver(std::move(parts[i]), session_number);
        !status.ok()) {
      return status;
    }
  }
  context_.relay_ports.AdoptQuarantined(gate.quarantined);
  if (gate.is_draining) Drain();
  MutexLock stats_lock(&taken_stats_mutex_);
  taken_stats_ = gate.stats;
  return absl::OkStatus();
}

}  // namespace udpgate
