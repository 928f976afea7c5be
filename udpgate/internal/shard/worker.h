// A thread that runs a shard, and the way in for the readers.
#ifndef UDPGATE_INTERNAL_SHARD_WORKER_H_
#define UDPGATE_INTERNAL_SHARD_WORKER_H_

#include <sys/epoll.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/net/network_watcher.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/internal/shard/shard.h"
#include "udpgate/internal/shard/shard_ownership.h"
#include "udpgate/internal/util/counters.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace internal {

// A shard with a thread of its own. Other threads may run the shard, too: the
// one that acquires `ownership_`. A reader that finds the shard idle handles
// its datagrams itself, and so need not wake the worker's thread, the most
// expensive step on the data path.
//
// Threads: `PollOnce` by the worker's own thread; `Deliver` by any reader;
// `inbox`, `counters`, `Stop` by anyone.
class Worker {
 public:
  // `shard` is its number in the gateway, 0 to 255. The context must outlive
  // it.
  static absl::StatusOr<std::unique_ptr<Worker>> Create(GateContext* context,
                                                        uint32_t shard);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // `read` is called, without ownership, by each PollOnce that finds `fd`
  // readable, and `read_errors` before it if its error queue holds something.
  // Before the first PollOnce, and once.
  absl::Status AddReader(int fd, absl::AnyInvocable<void()> read,
                         absl::AnyInvocable<void()> read_errors);
  // Whether PollOnce watches `fd`; it does at first. Any thread. False if that
  // could not be changed.
  bool WatchReader(int fd, bool is_watched);

  // PollOnce reads `watcher` when there is something. Before the first
  // PollOnce, and once. The watcher must outlive the worker.
  absl::Status AddNetworkWatcher(NetworkWatcher* watcher);

  // Waits for work, at most `max_wait_nanoseconds`, and does a bounded amount
  // of it. Never blocks otherwise, never logs, never touches Redis or DNS.
  void PollOnce(int64_t max_wait_nanoseconds);

  // Calls PollOnce until Stop.
  void Run();
  // Makes Run return soon, or at once if it is called later.
  void Stop();
  // Undoes Stop, before Run is called again.
  void ClearStop() { is_stopping_.store(false, std::memory_order_relaxed); }
  // Ends all sessions and drops what is queued, counted as session_ended. After
  // Run has returned and the readers have stopped. The destructor does it too.
  void EndAllSessions();

  // Before the first PollOnce: restores sessions of this shard; ends those of
  // these ids that it has.
  void Restore(RestoreOrder* order);
  void Supersede(const absl::flat_hash_set<uint64_t>& ids);

  // The parts of a takeover (see Handover), while neither Run nor a reader
  // runs. What is queued is handled, and the sessions are appended to
  // `sessions`; their sockets stay the worker's. Flows go back to the sockets,
  // unless another process keeps them.
  void HandOverSessions(bool keeps_flows, std::vector<HandedSession>* sessions);
  // Forgets the sessions, and closes its descriptors of their sockets: another
  // process has them. Closes the inbox.
  void ForgetSessions();
  // Prepares a session of this shard, and takes its descriptor. On an error
  // there is no session.
  absl::Status Prepare(HandedSession* handed);
  // Drops prepared sessions that are not among these. In all shards before
  // TakeOver in any, since other sessions may have their ports by now.
  void DropAllBut(const std::vector<HandedSession*>& sessions);
  // Takes sessions of this shard, prepared ones and others with their
  // descriptors. New ones get ids beyond those of `session_number`.
  absl::Status TakeOver(std::vector<HandedSession*> sessions,
                        uint64_t session_number);
  // The number in the highest id so far. While no iteration runs.
  uint64_t session_number();

  // Takes clients' datagrams, all of this shard: handles them at once if the
  // shard is idle and its queue empty, queues them otherwise. If the queue is
  // full the last ones are refused; returns their number.
  size_t Deliver(absl::Span<const ClientDatagram> datagrams,
                 int64_t now_nanoseconds);

  // Event-loop iterations of the worker's own thread so far. A caller that
  // reads it and then rings the inbox sees it grow soon, unless the worker
  // hangs. Any thread.
  uint64_t iteration_count() const {
    return iteration_count_.load(std::memory_order_seq_cst);
  }

  const std::shared_ptr<Inbox>& inbox() const { return inbox_; }
  const Counters& counters() const { return counters_; }

 private:
  Worker(GateContext* context, uint32_t shard, UniqueFd epoll_fd,
         std::shared_ptr<Inbox> inbox);

  void WaitForEvents(int64_t max_wait_nanoseconds);

  GateContext* const context_;
  SysCalls* const sys_calls_;
  const UniqueFd epoll_fd_;
  const std::shared_ptr<Inbox> inbox_;
  std::atomic<bool> is_stopping_{false};
  std::atomic<uint64_t> iteration_count_{0};

  // Of the polling thread.
  absl::AnyInvocable<void()> read_;
  absl::AnyInvocable<void()> read_errors_;
  std::vector<epoll_event> events_;
  int event_count_ = 0;
  int64_t wait_nanoseconds_ = 0;  // how long the next wait may take
  NetworkWatcher* network_watcher_ = nullptr;

  // Written by the owner, read by anyone.
  Counters counters_;

  ShardOwnership ownership_;
  Shard shard_ ABSL_GUARDED_BY(ownership_);
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_WORKER_H_
