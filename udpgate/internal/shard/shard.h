// One shard: its sessions, and the bounded event-loop iteration that serves
// them.
#ifndef UDPGATE_INTERNAL_SHARD_SHARD_H_
#define UDPGATE_INTERNAL_SHARD_SHARD_H_

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/shard/address_validation.h"
#include "udpgate/internal/shard/client_moves.h"
#include "udpgate/internal/shard/endings.h"
#include "udpgate/internal/shard/evictions.h"
#include "udpgate/internal/shard/forwarding.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/hop_sender.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/newcomers.h"
#include "udpgate/internal/shard/relay.h"
#include "udpgate/internal/shard/reply_batch.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/internal/shard/session_restorer.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/shard_handover.h"
#include "udpgate/internal/shard/snapshot.h"
#include "udpgate/internal/shard/upstream_recovery.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/internal/util/counters.h"

namespace udpgate {
namespace internal {

// The shard dispatches; each job is done by one class of this folder. They call
// each other in one direction only:
//
//   Shard -> Newcomers, Endings, Relay, Snapshot, ShardHandover,
//            SessionRestorer
//   ShardHandover -> Newcomers
//   SessionRestorer -> Newcomers, Evictions, Endings
//   Newcomers -> Evictions, ClientMoves, Relay
//   Newcomers, Shard -> Forwarding -> HopSender
//   Relay -> AddressValidation, UpstreamRecovery
//   Endings -> AddressValidation
//   all -> Lifecycle -> UpstreamSockets, ReplyBatch -> HopSender
//
// Threads: one at a time, its owner; see ShardOwnership.
class Shard {
 public:
  // Messages that one iteration handles. Each may open or close a socket, which
  // costs some ten times what a datagram costs.
  static constexpr int kMessagesPerIteration = 3;

  // `gate` and `counters` must outlive it; the caller keeps `epoll_fd` open.
  // `number` is the shard's in the gateway, 0 to 255.
  Shard(GateContext* gate, uint32_t number, int epoll_fd,
        std::shared_ptr<Inbox> inbox, Counters* counters);
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // ResourceExhausted if there was no memory for the buffers; nothing else may
  // be called then.
  absl::Status CheckMemory() const { return replies_.CheckMemory(); }

  // One event-loop iteration: does a bounded amount of work. `events` are of
  // the shard's epoll set; those that are not a session's are ignored. Returns
  // how long the owner may sleep, in nanoseconds; 0 if something is left to do.
  // The inbox is prepared for that sleep.
  int64_t RunIteration(absl::Span<const epoll_event> events);

  // Relays datagrams of a reader, and those that wait in the inbox before them.
  // False if so many wait that the reader has to queue its own.
  bool Deliver(absl::Span<const ClientDatagram> datagrams,
               int64_t now_nanoseconds);

  // Drops the datagrams that wait, and ends all sessions.
  void EndAllSessions();

  // See Worker.
  void Restore(RestoreOrder* order);
  void Supersede(const absl::flat_hash_set<uint64_t>& ids);

  // For a takeover; see Worker.
  void HandOverSessions(bool keeps_flows, std::vector<HandedSession>* sessions);
  void ForgetSessions();
  absl::Status Prepare(HandedSession* handed);
  void DropAllBut(const std::vector<HandedSession*>& sessions);
  absl::Status TakeOver(std::vector<HandedSession*> sessions,
                        uint64_t session_number);
  uint64_t session_number() const { return context_.sessions.session_number(); }

 private:
  // The parts of an iteration, in order.
  void TakeLimits();
  void NoteStall();
  void DrainDisconnects(int count_max);
  void DrainMessages();
  void DrainDatagrams();
  void HandleReadySockets(absl::Span<const epoll_event> events);
  bool HasCaughtUp(bool has_events);
  void Expire();
  int64_t NextDeadline() const;

  void RelayToBackends(absl::Span<const ClientDatagram> datagrams);
  size_t HandleOfClient(absl::Span<const ClientDatagram> datagrams);
  size_t HandleOfGateway(absl::Span<const ClientDatagram> datagrams);

  ShardContext context_;
  HopSender hop_sender_;
  ReplyBatch replies_;
  UpstreamSockets upstreams_;
  Lifecycle lifecycle_;
  AddressValidation validation_;
  UpstreamRecovery recovery_;
  Relay relay_;
  Endings endings_;
  Evictions evictions_;
  ClientMoves moves_;
  Forwarding forwarding_;
  Newcomers newcomers_;
  Snapshot snapshot_;
  ShardHandover handover_;
  SessionRestorer restorer_;

  uint32_t limits_version_ = 0;
  bool is_handing_over_ = false;
  // Messages that this iteration may still handle.
  int message_budget_ = 0;
  // When this iteration should have begun, at the latest. After a stall: until
  // when no session expires while datagrams wait; 0 otherwise.
  int64_t planned_wake_nanoseconds_ = INT64_MAX;
  int64_t catch_up_end_nanoseconds_ = 0;

  // Scratch space, allocated once.
  std::vector<ShardMessage> messages_;
  std::vector<ClientDatagram> queued_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_SHARD_H_
