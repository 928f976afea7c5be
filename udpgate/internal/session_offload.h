// What a shard has to do with the flow offload: which of its sessions are
// there, and what they have moved.
#ifndef UDPGATE_INTERNAL_SESSION_OFFLOAD_H_
#define UDPGATE_INTERNAL_SESSION_OFFLOAD_H_

#include <cstdint>

#include "udpgate/flow_offload.h"
#include "udpgate/internal/counters.h"
#include "udpgate/internal/session_table.h"

namespace udpgate {
namespace internal {

// Counts what was relayed as if a worker had moved it, and the share apart.
void CountRelayed(const SessionActivity& relayed, Counters* counters);

// Without an offload everything here does nothing, at the price of one
// comparison. Threads: the owner of the shard only.
class SessionOffload {
 public:
  // `offload` may be null. Both must outlive it.
  SessionOffload(FlowOffload* offload, Counters* counters)
      : offload_(offload), counters_(counters) {}

  bool is_on() const { return offload_ != nullptr; }

  // Gives a confirmed session to the offload, unless it is there already.
  // `listen` is the address of the listen socket that the client writes to.
  void Begin(const SocketAddress& listen, Session* session);
  // Takes it back, and counts what was moved since. Before its sockets are
  // closed.
  void End(Session* session);

  // In a take-over. The giver: forgets it, while its flow goes on.
  void Forget(Session* session);
  // The taker: goes on with a flow, of which `counted` is counted already. It
  // does not where the offload has no such flow.
  void Adopt(uint32_t slot, const SessionActivity& counted, Session* session);

  // Counts what the offload has moved since the last time, and takes a session
  // back that it has refused or withdrawn from.
  void Update(Session* session);

  // The newest datagram of this direction that is dealt with.
  void NoteHandled(const Session& session, FlowDirection direction,
                   int64_t receive_time_nanoseconds) {
    if (session.flow_slot == kNoSlot || receive_time_nanoseconds == 0) return;
    offload_->PublishHandled(session.flow_slot, direction,
                             receive_time_nanoseconds);
  }

  // The way to the backend carries IP packets of so many bytes only.
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

#endif  // UDPGATE_INTERNAL_SESSION_OFFLOAD_H_
