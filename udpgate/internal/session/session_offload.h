// A shard's use of the flow offload: which sessions it relays, and what it
// relayed for them.
#ifndef UDPGATE_INTERNAL_SESSION_SESSION_OFFLOAD_H_
#define UDPGATE_INTERNAL_SESSION_SESSION_OFFLOAD_H_

#include <cstdint>

#include "udpgate/flow_offload.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/util/counters.h"

namespace udpgate {
namespace internal {

// Adds relayed datagrams to the counters of forwarded ones, and to those of the
// fast path.
void CountRelayed(const SessionActivity& relayed, Counters* counters);

// Without an offload each function only compares a pointer. Threads: the owner
// of the shard only.
class SessionOffload {
 public:
  // `offload` may be null. Both must outlive it.
  SessionOffload(FlowOffload* offload, Counters* counters)
      : offload_(offload), counters_(counters) {}

  bool is_on() const { return offload_ != nullptr; }

  // Installs a confirmed session, unless it is installed already. `listen` is
  // the address of the listening socket that the client sends to.
  void Begin(const SocketAddress& listen, Session* session);
  // Removes it, and counts what was relayed since. Before its socket is closed.
  void End(Session* session);

  // In a takeover, the old process: forgets it, while its flow continues.
  void Forget(Session* session);
  // In a takeover, the new process: continues a flow, of which `counted` is
  // counted already. No effect if the offload has no such flow.
  void Adopt(uint32_t slot, const SessionActivity& counted, Session* session);

  // Counts what the offload relayed since the last call, and removes a session
  // that it has refused or withdrawn.
  void Update(Session* session);

  // The newest datagram of this direction was sent on.
  void NoteHandled(const Session& session, FlowDirection direction,
                   int64_t receive_time_nanoseconds) {
    if (session.flow_slot == kNoSlot || receive_time_nanoseconds == 0) return;
    offload_->PublishHandled(session.flow_slot, direction,
                             receive_time_nanoseconds);
  }

  // The path to the backend carries IP packets of at most `bytes`.
  void NotePacketBytesMax(const Session& session, uint32_t bytes) {
    if (session.flow_slot == kNoSlot) return;
    offload_->LowerPacketBytesMax(session.flow_slot, FlowDirection::kFromClient,
                                  bytes);
  }

 private:
  void Count(const SessionActivity& activity, Session* session);

  FlowOffload* const offload_;
  Counters* const counters_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_SESSION_OFFLOAD_H_
