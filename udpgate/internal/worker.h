// One shard of the sessions, and the turn in which everything happens to them.
//
// Follow a datagram: a client's comes in by `Deliver` (or waits in the inbox
// until a turn drains it), reaches `RelayToBackends` and leaves through its
// session's upstream socket; a backend's makes that socket readable, is read
// by `Relay::HandleReadySocket` and leaves by `ReplyBatch::Flush`.
#ifndef UDPGATE_INTERNAL_WORKER_H_
#define UDPGATE_INTERNAL_WORKER_H_

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/internal/counters.h"
#include "udpgate/internal/datagram_batch.h"
#include "udpgate/internal/gate_context.h"
#include "udpgate/internal/handover.h"
#include "udpgate/internal/inbox.h"
#include "udpgate/internal/network_watcher.h"
#include "udpgate/internal/session_events.h"
#include "udpgate/internal/session_offload.h"
#include "udpgate/internal/session_table.h"
#include "udpgate/internal/shard/address_validation.h"
#include "udpgate/internal/shard/endings.h"
#include "udpgate/internal/shard/evictions.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/newcomers.h"
#include "udpgate/internal/shard/relay.h"
#include "udpgate/internal/shard/reply_batch.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/shard_handover.h"
#include "udpgate/internal/shard/snapshot.h"
#include "udpgate/internal/shard/upstream_recovery.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/internal/shard_ownership.h"
#include "udpgate/internal/socket_options.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/internal/upstream.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace internal {

// A worker is a shard with a thread of its own, but the shard is not the
// thread: whoever acquires `ownership_` may run a turn. A reader that finds the
// shard idle handles its datagrams itself and so spares the hand-over to a
// sleeping thread, the dearest thing on the path.
//
// Threads: `PollOnce` by the worker's own thread; `Deliver` by any reader;
// `inbox`, `counters`, `Stop` by anyone.
class Worker {
 public:
  // `shard` is its number in the gate, 0 to 255. The context must outlive it.
  static absl::StatusOr<std::unique_ptr<Worker>> Create(GateContext* context,
                                                        uint32_t shard);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // `read` is called, without ownership, by each PollOnce that finds `fd`
  // readable, and `read_errors` before it where its error queue holds
  // something. Before the first PollOnce, and once.
  absl::Status AddReader(int fd, absl::AnyInvocable<void()> read,
                         absl::AnyInvocable<void()> read_errors);
  // Whether PollOnce looks at `fd`; it does at first. Any thread. False where
  // that could not be changed.
  bool WatchReader(int fd, bool is_watched);

  // PollOnce reads `watcher` when there is something. Before the first
  // PollOnce, and once. The watcher must outlive the worker.
  absl::Status AddNetworkWatcher(NetworkWatcher* watcher);

  // Waits for something to do, at most `max_wait_nanoseconds`, and does a
  // bounded amount of it. Never blocks otherwise, never logs, never touches
  // Redis or DNS.
  void PollOnce(int64_t max_wait_nanoseconds);

  // Calls PollOnce until Stop.
  void Run();
  // Makes Run return soon, or at once where it is called later.
  void Stop();
  // Takes that back, before Run is called again.
  void ClearStop() { is_stopping_.store(false, std::memory_order_relaxed); }
  // Ends all sessions and drops what waits, counted as session_ended. After
  // Run has returned and the readers have stopped. The destructor does it too.
  void EndAllSessions();

  // The parts of a take-over (see Handover), while neither Run nor a reader
  // runs. What waits is dealt with, and the sessions are appended to
  // `sessions`; their sockets stay the worker's. Flows go back to the sockets,
  // unless another process keeps them.
  void HandOut(bool keeps_flows, std::vector<HandedSession>* sessions);
  // Forgets the sessions, and closes its descriptors of their sockets: another
  // process has them. Closes the inbox.
  void ForgetSessions();
  // Makes a session of this shard ready, and takes its descriptor. An error
  // says what does not fit; the session is not there then.
  absl::Status Prepare(HandedSession* handed);
  // Drops the sessions that are ready and not among these: in all shards before
  // TakeOver in any, since another one may have their ports by now.
  void DropAllBut(const std::vector<HandedSession*>& sessions);
  // Takes sessions of this shard, those that are ready and others, with their
  // descriptors. New ones get ids beyond those of `session_number`.
  absl::Status TakeOver(std::vector<HandedSession*> sessions,
                        uint64_t session_number);
  // The number in the highest id so far. While nobody runs a turn.
  uint64_t session_number();

