#include "udpgate/internal/control/data_plane.h"

#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/control/descriptor_limits.h"
#include "udpgate/internal/control/session_slice.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/session/upstream.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/util/thread.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace internal {
namespace {

// How often a caller of IsAlive checks, and a start of threads is retried.
constexpr auto kAliveCheckInterval = std::chrono::milliseconds(2);
constexpr auto kThreadRetryInterval = std::chrono::milliseconds(1);

// The wait of a reader while a takeover is imminent, and for how much longer
// than its last wait it may take to use it.
constexpr absl::Duration kShortWaitMax = absl::Milliseconds(1);
constexpr absl::Duration kWaitMargin = absl::Milliseconds(5);

}  // namespace

absl::Status DataPlane::Create() {
  if (absl::Status status = OpenSockets(); !status.ok()) return status;
  if (absl::Status status = CreateWorkers(); !status.ok()) return status;
  const bool has_threads = context_->options.worker_count > 0;
  for (size_t i = 0; i < context_->listeners.size(); ++i) {
    if (absl::Status status = CreateReader(i, has_threads); !status.ok()) {
      return status;
    }
  }
  return CreateHopReader();
}

absl::Status DataPlane::OpenSockets() {
  if (absl::Status status = CheckBindAddresses(
          context_->sys_calls, context_->options.upstream_bind_addresses,
          context_->options.binds_absent_addresses);
      !status.ok()) {
    return status;
  }
  absl::StatusOr<std::vector<ListenSocket>> sockets =
      OpenListenSockets(context_->sys_calls, context_->options, context_->hash);
  if (!sockets.ok()) return sockets.status();
  context_->listeners = *std::move(sockets);
  for (const ListenSocket& socket : context_->listeners) {
    listen_addresses_.push_back(socket.address);
    if (context_->flow_offload == nullptr) continue;
    const int on = 1;
    const SysCallResult result = context_->sys_calls->SetSockOpt(
        socket.fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
    if (!result.ok()) {
      return ErrnoToStatus(result.error, "setsockopt SO_TIMESTAMPNS");
    }
  }
  // In a takeover the old process still has the address.
  const bool is_takeover = !context_->options.listen_fds.empty() &&
                           context_->options.client_hash_seed != 0;
  if (context_->hop != nullptr && !is_takeover) {
    if (absl::Status status = context_->hop->Open(); !status.ok()) {
      return status;
    }
  }
  NoteBufferSizes();
  GrowDescriptorTable(context_->listeners.front().fd.get(), context_->options,
                      context_->admission.sessions_max());
  return absl::OkStatus();
}

void DataPlane::NoteBufferSizes() {
  receive_buffer_bytes_ = INT64_MAX;
  send_buffer_bytes_ = INT64_MAX;
  for (const ListenSocket& socket : context_->listeners) {
    receive_buffer_bytes_ =
        std::min(receive_buffer_bytes_, socket.receive_buffer_bytes);
    send_buffer_bytes_ = std::min(send_buffer_bytes_, socket.send_buffer_bytes);
  }
}

absl::Status DataPlane::CreateWorkers() {
  const size_t worker_count = context_->options.worker_count > 0
                                  ? context_->options.worker_count
                                  : context_->listeners.size();
  for (size_t i = 0; i < worker_count; ++i) {
    absl::StatusOr<std::unique_ptr<Worker>> worker =
        Worker::Create(context_, static_cast<uint32_t>(i));
    if (!worker.ok()) return worker.status();
    context_->inboxes.push_back((*worker)->inbox());
    workers_.push_back(*std::move(worker));
  }
  AddNetworkWatcher();
  return absl::OkStatus();
}

// Best effort: without it a session depends on its backend's silence.
void DataPlane::AddNetworkWatcher() {
  absl::StatusOr<std::unique_ptr<NetworkWatcher>> watcher =
      NetworkWatcher::Create(context_->sys_calls);
  if (!watcher.ok()) return;
  network_watcher_ = *std::move(watcher);
  (void)workers_.front()->AddNetworkWatcher(network_watcher_.get());
}

absl::Status DataPlane::CreateReader(size_t index, bool has_thread) {
  std::vector<Worker*> workers;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    workers.push_back(worker.get());
  }
  absl::StatusOr<std::unique_ptr<Reader>> created =
      Reader::Create(context_, static_cast<uint16_t>(index), workers);
  if (!created.ok()) return created.status();
  readers_.push_back(*std::move(created));
  Reader* const reader = readers_.back().get();
  if (!has_thread) {
    return workers[index]->AddReader(
        reader->fd(), [reader] { reader->ReadBatch(); },
        [reader] { reader->TakeClientErrors(); });
  }
  // If there are more listeners than workers, the last ones have no host.
  reader_threads_.push_back(std::make_unique<ReaderThread>(
      reader, index < workers.size() ? workers[index] : nullptr));
  return reader_threads_.back()->Attach();
}

