// The only place that changes the state of a session.
#ifndef UDPGATE_INTERNAL_SHARD_LIFECYCLE_H_
#define UDPGATE_INTERNAL_SHARD_LIFECYCLE_H_

#include <cstdint>
#include <vector>

#include "udpgate/internal/session/session_events.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/reply_batch.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// pending (waits for its backend) -> unconfirmed -> confirmed -> ended with one
// reason. Whatever depends on the state is updated with it: the lists, the
// counters, the admission limits, the flow offload and the observer.
//
// A call that may end a session takes a `Session**`, and sets the caller's
// pointer to null if it has ended: the slot may be another session's by then.
//
// Threads: the owner of the shard only.
class Lifecycle {
 public:
  // An unconfirmed session passes through so many steps of address validation;
  // see AddressValidation. `Session::proof_count` counts them.
  static constexpr int kProofCount = 3;

  // All must outlive it.
  Lifecycle(ShardContext* shard, UpstreamSockets* upstreams,
            ReplyBatch* replies);
  Lifecycle(const Lifecycle&) = delete;
  Lifecycle& operator=(const Lifecycle&) = delete;

  // After the limits have changed.
  void ApplyLimits();

  // A pending session that holds no datagram yet. The client must have none.
  Session* Create(const SocketAddress& client, uint32_t hash);
  // To the next state.
  void MoveTo(SessionState state, Session* session);
  // The client of an unconfirmed session has sent, and the session has passed
  // through `proof_count` steps.
  void NoteClientActive(int proof_count, Session* session);
  // Replies that were read before are sent first. `held_drop` is the reason for
  // the datagrams that a pending session holds.
  void End(EndReason end, DropReason held_drop, Session** session);

  // Counts what the flow offload has relayed, and gives it a confirmed session
  // that it has not: it refused it, withdrew from it or had no room.
  void UpdateOffload(Session* session);

  // For a session that is restored. Adds one without a state; the client must
  // have none.
  Session* Place(const SocketAddress& client, uint32_t hash);
  // Confirms it: it has all that a session with a backend has, and is counted
  // by Admission. The observer is not told, since it is no new one.
  void Continue(Session* session);

  // For a takeover. Adds a session of another process, which has no state
  // before `Enlist`. The client must have none.
  Session* Adopt(const SocketAddress& client, uint32_t hash, uint64_t id);
  // Gives it a state: counts it, and puts it into the list of that state.
  void Enlist(SessionState state, int proof_count, Session* session);
  // Takes it out of its list and of the counters.
  void Delist(Session* session);
  // Forgets a session that was delisted.
  void Erase(Session** session);

  // Pending sessions in the order of their deadlines.
  const SessionList& pending() const { return pending_; }
  // Unconfirmed sessions by their steps of address validation, each list in the
  // order of their clients' last datagrams.
  const std::vector<SessionList>& unconfirmed() const { return unconfirmed_; }
  const NetworkIndex& networks() const { return networks_; }

 private:
  void CountState(const Session& session, int change);
  // `end` is of kEnded only.
  void Report(SessionEvent::Kind kind, const Session& session, EndReason end);

  ShardContext* const shard_;
  UpstreamSockets* const upstreams_;
  ReplyBatch* const replies_;
  SessionEventQueue* const events_;  // null: nobody observes
  SessionList pending_;
  std::vector<SessionList> unconfirmed_;
  NetworkIndex networks_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_LIFECYCLE_H_
