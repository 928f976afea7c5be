// The parts of a Proxy, and how they are joined: proxy.cc has its life and what
// it is asked for, proxy_handover.cc what it gives to another process and takes
// from one.
#ifndef UDPGATE_PROXY_IMPL_H_
#define UDPGATE_PROXY_IMPL_H_

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
#include "absl/types/span.h"
#include "udpgate/internal/control/disconnect_router.h"
#include "udpgate/internal/gate_context.h"
#include "udpgate/internal/handover.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/network_watcher.h"
#include "udpgate/internal/reader.h"
#include "udpgate/internal/reader_thread.h"
#include "udpgate/internal/worker.h"
#include "udpgate/proxy.h"

namespace udpgate {
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
  // See DisconnectRouter.
  void Disconnect(const DisconnectTarget& target,
                  internal::DisconnectRouter::Done done) {
    disconnects_.Disconnect(target, std::move(done));
  }
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
    return disconnects_.IsSourceHealthy();
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

  internal::GateContext context_;
  internal::DisconnectRouter disconnects_;
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
  State state_ ABSL_GUARDED_BY(start_stop_mutex_) = State::kCreated;

  // What the old process has counted.
  mutable internal::Mutex taken_stats_mutex_;
  ProxyStats taken_stats_ ABSL_GUARDED_BY(taken_stats_mutex_);
};

}  // namespace udpgate

#endif  // UDPGATE_PROXY_IMPL_H_