absl::Status DataPlane::CreateHopReader() {
  if (context_->hop == nullptr) return absl::OkStatus();
  std::vector<Worker*> workers;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    workers.push_back(worker.get());
  }
  absl::StatusOr<std::unique_ptr<HopReader>> created =
      HopReader::Create(context_, std::move(workers));
  if (!created.ok()) return created.status();
  hop_reader_ = *std::move(created);
  return absl::OkStatus();
}

absl::Status DataPlane::StartThreads() {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->ClearStop();
  if (hop_reader_ != nullptr) {
    hop_reader_->ClearStop();
    absl::StatusOr<std::thread> thread =
        StartThread("udpgate-hop", ThreadRole::kDataPlane,
                    [reader = hop_reader_.get()] { reader->Run(); });
    if (!thread.ok()) return thread.status();
    threads_.push_back(*std::move(thread));
  }
  for (const std::unique_ptr<ReaderThread>& reader : reader_threads_) {
    reader->ClearStop();
    // The process that the sockets were taken over from has changed it. If it
    // cannot be changed back, waits stay short.
    (void)reader->SetWaitMax(ReaderThread::kWaitMax);
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    absl::StatusOr<std::thread> thread =
        StartThread(absl::StrCat("udpgate-work-", i), ThreadRole::kDataPlane,
                    [worker = workers_[i].get()] { worker->Run(); });
    if (!thread.ok()) return thread.status();
    threads_.push_back(*std::move(thread));
  }
  for (size_t i = 0; i < reader_threads_.size(); ++i) {
    absl::StatusOr<std::thread> thread =
        StartThread(absl::StrCat("udpgate-read-", i), ThreadRole::kDataPlane,
                    [reader = reader_threads_[i].get()] { reader->Run(); });
    if (!thread.ok()) return thread.status();
    threads_.push_back(*std::move(thread));
  }
  return absl::OkStatus();
}

void DataPlane::StartThreadsWithRetry() {
  bool is_logged = false;
  for (absl::Status status = StartThreads(); !status.ok();
       status = StartThreads()) {
    if (!is_logged) {
      context_->control.PostLog(
          LogSeverity::kError,
          absl::StrCat("cannot start worker threads; forwarding is paused, "
                       "retrying: ",
                       status.message()));
    }
    is_logged = true;
    StopThreads();
    std::this_thread::sleep_for(kThreadRetryInterval);
  }
}

void DataPlane::StopThreads() {
  for (const std::unique_ptr<ReaderThread>& reader : reader_threads_) {
    reader->Stop();
  }
  for (const std::unique_ptr<Worker>& worker : workers_) worker->Stop();
  if (hop_reader_ != nullptr) hop_reader_->Stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void DataPlane::SetListenOptions() {
  for (ListenSocket& socket : context_->listeners) {
    (void)internal::SetListenOptions(context_->sys_calls, context_->options,
                                     &socket);
    EnableErrorQueue(context_->sys_calls, socket.fd.get(), socket.family);
  }
  NoteBufferSizes();
}

void DataPlane::CloseInboxes() {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->inbox()->Close();
  }
}

void DataPlane::EndAllSessions() {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->EndAllSessions();
  }
}

void DataPlane::CloseListenSockets() {
  for (ListenSocket& socket : context_->listeners) socket.fd.Reset();
  if (context_->hop != nullptr) context_->hop->Close();
}

void DataPlane::ApplyLimits() {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->inbox()->Ring();
  }
}

std::vector<RestoreOrder> DataPlane::OrdersOf(
    bool takes_other_relays, std::vector<RestoreTask>* tasks) const {
  std::vector<RestoreOrder> orders(workers_.size());
  for (RestoreOrder& order : orders) {
    order.takes_other_relays = takes_other_relays;
  }
  for (RestoreTask& task : *tasks) {
    if (task.is_done) continue;
    orders[ShardOf(task.session->client)].tasks.push_back(&task);
  }
  return orders;
}

void DataPlane::Restore(bool takes_other_relays,
                        std::vector<RestoreTask>* tasks) {
  std::vector<RestoreOrder> orders = OrdersOf(takes_other_relays, tasks);
  for (size_t i = 0; i < workers_.size(); ++i) workers_[i]->Restore(&orders[i]);
}

void DataPlane::PostRestore(bool takes_other_relays,
                            std::vector<RestoreTask>* tasks,
                            const std::shared_ptr<void>& finished) {
  std::vector<RestoreOrder> orders = OrdersOf(takes_other_relays, tasks);
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (orders[i].tasks.empty()) continue;
    orders[i].finished = finished;
    ShardMessage message;
    message.kind = ShardMessage::Kind::kRestore;
    message.restore = std::make_unique<RestoreOrder>(std::move(orders[i]));
    workers_[i]->inbox()->Post(std::move(message));
  }
}

