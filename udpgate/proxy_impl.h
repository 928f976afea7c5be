// The parts of a Proxy, and how they are joined: proxy.cc has its life and what
// it is asked for, proxy_handover.cc what it gives to another process and takes
// from one.
#ifndef UDPGATE_PROXY_IMPL_H_
#define UDPGATE_PROXY_IMPL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "udpgate/internal/gate_context.h"
#include "udpgate/internal/handover.h"
#include "udpgate/internal/inbox.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/network_watcher.h"
#include "udpgate/internal/reader.h"
#include "udpgate/internal/reader_thread.h"
#include "udpgate/internal/worker.h"
#include "udpgate/logging.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace internal {

// One slice of sessions on its way from a shard to who asked for it. Destroyed
// unanswered, as a closed inbox does, it answers "none". `T` is SessionInfo or
// HandedSession.
template <typename T>
class SessionSlice {
 public:
  struct Answer {
    Mutex mutex;
    ConditionVariable changed;
    bool is_there ABSL_GUARDED_BY(mutex) = false;
    std::vector<T> sessions ABSL_GUARDED_BY(mutex);
    uint32_t next_slot ABSL_GUARDED_BY(mutex) = 0;

    // Waits for it.
    std::vector<T> Take(uint32_t* slot) {
      MutexLock lock(&mutex);
      while (!is_there) changed.Wait(&mutex);
      *slot = next_slot;
      return std::move(sessions);
    }
  };

  explicit SessionSlice(std::shared_ptr<Answer> answer)
      : answer_(std::move(answer)) {}
  SessionSlice(SessionSlice&&) = default;
  ~SessionSlice() {
    if (answer_ != nullptr) (*this)({}, 0);
  }

  void operator()(std::vector<T> sessions, uint32_t next_slot) {
    MutexLock lock(&answer_->mutex);
    if (answer_->is_there) return;
    answer_->is_there = true;
    answer_->sessions = std::move(sessions);
    answer_->next_slot = next_slot;
    answer_->changed.SignalAll();
  }

 private:
  std::shared_ptr<Answer> answer_;
};

}  // namespace internal

class Proxy::Impl : public internal::Handover {
 public:
  static absl::StatusOr<std::unique_ptr<Impl>> Create(
      const ProxyOptions& options, ProxyDependencies dependencies);

  absl::Status Start();
  void Stop();
  void Drain() { context_.is_draining.store(true, std::memory_order_relaxed); }
  bool is_draining() const {
    return context_.is_draining.load(std::memory_order_relaxed);
  }
  absl::Status SetLimits(const ProxyLimits& limits);
  // Concerns those who began, or asked for their backend, by now.
  void Disconnect(const DisconnectTarget& target,
                  internal::ShardMessage::DisconnectDone done) {
    Disconnect(target, context_.clock->NowNanoseconds(), std::move(done));
  }
  // The same by `came_nanoseconds`.
  void Disconnect(const DisconnectTarget& target, int64_t came_nanoseconds,
                  internal::ShardMessage::DisconnectDone done);
  bool IsAlive(absl::Duration within) const;
  ProxyStats GetStats() const;
  void ForEachSession(
      const std::function<void(const SessionInfo&)>& visit) const;

  const std::vector<SocketAddress>& listen_addresses() const {
    return listen_addresses_;
  }
  int64_t receive_buffer_bytes() const { return receive_buffer_bytes_; }
  int64_t send_buffer_bytes() const { return send_buffer_bytes_; }
  SessionLimit session_limit() const;

  uint64_t hash_seed() const override { return context_.hash.seed(); }
  absl::StatusOr<std::vector<internal::UniqueFd>> CopyListenSockets() override;
  std::map<std::string, internal::UniqueFd> CopyFlowDescriptors() override;
  absl::Status VisitSockets(
      absl::FunctionRef<absl::Status(std::vector<internal::HandedSession>)>
          visit) override;
  absl::Status HandOver(
      bool keeps_flows,
      absl::FunctionRef<absl::Status(const internal::HandedGate&)> give)
      override;
  absl::Status ListenForDisconnects() override;
  bool HearsDisconnects() const override {
    return disconnects_ == nullptr || disconnects_->Health().ok();
  }
  bool KeepsFlows() const override {
    return context_.flow_offload != nullptr &&
           context_.flow_offload->has_adopted();
  }
  absl::Status Prepare(absl::Span<internal::HandedSession> sessions) override;
  absl::Status TakeOver(internal::HandedGate gate) override;

