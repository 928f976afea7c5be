// The queue of a shard: datagrams from readers, and messages from the control
// plane. Threads that do not own the shard reach it only in this way.
#ifndef UDPGATE_INTERNAL_SHARD_INBOX_H_
#define UDPGATE_INTERNAL_SHARD_INBOX_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/session/session_ref.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// A message of the control plane, or of another shard.
struct ShardMessage {
  enum class Kind {
    kResolved,          // the result for `session`
    kDisconnectClient,  // end the session of `client`, whichever is live
    kEndSession,        // end exactly `session`, whose relay is `address`
    kEndClientIp,       // end all sessions of the IP address `address`
    kEndBackend,        // end all sessions on the backend `address`
    kEndBackendText,    // end all sessions whose label is `text`
    kListSessions,      // copy the sessions in slots from `session.slot` on
    kCopySockets,       // likewise, with copies of their sockets
    kEvict,             // end one unconfirmed session, for another shard
    kClientRefused,     // the host of `client` has refused a reply
    kFindSilent,        // find a session that `client` may replace
    kEndSilent,         // end `session` if its client is still silent
    kEndMoved,          // end the session of `client`, see ClientMoves
    kMoved,             // that was done; continue `session` with its result
    kRestore,           // do what `restore` says
    kSupersede,         // end the sessions `ids`: another gateway has them
    kSupersedeAll,      // end all that live now, for the same reason
  };
  using DisconnectDone = absl::AnyInvocable<void(int64_t ended_count)>;
  // Called by the shard's owner. `next_slot` is where the next slice begins, 0
  // after the last one. Must return within microseconds.
  using ListDone = absl::AnyInvocable<void(std::vector<SessionInfo> sessions,
                                           uint32_t next_slot)>;

  using CopyDone = absl::AnyInvocable<void(std::vector<HandedSession> sessions,
                                           uint32_t next_slot)>;

  Kind kind;
  SessionRef session;
  SocketAddress client;
  // Of kEndSession: invalid if any relay address of the session will do.
  SocketAddress address;
  // Of kEndBackendText; the parts of one disconnect share it.
  std::shared_ptr<const std::string> text;
  // Of a disconnect: when it arrived. Sessions that were created or resolved
  // later are not concerned.
  int64_t came_nanoseconds = INT64_MAX;
  // Of kSupersede; likewise.
  std::shared_ptr<const absl::flat_hash_set<uint64_t>> ids;
  // Of kRestore.
  std::unique_ptr<RestoreOrder> restore;
  // One of several messages of one disconnect; the sender adds up the counts.
  bool is_part = false;
  // Progress of kEndClientIp, kEndBackend, kEndBackendText and kSupersede:
  // sessions ended so far. `session` has the next slot, and the newest id that
  // is concerned.
  int64_t ended_count = 0;
  // Of kFindSilent and kEndSilent: the session found so far, if any, is
  // `session` of shard `silent_shard`; and how many shards have still to
  // search.
  uint32_t silent_shard = 0;
  bool is_silent_confirmed = false;
  int64_t silent_since_nanoseconds = 0;
  size_t shards_left = 0;
  // Of kEndMoved: the shard of `session`, which waits for kMoved.
  uint32_t asking_shard = 0;
  // Of kResolved, kEndMoved and kMoved: the result, and of which of the
  // session's resolutions.
  absl::StatusOr<ResolveResult> result;
  uint32_t resolution = 0;
  DisconnectDone disconnect_done;
  ListDone list_done;
  CopyDone copy_done;
};

// Whether a disconnect concerns a pending session of `client`: a resolution
// that was started before it may return a backend that the client must not get.
bool ConcernsPending(const ShardMessage& disconnect,
                     const SocketAddress& client);

// Threads: `Push`, `Post...`, `Close`, `Ring` and the counts from any thread;
// `Take...`, `Peek`, `Pop` and `PrepareSleep` by the owner of the shard.
//
// Held by shared_ptr: a resolver's callback may outlive the shard, and then
// posts to a closed inbox.
class Inbox {
 public:
  struct Options {
    int datagrams_max;
    int disconnects_max;
  };

  static absl::StatusOr<std::shared_ptr<Inbox>> Create(SysCalls* sys_calls,
                                                       const Options& options);
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  // Queues copies of the first `datagrams`, as many as there is room for, wakes
  // the owner if it sleeps, and returns their number. The caller counts the
  // others as dropped.
  int Push(absl::Span<const ClientDatagram> datagrams);