  // Takes a client's datagrams, all of this shard: handles them at once where
  // the shard is idle and its queue empty, queues them otherwise. Returns how
  // many it refused since the queue was full, the last ones.
  size_t Deliver(absl::Span<const ClientDatagram> datagrams,
                 int64_t now_nanoseconds);

  // Turns of the worker's own thread so far. Whoever has read it and rings the
  // inbox sees it grow soon, unless the worker hangs. Any thread.
  uint64_t turn_count() const {
    return turn_count_.load(std::memory_order_seq_cst);
  }

  const std::shared_ptr<Inbox>& inbox() const { return inbox_; }
  const Counters& counters() const { return counters_; }

 private:
  Worker(GateContext* context, uint32_t shard, UniqueFd epoll_fd,
         std::shared_ptr<Inbox> inbox);

  // The parts of a turn, in order.
  void WaitForEvents(int64_t max_wait_nanoseconds);
  void TakeLimits() ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);
  void DrainDisconnects(int count_max)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);
  void DrainMessages() ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);
  void DrainDatagrams() ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);
  void HandleReadySockets() ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);
  // After the process stood still: whether nothing waits any more that came
  // meanwhile.
  void NoteStall() ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);
  bool HasCaughtUp() ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);
  int64_t NextDeadline() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);

  // Client to backend.
  void RelayToBackends(absl::Span<const ClientDatagram> datagrams)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(ownership_);

  GateContext* const context_;
  SysCalls* const sys_calls_;
  const UniqueFd epoll_fd_;
  const std::shared_ptr<Inbox> inbox_;
  std::atomic<bool> is_stopping_{false};
  std::atomic<uint64_t> turn_count_{0};

  // Of the polling thread.
  absl::AnyInvocable<void()> read_;
  absl::AnyInvocable<void()> read_errors_;
  std::vector<epoll_event> events_;
  int event_count_ = 0;
  int64_t wait_nanoseconds_ = 0;  // how long the next wait may take
  NetworkWatcher* network_watcher_ = nullptr;

  ShardOwnership ownership_;
  ShardContext shard_ ABSL_GUARDED_BY(ownership_);
  ReplyBatch replies_ ABSL_GUARDED_BY(ownership_);
  UpstreamSockets upstreams_ ABSL_GUARDED_BY(ownership_);
  Lifecycle lifecycle_ ABSL_GUARDED_BY(ownership_);
  AddressValidation validation_ ABSL_GUARDED_BY(ownership_);
  UpstreamRecovery recovery_ ABSL_GUARDED_BY(ownership_);
  Relay relay_ ABSL_GUARDED_BY(ownership_);
  Endings endings_ ABSL_GUARDED_BY(ownership_);
  Evictions evictions_ ABSL_GUARDED_BY(ownership_);
  Newcomers newcomers_ ABSL_GUARDED_BY(ownership_);
  Snapshot snapshot_ ABSL_GUARDED_BY(ownership_);
  ShardHandover handover_ ABSL_GUARDED_BY(ownership_);
  uint32_t limits_version_ ABSL_GUARDED_BY(ownership_) = 0;
  // Messages that this turn may still handle.
  int message_budget_ ABSL_GUARDED_BY(ownership_) = 0;
  // When this turn should have begun, at the latest; and after a stall until
  // when nobody expires while datagrams wait, 0 otherwise.
  int64_t planned_wake_nanoseconds_ ABSL_GUARDED_BY(ownership_) = INT64_MAX;
  int64_t catch_up_end_nanoseconds_ ABSL_GUARDED_BY(ownership_) = 0;

  // Scratch space, allocated once.
  std::vector<ShardMessage> messages_ ABSL_GUARDED_BY(ownership_);
  std::vector<ClientDatagram> queued_ ABSL_GUARDED_BY(ownership_);

  // Written by the owner, read by anyone.
  Counters counters_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_WORKER_H_