 private:
  // kTaking: between ListenForDisconnects and Start.
  enum class State { kCreated, kTaking, kRunning, kStopped };

  Impl(const ProxyOptions& options, const ProxyDependencies& dependencies);

  absl::Status OpenSockets();
  absl::Status CreateWorkers();
  absl::Status StartControlThreads()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);
  absl::Status StartDisconnects()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);
  // The data plane's.
  absl::Status StartThreads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);
  // However long it takes: for sessions that nobody else has.
  void StartThreadsAtLast() ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);
  void SetListenOptions() ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);
  void StopThreads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);
  internal::Worker& WorkerOf(const SocketAddress& client) const {
    return *workers_[context_.hash(client) % workers_.size()];
  }
  void HandOut(bool keeps_flows, internal::HandedGate* gate)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);
  // Ends what is left once the data plane has stopped.
  void Close() ABSL_EXCLUSIVE_LOCKS_REQUIRED(start_stop_mutex_);

  // What the disconnect source brings, and when.
  struct Event {
    int64_t came_nanoseconds;
    absl::StatusOr<DisconnectTarget> target;
  };
  void TakeEvent(absl::StatusOr<DisconnectTarget> target);
  void ReleaseEvents();
  void HandleEvent(Event event);
  // At a limited rate: whoever can publish could fill the log.
  void LogUselessEvent(absl::string_view why);
  // From the control thread: a slow log must not delay the caller.
  void Log(LogSeverity severity, std::string line);
  // One that may concern several sessions, or several shards.
  void DisconnectInParts(const DisconnectTarget& target,
                         int64_t came_nanoseconds,
                         internal::ShardMessage::DisconnectDone done);
  // Ends a disconnect that concerns no session.
  void Finish(internal::ShardMessage::DisconnectDone done);

  internal::GateContext context_;
  const std::shared_ptr<DisconnectSource> disconnects_;
  LogRateLimiter event_log_limiter_;
  std::vector<SocketAddress> listen_addresses_;
  int64_t receive_buffer_bytes_ = 0;
  int64_t send_buffer_bytes_ = 0;
  // Null where the host refuses one. Read by the first worker.
  std::unique_ptr<internal::NetworkWatcher> network_watcher_;
  std::vector<std::unique_ptr<internal::Worker>> workers_;
  std::vector<std::unique_ptr<internal::Reader>> readers_;
  std::vector<std::unique_ptr<internal::ReaderThread>> reader_threads_;
  std::vector<std::thread> threads_;

  // Held by Start and Stop from end to end, so that they cannot cross.
  internal::Mutex start_stop_mutex_;
  std::atomic<State> state_{State::kCreated};

  // While another gate is taken over from: what the disconnect source has
  // brought meanwhile.
  internal::Mutex events_mutex_;
  internal::ConditionVariable events_changed_;
  bool keeps_events_ ABSL_GUARDED_BY(events_mutex_) = false;
  std::vector<Event> kept_events_ ABSL_GUARDED_BY(events_mutex_);

  // What that gate has counted.
  mutable internal::Mutex taken_stats_mutex_;
  ProxyStats taken_stats_ ABSL_GUARDED_BY(taken_stats_mutex_);

  // Disconnects come from any thread.
  std::atomic<uint64_t> disconnects_received_{0};
  std::atomic<uint64_t> disconnects_invalid_{0};
  std::atomic<uint64_t> disconnects_matched_{0};
  std::atomic<uint64_t> disconnects_unmatched_{0};
  std::atomic<uint64_t> disconnects_ambiguous_{0};
};

}  // namespace udpgate

#endif  // UDPGATE_PROXY_IMPL_H_
