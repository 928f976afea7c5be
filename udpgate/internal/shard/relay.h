// Datagrams of live sessions, in both directions.
#ifndef UDPGATE_INTERNAL_SHARD_RELAY_H_
#define UDPGATE_INTERNAL_SHARD_RELAY_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/address_validation.h"
#include "udpgate/internal/shard/reply_batch.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_recovery.h"
#include "udpgate/internal/shard/upstream_sockets.h"

namespace udpgate {
namespace internal {

// Follow a datagram: `SendToBackend` gathers those that follow each other from
// one client, and sends them with one system call on the session's upstream
// socket. A reply makes that socket readable; `HandleReadySocket` adds it to
// the reply batch.
//
// Every datagram is counted as forwarded, or as dropped for one reason. No
// function allocates memory. Those that take a `Session**` may end the session
// and set it to null then.
//
// Threads: the owner of the shard only.
class Relay {
 public:
  // All must outlive it.
  Relay(ShardContext* shard, UpstreamSockets* upstreams, ReplyBatch* replies,
        AddressValidation* validation, UpstreamRecovery* recovery);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Sends the first of `datagrams`, which is of this session's client, and
  // those of the same client that follow it at once. Returns how many these
  // are, at least one. The session must not be pending.
  size_t SendToBackend(absl::Span<const ClientDatagram> datagrams,
                       Session** session);
  // Sends what the session has held while it was pending.
  void SendHeld(const HeldDatagrams& held, Session** session);

  // Reads replies that wait in the session's socket, and the errors of its
  // queue if there are some.
  void HandleReadySocket(bool has_errors, Session** session);

 private:
  size_t Gather(absl::Span<const ClientDatagram> datagrams, Session* session);
  void NoteHop(uint16_t hop, Session* session);
  // Sends `run_`. False if the session has ended.
  [[nodiscard]] bool SendRun(Session** session);
  void NoteForwarded(int begin, int count, Session* session);
  bool MustReadControl(Session* session) const;
  // False if the session has ended.
  [[nodiscard]] bool ReadReplies(Session** session);
  void TakeReplies(int count, bool reads_control, Session* session);
  void EndHoldoff(const Session& session);

  ShardContext* const shard_;
  UpstreamSockets* const upstreams_;
  ReplyBatch* const replies_;
  AddressValidation* const validation_;
  UpstreamRecovery* const recovery_;
  // Datagrams of one client on their way to its backend.
  SendBatch run_;
  int64_t next_holdoff_end_nanoseconds_ = 0;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_RELAY_H_
