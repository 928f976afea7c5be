// The records of this gateway's sessions: what the store should have, and the
// changes that bring it there.
#ifndef UDPGATE_STORE_INTERNAL_RECORDS_H_
#define UDPGATE_STORE_INTERNAL_RECORDS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"
#include "udpgate/store/internal/disconnect_memory.h"
#include "udpgate/store/internal/keeper_context.h"
#include "udpgate/store/internal/store_calls.h"

namespace udpgate {
namespace store {
namespace internal {

// Each client has one entry, with at most one change under way, so that the
// store gets the changes of a client in their order. A change that finds the
// queue full is dropped; `Requeue` makes up for it.
//
// Threads: one.
class Records {
 public:
  // All must outlive it.
  Records(KeeperContext* context, StoreCalls* calls, DisconnectMemory* memory);
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  // A session is confirmed: its record is written. `record.token` is this
  // gateway's; `began_nanoseconds` is of the session's first datagram.
  void Confirm(StoredSession record, int64_t began_nanoseconds);
  // A session was taken over from a former process: the record should be there.
  void Continue(StoredSession record, int64_t began_nanoseconds);
  // A session of another run is continued here: its record, which has the token
  // `from`, is adopted.
  void Adopt(StoredSession record, int64_t began_nanoseconds,
             const SessionToken& from, std::string unless_lives);
  // A session has ended. `removes`: and so has what its record is for.
  void End(const SocketAddress& client, uint64_t session_id, bool removes);
  // What is known of a session has changed: its relay address, or the clock.
  void Rewrite(const SocketAddress& client, const SocketAddress& local,
               const SocketAddress& relay);
  void RewriteAll();

  // Refreshes the records that were refreshed longest ago.
  void RefreshSome(size_t count);
  // Soon refreshes all: maybe others have adopted some.
  void RefreshAll() { must_refresh_all_ = true; }

  // Comparison with the sessions of the Proxy, each of which is named once
  // between `BeginSweep` and `EndSweep`. What is missing is made up for: a
  // record is removed whose session was missing twice.
  void BeginSweep();
  void Seen(const StoredSession& record, int64_t began_nanoseconds,
            bool is_continued);
  // True if there is a session that was missing for the first time.
  bool EndSweep();

  // Forgets everything; results that are under way do nothing.
  void Clear();

  // Sends what is due, unless the gateway is fenced.
  void Tick();
  int64_t next_nanoseconds() const;

  // Of the live session of a client; null if it has none.
  const StoredSession* Find(const SocketAddress& client) const;
  size_t size() const { return entries_.size(); }
  size_t queue_depth() const;
  // No change waits or is under way.
  bool IsIdle() const;
  // Since the last call: a change was dropped.
  bool TakeDropped();

  // Called if another gateway has the record of a session that was adopted
  // here, before the session ends: it may be continued with that record.
  std::function<void(const StoredSession& found)> on_replaced;

 private:
  enum Need : uint8_t { kAdopt, kWrite, kRemove, kRefresh, kNeedCount, kNone };
  struct Entry {
    StoredSession record;
    int64_t began_nanoseconds = 0;
    bool is_live = true;
    Need need = kNone;
    Need queued_in = kNone;
    uint64_t flight = 0;      // of the change under way; 0: none
    bool is_seen = false;     // in this comparison
    bool was_missed = false;  // in the one before
    SessionToken from;        // of kAdopt
    std::string unless_lives;
    // Of kRemove: the record may have this one instead.
    absl::optional<SessionToken> other_token;
    std::list<SocketAddress>::iterator place;  // in order_
  };
  struct Queue {
    std::deque<SocketAddress> clients;
    int64_t since_nanoseconds = 0;  // of the first one
  };
  // One record of a call.
  struct Change {
    SocketAddress client;
    uint64_t session;
    Need need;
    uint64_t flight;
  };
  using Changes = std::vector<Change>;

  Entry* FindEntry(const SocketAddress& client);
  Entry* Insert(StoredSession record, int64_t began_nanoseconds);
  void Erase(const SocketAddress& client);
  void SetNeed(Entry* entry, Need need);
  void Enqueue(Entry* entry);
  void Stored(Entry* entry);
  void Lose(Entry* entry, absl::string_view why);
  absl::Time SinceOf(const Entry& entry) const;

  void Flush(Need need);
  Changes TakeBatch(Need need);
  void Send(Need need, Changes changes);
  void Finish(const Changes& changes,
              const absl::StatusOr<StoreCalls::Outcomes>& outcomes);
  void FinishOne(Entry* entry, const Change& change,
                 SessionStore::Outcome outcome);
  void Verify();
  void FinishVerify(
      const Changes& changes,
      const absl::StatusOr<std::vector<SessionStore::Found>>& found);
  void FinishVerifyOne(Entry* entry, const Change& change,
                       const SessionStore::Found& found);

  KeeperContext* const context_;
  StoreCalls* const calls_;
  DisconnectMemory* const memory_;
  absl::flat_hash_map<SocketAddress, std::unique_ptr<Entry>> entries_;
  // All clients; those first that were refreshed longest ago.
  std::list<SocketAddress> order_;
  std::array<Queue, kNeedCount> queues_;
  // Whose record has another token, before it is known whose.
  std::deque<Change> unverified_;
  size_t in_flight_count_ = 0;
  uint64_t last_flight_ = 0;
  bool has_dropped_ = false;
  bool must_refresh_all_ = false;
  uint64_t epoch_ = 0;  // of Clear
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_RECORDS_H_
