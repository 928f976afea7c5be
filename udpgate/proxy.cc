#include "udpgate/proxy.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/internal/client_hash.h"
#include "udpgate/internal/control/session_slice.h"
#include "udpgate/internal/error_queue.h"
#include "udpgate/internal/listen_socket.h"
#include "udpgate/internal/relay_ports.h"
#include "udpgate/internal/session_events.h"
#include "udpgate/internal/session_offload.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/internal/thread.h"
#include "udpgate/internal/upstream.h"
#include "udpgate/proxy_impl.h"

namespace udpgate {

using internal::MutexLock;
using internal::Reader;
using internal::ReaderThread;
using internal::SessionSlice;
using internal::ShardMessage;
using internal::Worker;

namespace {

// Descriptors that are not sessions': logs, Redis, DNS, 64 connections of the
// admin endpoint (AdminOptions), 64 copies at a time in a take-over
// (snapshot.cc), and what a host program has open.
constexpr int64_t kReservedDescriptors = 192;
// A worker's or a reader's own: epoll, eventfd, the listen socket.
constexpr int64_t kDescriptorsPerThread = 3;

int64_t DescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT32_MAX));
}

// Descriptors that are not sessions'.
int64_t OtherDescriptors(const ProxyOptions& options) {
  const int64_t threads = options.worker_count + 2 * options.listener_count;
  return kReservedDescriptors + kDescriptorsPerThread * threads;
}

// What MAX_SESSIONS and the descriptors allow: the reserve is kept whatever the
// setting says. Source ports are looked at where a socket is opened: only then
// is it known of which address they are, and that they have run out.
SessionLimit WorkOutSessionLimit(const ProxyOptions& options) {
  const int64_t left =
      std::max<int64_t>(DescriptorLimit() - OtherDescriptors(options), 1);
  const int64_t setting = options.limits.max_sessions;
  if (setting > 0 && setting <= left) {
    return {setting, SessionLimit::Cause::kSetting};
  }
  return {left, SessionLimit::Cause::kDescriptors};
}

int64_t WorkOutSessionsMax(const ProxyOptions& options) {
  return WorkOutSessionLimit(options).sessions_max;
}

// The kernel's table of the process's descriptors doubles as it fills, and
// where there are threads, whoever opens that descriptor waits some
// milliseconds (an RCU grace period; expand_fdtable in fs/file.c of Linux): a
// reader, and with it all clients. So let it grow once, now; to half a MiB at
// most, whatever the limit says.
void GrowDescriptorTable(int fd, int64_t descriptors) {
  constexpr int64_t kDescriptorsMax = 65536;
  const int64_t last =
      std::min({descriptors, DescriptorLimit(), kDescriptorsMax}) - 1;
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(last));
  if (copy >= 0) ::close(copy);
}

}  // namespace

Proxy::Impl::Impl(const ProxyOptions& options,
                  const ProxyDependencies& dependencies)
    : context_(options,
               dependencies.clock != nullptr ? dependencies.clock
                                             : Clock::Monotonic(),
               dependencies.sys_calls != nullptr ? dependencies.sys_calls
                                                 : internal::SysCalls::Real(),
               options.client_hash_seed != 0
                   ? internal::ClientHash(options.client_hash_seed)
                   : internal::ClientHash::Random(),
               options.relay_ports.empty() ? internal::LocalPortRange()
                                           : options.relay_ports,
               WorkOutSessionsMax(options)),
      disconnects_(&context_, dependencies.disconnects) {
  context_.resolver = dependencies.resolver;
  context_.flow_offload = dependencies.flow_offload;
  if (dependencies.session_observer != nullptr) {
    context_.session_events = std::make_unique<internal::SessionEvents>(
        dependencies.session_observer, context_.clock,
        options.session_events_max);
  }
}

absl::StatusOr<std::unique_ptr<Proxy::Impl>> Proxy::Impl::Create(
    const ProxyOptions& options, ProxyDependencies dependencies) {
  std::unique_ptr<Impl> impl(new Impl(options, dependencies));
  if (absl::Status status = impl->OpenSockets(); !status.ok()) return status;
  if (absl::Status status = impl->CreateWorkers(); !status.ok()) return status;
  return impl;
}

