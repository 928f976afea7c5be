// The data plane: listening sockets, shards, and the threads that run them.
#ifndef UDPGATE_INTERNAL_CONTROL_DATA_PLANE_H_
#define UDPGATE_INTERNAL_CONTROL_DATA_PLANE_H_

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "udpgate/internal/control/handed_tags.h"
#include "udpgate/internal/net/network_watcher.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/hop_reader.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/internal/shard/reader_thread.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Threads: what is const, VisitSessions, VisitSockets, ApplyLimits, PostRestore
// and SupersedeAll from any thread. The rest by one thread at a time: the one
// that starts, stops or hands over the gateway.
class DataPlane {
 public:
  // `context` must outlive it. `Create` comes before everything else.
  explicit DataPlane(GateContext* context) : context_(context) {}
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  // Opens the listening sockets, and creates shards and readers. On an error
  // the data plane can only be destroyed.
  absl::Status Create();

  // Starts the threads. On an error some may run.
  absl::Status StartThreads();
  // The same, but retries until it succeeds: other processes must not be able
  // to end sessions that only this process has.
  void StartThreadsWithRetry();
  // Returns when all threads have ended.
  void StopThreads();

  // Sets this gateway's options on listening sockets that were taken over. They
  // keep those of the old process until then, in case it continues.
  void SetListenOptions();

  // From now on no message reaches a shard, and nobody waits for one.
  void CloseInboxes();
  // The rest is for stopped threads.
  void EndAllSessions();
  void CloseListenSockets();

  // Makes the shards take the limits of the context.
  void ApplyLimits();

  // Restores those of `tasks` that are not done, see RestoreOrder; the other
  // makes running shards do it, which share `finished` until they have. Ends
  // sessions. The first and the last before StartThreads.
  void Restore(bool takes_other_relays, std::vector<RestoreTask>* tasks);
  void PostRestore(bool takes_other_relays, std::vector<RestoreTask>* tasks,
                   const std::shared_ptr<void>& finished);
  void Supersede(const absl::flat_hash_set<uint64_t>& ids);
  // Makes the shards end all their sessions as superseded.
  void SupersedeAll();

  // True if every worker completes an event-loop iteration within `within`.
  bool IsAlive(absl::Duration within) const;
  void AddStats(ProxyStats* stats) const;
  // Each live session once. The data plane runs between slices of them.
  void VisitSessions(absl::FunctionRef<void(const SessionInfo&)> visit) const;
  // See Handover.
  absl::Status VisitSockets(
      absl::FunctionRef<absl::Status(std::vector<HandedSession>)> visit) const;

  const std::vector<SocketAddress>& listen_addresses() const {
    return listen_addresses_;
  }
  // The least of all listening sockets.
  int64_t receive_buffer_bytes() const { return receive_buffer_bytes_; }
  int64_t send_buffer_bytes() const { return send_buffer_bytes_; }

  // A takeover, the old process.

  // Makes StopThreads return within milliseconds, until the next StartThreads.
  // Waits for the waits under way.
  void ShortenWaits();
  // Threads are stopped for the rest. Adds the shards' sessions and ids and the
  // readers' counters; upstream sockets stay the shards'.
  void HandOver(bool keeps_flows, HandedGate* gate);
  // Forgets all sessions: the new process has them.
  void ForgetSessions();

  // A takeover, the new process: before StartThreads.

  // See Handover.
  absl::Status Prepare(absl::Span<HandedSession> sessions);
  absl::Status TakeOver(HandedGate* gate);

 private:
  absl::Status OpenSockets();
  absl::Status CreateWorkers();
  absl::Status CreateHopReader();
  absl::Status CreateReader(size_t index, bool has_thread);
  void AddNetworkWatcher();
  void NoteBufferSizes();
  std::vector<RestoreOrder> OrdersOf(bool takes_other_relays,
                                     std::vector<RestoreTask>* tasks) const;
  size_t ShardOf(const SocketAddress& client) const {
    return context_->hash(client) % workers_.size();
  }

  GateContext* const context_;
  std::vector<SocketAddress> listen_addresses_;
  int64_t receive_buffer_bytes_ = 0;
  int64_t send_buffer_bytes_ = 0;
  // Null if the system refuses one. Used by the first worker.
  std::unique_ptr<NetworkWatcher> network_watcher_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Reader>> readers_;
  std::vector<std::unique_ptr<ReaderThread>> reader_threads_;
  std::unique_ptr<HopReader> hop_reader_;  // null without a hop
  std::vector<std::thread> threads_;
  HandedTags handed_tags_;  // from Prepare to TakeOver
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_DATA_PLANE_H_