void DataPlane::Supersede(const absl::flat_hash_set<uint64_t>& ids) {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->Supersede(ids);
  }
}

void DataPlane::SupersedeAll() {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    ShardMessage message;
    message.kind = ShardMessage::Kind::kSupersedeAll;
    worker->inbox()->Post(std::move(message));
  }
}

bool DataPlane::IsAlive(absl::Duration within) const {
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(within);
  std::vector<uint64_t> iteration_counts;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    iteration_counts.push_back(worker->iteration_count());
    worker->inbox()->Ring();
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    while (workers_[i]->iteration_count() == iteration_counts[i]) {
      if (!context_->is_running ||
          std::chrono::steady_clock::now() >= deadline) {
        return false;
      }
      std::this_thread::sleep_for(kAliveCheckInterval);
    }
  }
  return context_->is_running;
}

void DataPlane::AddStats(ProxyStats* stats) const {
  for (const std::unique_ptr<Reader>& reader : readers_) {
    reader->counters().AddTo(stats);
  }
  if (hop_reader_ != nullptr) hop_reader_->counters().AddTo(stats);
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->counters().AddTo(stats);
    const uint64_t queued = worker->inbox()->datagrams_waiting();
    stats->datagrams_held += queued;
    stats->datagrams_queued += queued;
    stats->messages_queued += worker->inbox()->messages_waiting();
  }
}

void DataPlane::VisitSessions(
    absl::FunctionRef<void(const SessionInfo&)> visit) const {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    uint32_t slot = 0;
    do {
      if (!context_->is_running) return;
      auto result = std::make_shared<SessionSlice<SessionInfo>::Result>();
      ShardMessage message;
      message.kind = ShardMessage::Kind::kListSessions;
      message.session.slot = slot;
      message.list_done = SessionSlice<SessionInfo>(result);
      worker->inbox()->Post(std::move(message));
      for (const SessionInfo& session : result->Take(&slot)) visit(session);
    } while (slot != 0);
  }
}

absl::Status DataPlane::VisitSockets(
    absl::FunctionRef<absl::Status(std::vector<HandedSession>)> visit) const {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    uint32_t slot = 0;
    do {
      if (!context_->is_running) {
        return absl::FailedPreconditionError("the gateway is not running");
      }
      auto result = std::make_shared<SessionSlice<HandedSession>::Result>();
      ShardMessage message;
      message.kind = ShardMessage::Kind::kCopySockets;
      message.session.slot = slot;
      message.copy_done = SessionSlice<HandedSession>(result);
      worker->inbox()->Post(std::move(message));
      if (absl::Status status = visit(result->Take(&slot)); !status.ok()) {
        return status;
      }
    } while (slot != 0);
  }
  return absl::OkStatus();
}

void DataPlane::ShortenWaits() {
  for (const std::unique_ptr<ReaderThread>& reader : reader_threads_) {
    (void)reader->SetWaitMax(kShortWaitMax);
  }
  if (reader_threads_.empty()) return;
  std::this_thread::sleep_for(
      absl::ToChronoNanoseconds(ReaderThread::kWaitMax + kWaitMargin));
}

void DataPlane::HandOver(bool keeps_flows, HandedGate* gate) {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->HandOverSessions(keeps_flows, &gate->sessions);
    gate->session_number =
        std::max(gate->session_number, worker->session_number());
  }
  for (const std::unique_ptr<Reader>& reader : readers_) {
    gate->kernel_drops.push_back(reader->kernel_drops());
  }
}

void DataPlane::ForgetSessions() {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->ForgetSessions();
  }
}

absl::Status DataPlane::Prepare(absl::Span<HandedSession> sessions) {
  handed_tags_.Restore(sessions, context_->resolver.get());
  for (HandedSession& session : sessions) {
    Worker& worker = *workers_[ShardOf(session.client)];
    if (absl::Status status = worker.Prepare(&session); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status DataPlane::TakeOver(HandedGate* gate) {
  if (gate->kernel_drops.size() != readers_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("kernel_drops of ", gate->kernel_drops.size(),
                     " listening sockets, expected ", readers_.size()));
  }
  for (size_t i = 0; i < readers_.size(); ++i) {
    readers_[i]->SetKernelDrops(gate->kernel_drops[i]);
  }
  handed_tags_.Restore(absl::MakeSpan(gate->sessions),
                       context_->resolver.get());
  handed_tags_ = HandedTags();
  uint64_t session_number = gate->session_number;
  std::vector<std::vector<HandedSession*>> parts(workers_.size());
  for (HandedSession& session : gate->sessions) {
    session_number =
        std::max(session_number, SessionTable::NumberOf(session.id));
    parts[ShardOf(session.client)].push_back(&session);
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
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace udpgate