absl::Status Proxy::Impl::OpenSockets() {
  if (absl::Status status = internal::CheckBindAddresses(
          context_.sys_calls, context_.options.upstream_bind_addresses);
      !status.ok()) {
    return status;
  }
  absl::StatusOr<std::vector<internal::ListenSocket>> sockets =
      internal::OpenListenSockets(context_.sys_calls, context_.options,
                                  context_.hash);
  if (!sockets.ok()) return sockets.status();
  context_.listeners = *std::move(sockets);
  receive_buffer_bytes_ = context_.listeners.front().receive_buffer_bytes;
  send_buffer_bytes_ = context_.listeners.front().send_buffer_bytes;
  for (const internal::ListenSocket& socket : context_.listeners) {
    if (context_.flow_offload != nullptr) {
      const int on = 1;
      const internal::SysCallResult result = context_.sys_calls->SetSockOpt(
          socket.fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
      if (!result.ok()) {
        return internal::ErrnoToStatus(result.error,
                                       "setsockopt SO_TIMESTAMPNS");
      }
    }
    listen_addresses_.push_back(socket.address);
    receive_buffer_bytes_ =
        std::min(receive_buffer_bytes_, socket.receive_buffer_bytes);
    send_buffer_bytes_ = std::min(send_buffer_bytes_, socket.send_buffer_bytes);
  }
  GrowDescriptorTable(
      context_.listeners.front().fd.get(),
      context_.admission.sessions_max() + OtherDescriptors(context_.options));
  return absl::OkStatus();
}

absl::Status Proxy::Impl::CreateWorkers() {
  const bool has_pool = context_.options.worker_count > 0;
  const size_t worker_count =
      has_pool ? context_.options.worker_count : context_.listeners.size();
  std::vector<Worker*> workers;
  for (size_t i = 0; i < worker_count; ++i) {
    absl::StatusOr<std::unique_ptr<Worker>> worker =
        Worker::Create(&context_, static_cast<uint32_t>(i));
    if (!worker.ok()) return worker.status();
    workers.push_back(worker->get());
    context_.inboxes.push_back((*worker)->inbox());
    workers_.push_back(*std::move(worker));
  }
  // Best effort: without it a session notices by its backend's silence.
  absl::StatusOr<std::unique_ptr<internal::NetworkWatcher>> watcher =
      internal::NetworkWatcher::Create(context_.sys_calls);
  if (watcher.ok()) {
    network_watcher_ = *std::move(watcher);
    (void)workers.front()->AddNetworkWatcher(network_watcher_.get());
  }
  for (size_t i = 0; i < context_.listeners.size(); ++i) {
    absl::StatusOr<std::unique_ptr<Reader>> reader =
        Reader::Create(&context_, static_cast<uint16_t>(i), workers);
    if (!reader.ok()) return reader.status();
    readers_.push_back(*std::move(reader));
    if (!has_pool) {
      Reader* const raw_reader = readers_.back().get();
      if (absl::Status status = workers[i]->AddReader(
              raw_reader->fd(), [raw_reader] { raw_reader->ReadBatch(); },
              [raw_reader] { raw_reader->TakeClientErrors(); });
          !status.ok()) {
        return status;
      }
      continue;
    }
    // Where listeners are more than workers, the last ones have no host.
    reader_threads_.push_back(std::make_unique<ReaderThread>(
        readers_.back().get(), i < workers.size() ? workers[i] : nullptr));
    if (absl::Status status = reader_threads_.back()->Attach(); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status Proxy::Impl::Start() {
  absl::Status status;
  {
    MutexLock lock(&start_stop_mutex_);
    const bool is_taking = state_ == State::kTaking;
    if (state_ != State::kCreated && !is_taking) {
      return absl::FailedPreconditionError(state_ == State::kRunning
                                               ? "the Proxy was already started"
                                               : "the Proxy was stopped");
    }
    state_ = State::kRunning;
    context_.is_running = true;
    if (context_.flow_offload != nullptr) context_.flow_offload->StartAdopted();
    if (is_taking) {
      // From here on the other process has no sessions any more.
      SetListenOptions();
      StartThreadsAtLast();
    } else {
      status = StartControlThreads();
      if (status.ok()) status = StartThreads();
      if (status.ok()) status = disconnects_.StartSource();
    }
  }
  if (!status.ok()) {
    Stop();
    return status;
  }
  disconnects_.ReleaseEvents();
  return absl::OkStatus();
}

absl::Status Proxy::Impl::StartControlThreads() {
  absl::Status status = context_.control.Start();
  if (status.ok() && context_.session_events != nullptr) {
    status = context_.session_events->Start();
  }
  return status;
}

// The sockets of another gate were left as they were, in case it goes on.
void Proxy::Impl::SetListenOptions() {
  receive_buffer_bytes_ = INT64_MAX;
  send_buffer_bytes_ = INT64_MAX;
  for (internal::ListenSocket& socket : context_.listeners) {
    (void)internal::SetListenOptions(context_.sys_calls, context_.options,
                                     &socket);
    internal::EnableErrorQueue(context_.sys_calls, socket.fd.get(),
                               socket.family);
    receive_buffer_bytes_ =
        std::min(receive_buffer_bytes_, socket.receive_buffer_bytes);
    send_buffer_bytes_ = std::min(send_buffer_bytes_, socket.send_buffer_bytes);
  }
}

void Proxy::Impl::StartThreadsAtLast() {
  // Another program may have taken the place of one, and the players are worth
  // the wait.
  bool is_logged = false;
  for (absl::Status status = StartThreads(); !status.ok();
       status = StartThreads()) {
    if (!is_logged) {
      context_.control.PostLog(
          LogSeverity::kError,
          absl::StrCat("cannot start worker threads; forwarding is paused, "
                       "retrying: ",
                       status.message()));
    }
    is_logged = true;
    StopThreads();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

absl::Status Proxy::Impl::StartThreads() {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->ClearStop();
  for (const std::unique_ptr<ReaderThread>& reader : reader_threads_) {
    reader->ClearStop();
    // The process that the sockets were taken over from has changed it. If it
    // cannot be changed back, waits stay short.
    (void)reader->SetWaitMax(ReaderThread::kWaitMax);
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    absl::StatusOr<std::thread> thread = internal::StartThread(
        absl::StrCat("udpgate-work-", i), internal::ThreadRole::kDataPlane,
        [worker = workers_[i].get()] { worker->Run(); });
    if (!thread.ok()) return thread.status();
    threads_.push_back(*std::move(thread));
  }
  for (size_t i = 0; i < reader_threads_.size(); ++i) {
    absl::StatusOr<std::thread> thread = internal::StartThread(
        absl::StrCat("udpgate-read-", i), internal::ThreadRole::kDataPlane,
        [reader = reader_threads_[i].get()] { reader->Run(); });
    if (!thread.ok()) return thread.status();
    threads_.push_back(*std::move(thread));
  }
  return absl::OkStatus();
}

void Proxy::Impl::Stop() {
  MutexLock lock(&start_stop_mutex_);
  const State before = std::exchange(state_, State::kStopped);
  if (before == State::kStopped) return;
  context_.is_running = false;
  // First what a disconnect may wait for, and with it the source's thread.
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->inbox()->Close();
  }
  disconnects_.ReleaseEvents();
  if (before != State::kCreated) disconnects_.StopSource();
  StopThreads();
  if (context_.session_events != nullptr) context_.session_events->BeginStop();
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->EndAllSessions();
  }
  Close();
}

void Proxy::Impl::StopThreads() {
  for (const std::unique_ptr<ReaderThread>& reader : reader_threads_) {
    reader->Stop();
  }
  for (const std::unique_ptr<Worker>& worker : workers_) worker->Stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Proxy::Impl::Close() {
  if (context_.session_events != nullptr) context_.session_events->Stop();
  context_.control.Stop();
  for (internal::ListenSocket& socket : context_.listeners) socket.fd.Reset();
}

absl::Status Proxy::Impl::SetLimits(const ProxyLimits& limits) {
  ProxyOptions options = context_.options;
  options.limits = limits;
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  {
    MutexLock lock(&context_.limits_mutex);
    context_.limits = limits;
    // Under the lock, so that two calls leave the same one everywhere.
    context_.admission.SetLimits(limits, WorkOutSessionsMax(options));
    context_.limits_version.fetch_add(1, std::memory_order_release);
  }
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->inbox()->Ring();
  }
  return absl::OkStatus();
}

SessionLimit Proxy::Impl::session_limit() const {
  const int64_t ports = context_.relay_ports.capacity();
  const int64_t sessions_max = context_.admission.sessions_max();
  if (ports < sessions_max) return {ports, SessionLimit::Cause::kSourcePorts};
  MutexLock lock(&context_.limits_mutex);
  return {sessions_max, context_.limits.max_sessions == sessions_max
                            ? SessionLimit::Cause::kSetting
                            : SessionLimit::Cause::kDescriptors};
}

bool Proxy::Impl::IsAlive(absl::Duration within) const {
  constexpr absl::Duration kLookInterval = absl::Milliseconds(2);
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(within);
  std::vector<uint64_t> iteration_counts;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    iteration_counts.push_back(worker->iteration_count());
    worker->inbox()->Ring();
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    while (workers_[i]->iteration_count() == iteration_counts[i]) {
      if (!context_.is_running ||
          std::chrono::steady_clock::now() >= deadline) {
        return false;
      }
      std::this_thread::sleep_for(absl::ToChronoNanoseconds(kLookInterval));
    }
  }
  return context_.is_running;
}

ProxyStats Proxy::Impl::GetStats() const {
  ProxyStats stats;
  {
    MutexLock lock(&taken_stats_mutex_);
    stats = taken_stats_;
  }
  for (const std::unique_ptr<Reader>& reader : readers_) {
    reader->counters().AddTo(&stats);
  }
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->counters().AddTo(&stats);
    const uint64_t queued = worker->inbox()->datagrams_waiting();
    stats.datagrams_held += queued;
    stats.datagrams_queued += queued;
    stats.messages_queued += worker->inbox()->messages_waiting();
  }
  disconnects_.AddStats(&stats);
  stats.relay_ports_in_use += context_.relay_ports.in_use();
  stats.relay_ports_quarantined +=
      context_.relay_ports.quarantined(context_.clock->NowNanoseconds());
  stats.quarantined_ports_taken +=
      context_.relay_ports.quarantined_ports_taken();
  stats.backends_held_off +=
      context_.backend_holdoff.count(context_.clock->NowNanoseconds());
  stats.backend_holdoff_overflows += context_.backend_holdoff.overflows();
  stats.client_refusals +=
      context_.client_refusals.load(std::memory_order_relaxed);
  stats.client_error_pauses +=
      context_.client_error_pauses.load(std::memory_order_relaxed);
  stats.events_suppressed += context_.control.suppressed();
  if (context_.session_events != nullptr) {
    stats.session_events_dropped += context_.session_events->dropped();
    stats.session_events_queued += context_.session_events->waiting();
  }
  if (context_.flow_offload != nullptr) {
    internal::Counters late;
    internal::CountRelayed(context_.flow_offload->LateActivity(), &late);
    late.AddTo(&stats);
  }
  return stats;
}

void Proxy::Impl::ForEachSession(
    const std::function<void(const SessionInfo&)>& visit) const {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    uint32_t slot = 0;
    do {
      if (!context_.is_running) return;
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

// The facade.

absl::StatusOr<std::unique_ptr<Proxy>> Proxy::Create(
    ProxyOptions options, ProxyDependencies dependencies) {
  absl::Status status = options.Validate();
  if (dependencies.resolver == nullptr) {
    status.Update(absl::InvalidArgumentError("the resolver is null"));
  }
  if (!status.ok()) {
    for (const int fd : options.listen_fds) internal::UniqueFd close(fd);
    return status;
  }
  absl::StatusOr<std::unique_ptr<Impl>> impl =
      Impl::Create(options, std::move(dependencies));
  if (!impl.ok()) return impl.status();
  return std::unique_ptr<Proxy>(new Proxy(*std::move(impl)));
}

Proxy::Proxy(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Proxy::~Proxy() { Stop(); }

absl::Status Proxy::Start() { return impl_->Start(); }

void Proxy::Stop() { impl_->Stop(); }

void Proxy::Drain() { impl_->Drain(); }

bool Proxy::is_draining() const { return impl_->is_draining(); }

absl::Status Proxy::SetLimits(const ProxyLimits& limits) {
  return impl_->SetLimits(limits);
}

void Proxy::Disconnect(const DisconnectTarget& target,
                       absl::AnyInvocable<void(int64_t ended_count)> done) {
  impl_->Disconnect(target, std::move(done));
}

bool Proxy::IsAlive(absl::Duration within) const {
  return impl_->IsAlive(within);
}

ProxyStats Proxy::GetStats() const { return impl_->GetStats(); }

void Proxy::ForEachSession(
    const std::function<void(const SessionInfo& session)>& visit) const {
  impl_->ForEachSession(visit);
}

const std::vector<SocketAddress>& Proxy::listen_addresses() const {
  return impl_->listen_addresses();
}

int64_t Proxy::receive_buffer_bytes() const {
  return impl_->receive_buffer_bytes();
}

int64_t Proxy::send_buffer_bytes() const { return impl_->send_buffer_bytes(); }

SessionLimit Proxy::session_limit() const { return impl_->session_limit(); }

internal::Handover* Proxy::handover() { return impl_.get(); }

}  // namespace udpgate