  // Never refused while open: results are limited by the resolutions started.
  void Post(ShardMessage message);
  // Waits while `disconnects_max` of them are in progress: a disconnect is
  // never dropped. Returns false at once if closed.
  bool PostDisconnect(ShardMessage message);

  // The owner has not finished a message kEndClientIp, kEndBackend,
  // kEndBackendText or kSupersede: it is queued again, and keeps its room.
  void PostAgain(ShardMessage message);
  // The owner has finished a disconnect, and its room is free.
  void EndDisconnect();

  // Drops all messages, queued and future ones; PostDisconnect returns.
  void Close();

  // Wakes the owner if it sleeps.
  void Ring();

  // Moves the oldest messages that are not disconnects, at most `count_max`, in
  // order, into `messages` (cleared first).
  void TakeMessages(int count_max, std::vector<ShardMessage>* messages);
  // Likewise the oldest disconnects.
  void TakeDisconnects(int count_max, std::vector<ShardMessage>* messages);

  // The oldest datagrams, at most `count_max`, without removing them, into
  // `datagrams` (cleared first). They point into the inbox and stay valid
  // until `Pop`.
  void Peek(int count_max, std::vector<ClientDatagram>* datagrams);
  // Removes the `count` oldest datagrams, all from the last Peek.
  void Pop(int count);

  bool HasMessages() const {
    return message_count_.load(std::memory_order_seq_cst) != 0;
  }
  bool HasDisconnects() const {
    return waiting_disconnect_count_.load(std::memory_order_seq_cst) != 0;
  }
  // Whether a disconnect is queued that arrived at `since_nanoseconds` or later
  // and concerns this client, whose session is pending.
  bool HasDisconnectSince(int64_t since_nanoseconds,
                          const SocketAddress& client);
  // Whether there are messages of either kind that the owner would handle now.
  bool HasUrgentMessages() const {
    return HasMessages() ||
           (HasDisconnects() &&
            !disconnects_can_wait_.load(std::memory_order_relaxed));
  }
  int64_t messages_waiting() const {
    return message_count_.load(std::memory_order_relaxed) +
           waiting_disconnect_count_.load(std::memory_order_relaxed);
  }
  int64_t datagrams_waiting() const {
    return datagrams_waiting_.load(std::memory_order_seq_cst);
  }

  // Called by the owner before it sleeps until `until_nanoseconds` or a ring.
  // False if there is work instead. With `disconnects_can_wait` disconnects are
  // not work, and a new one does not ring.
  bool PrepareSleep(int64_t until_nanoseconds,
                    bool disconnects_can_wait = false);
  void EndSleep() { is_owner_asleep_.store(false, std::memory_order_seq_cst); }
  // Must be called after the shard's next deadline became earlier: wakes the
  // owner if it would sleep past it.
  void NoteDeadline(int64_t deadline_nanoseconds);

  // Becomes readable for epoll (edge-triggered) with each ring.
  int doorbell_fd() const { return doorbell_fd_; }

 private:
  // The header of each payload in the ring.
  struct Record {
    ClientDatagram datagram;  // its payload follows the Record
    // Bytes of the ring that the record takes, up to the next one.
    size_t stride_bytes;
    // Not a datagram: the ring continues at its beginning.
    bool is_wrap;
  };

  Inbox(SysCalls* sys_calls, int doorbell_fd, const Options& options);
  bool PushOne(const ClientDatagram& datagram)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PostDisconnectLocked(ShardMessage message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  SysCalls* const sys_calls_;
  const int doorbell_fd_;
  const Options options_;
  const size_t ring_bytes_;
  const std::unique_ptr<char[]> ring_;

  Mutex mutex_;
  ConditionVariable disconnects_taken_;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<ShardMessage> messages_ ABSL_GUARDED_BY(mutex_);
  std::deque<ShardMessage> disconnects_ ABSL_GUARDED_BY(mutex_);
  // Queued ones, and those of many sessions that are in progress.
  int disconnect_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // Byte positions; modulo ring_bytes_ they are offsets. They grow until the
  // ring is empty, and are then reset.
  uint64_t tail_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t head_ ABSL_GUARDED_BY(mutex_) = 0;

  std::atomic<int64_t> datagrams_waiting_{0};
  std::atomic<int64_t> message_count_{0};
  std::atomic<int64_t> waiting_disconnect_count_{0};
  std::atomic<bool> is_owner_asleep_{false};
  std::atomic<bool> disconnects_can_wait_{false};
  std::atomic<int64_t> asleep_until_nanoseconds_{INT64_MAX};
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_INBOX_H_
