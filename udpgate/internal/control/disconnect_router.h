// Routes disconnect events to the shards that have the sessions.
#ifndef UDPGATE_INTERNAL_CONTROL_DISCONNECT_ROUTER_H_
#define UDPGATE_INTERNAL_CONTROL_DISCONNECT_ROUTER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {

// Disconnects come from the disconnect source and from callers of
// Proxy::Disconnect. No disconnect is dropped while the gateway runs: a caller
// waits if the shard's queue of disconnects is full.
//
// Threads: any. It must outlive the control thread's last call.
class DisconnectRouter {
 public:
  using Done = ShardMessage::DisconnectDone;

  // `context` must outlive it. `source` may be null.
  DisconnectRouter(GateContext* context,
                   std::shared_ptr<DisconnectSource> source);
  DisconnectRouter(const DisconnectRouter&) = delete;
  DisconnectRouter& operator=(const DisconnectRouter&) = delete;

  absl::Status StartSource();
  // Returns after the source's last event was handled.
  void StopSource();
  // Also true if there is no source.
  bool IsSourceHealthy() const;

  // From now on the events of the source are kept, `disconnect_queue_size` of
  // them at most; then the source waits.
  void KeepEvents();
  // Handles the events that were kept, in order and before all that follow.
  void ReleaseEvents();

  // Concerns sessions that were created, or whose backend was resolved, before
  // the call. `done` may be null. It is called on the control thread, unless
  // that has stopped.
  void Disconnect(const DisconnectTarget& target, Done done) {
    Disconnect(target, context_->clock->NowNanoseconds(), std::move(done));
  }

  void AddStats(ProxyStats* stats) const;

 private:
  // What the source reported, and when it happened.
  struct Event {
    int64_t came_nanoseconds;
    absl::StatusOr<DisconnectTarget> target;
  };
  // A message, and the number of the shard that it is for.
  struct Part {
    size_t shard;
    ShardMessage message;
  };

  void TakeEvent(absl::StatusOr<DisconnectTarget> target);
  void HandleEvent(Event event);
  // At a limited rate: whoever can publish could fill the log.
  void LogIgnoredEvent(absl::string_view why);

  void Disconnect(const DisconnectTarget& target, int64_t came_nanoseconds,
                  Done done);
  // False if the port fits several sessions: then none ends.
  bool IsUnambiguous(const DisconnectTarget& target);
  // Those of the sessions, or of the shards, that it may concern.
  std::vector<Part> PartsOf(const DisconnectTarget& target) const;
  Part PartOfClient(const SocketAddress& client) const;
  void SendParts(std::vector<Part> parts, Done done);
  void Send(Part part, Done done);
  void CountUnmatched() {
    disconnects_unmatched_.fetch_add(1, std::memory_order_relaxed);
  }
  // Reports that no session has ended.
  void ReportNone(Done done);

  GateContext* const context_;
  const std::shared_ptr<DisconnectSource> source_;
  LogRateLimiter log_limiter_;

  Mutex events_mutex_;
  ConditionVariable events_changed_;
  bool keeps_events_ ABSL_GUARDED_BY(events_mutex_) = false;
  std::vector<Event> kept_events_ ABSL_GUARDED_BY(events_mutex_);

  std::atomic<uint64_t> disconnects_received_{0};
  std::atomic<uint64_t> disconnects_invalid_{0};
  std::atomic<uint64_t> disconnects_matched_{0};
  std::atomic<uint64_t> disconnects_unmatched_{0};
  std::atomic<uint64_t> disconnects_ambiguous_{0};
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_DISCONNECT_ROUTER_H_
