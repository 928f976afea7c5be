// Interface of the fast path: relays the datagrams of established sessions
// below the sockets, without the process. The kernel does so in
// //udpgate/fastpath.
//
//   auto offload = udpgate::fastpath::KernelFlowOffload::Create({});
//   dependencies.flow_offload = *std::move(offload);
//   auto proxy = udpgate::Proxy::Create(options, std::move(dependencies));
//
// It is only an accelerator. Sessions are created and end on their sockets; a
// datagram that it does not relay reaches the sockets as usual.
#ifndef UDPGATE_FLOW_OFFLOAD_H_
#define UDPGATE_FLOW_OFFLOAD_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/types/optional.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// The four ends of a session, all concrete and of one family.
struct UDPGATE_EXPORT SessionAddresses {
  SocketAddress client;
  SocketAddress listen;  // the address that the client sends to
  SocketAddress relay;   // address of the upstream socket
  SocketAddress backend;
};

enum class FlowDirection : uint32_t { kFromClient = 0, kFromBackend = 1 };

// What was relayed in one direction of a session.
struct UDPGATE_EXPORT DirectionActivity {
  uint64_t datagrams = 0;
  uint64_t payload_bytes = 0;
  int64_t last_relayed_nanoseconds = 0;  // CLOCK_MONOTONIC; 0: never
};

struct UDPGATE_EXPORT SessionActivity {
  DirectionActivity from_client;
  DirectionActivity from_backend;
};

// State of a session in the offload.
enum class FlowState : uint8_t {
  kWaiting,    // Install was called; not decided yet
  kInstalled,  // its datagrams are relayed as soon as that overtakes none
  kRefused,    // nothing was relayed, and nothing will be
  kWithdrawn,  // nothing is relayed any more, since the way that the session's
               // datagrams take has changed
};

// Threads: all methods from any thread at any time, except that the calls for
// one slot come one after the other. A `Proxy` calls them from the threads that
// move datagrams, so no method may wait, make a long system call or allocate
// memory. A thread of the offload does such work, and `state` returns its
// result. Only LateActivity may wait.
//
// A slot names a session from Install to Remove.
class UDPGATE_EXPORT FlowOffload {
 public:
  virtual ~FlowOffload() = default;

  // Requests that the session's datagrams are relayed. Returns its slot, with
  // no activity and kWaiting, or nothing if there is no room. The sockets of
  // the session continue to work in any case. If the flow is refused, the
  // caller may try again after Remove.
  virtual absl::optional<uint32_t> Install(
      const SessionAddresses& addresses) = 0;

  // A load from memory.
  virtual FlowState state(uint32_t slot) const = 0;

  // The kernel receive time (SO_TIMESTAMPNS, socket(7)) of the newest datagram
  // of this direction that the process has handled, published after it was
  // sent on.
  // Called for each batch, so it may cost no more than a store to memory.
  virtual void PublishHandled(uint32_t slot, FlowDirection direction,
                              int64_t receive_time_nanoseconds) = 0;

  // Datagrams that make larger IP packets go to the sockets from now on. May be
  // called before the session is installed.
  virtual void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                                   uint32_t bytes) = 0;

  // What was relayed since Install. Loads from memory.
  virtual SessionActivity ReadActivity(uint32_t slot) const = 0;

  // The session's next datagram goes to the sockets, even if the flow was not
  // installed yet, and the slot is free again. Returns what was relayed since
  // Install; a datagram that is being relayed at this moment may be missing
  // there, and is part of LateActivity then.
  virtual SessionActivity Remove(uint32_t slot) = 0;

  // What was relayed of removed sessions and is missing in the results of
  // Remove: the sum over all sessions; `last_relayed_nanoseconds` is 0. Not for
  // the threads that move datagrams: it may wait.
  virtual SessionActivity LateActivity() const = 0;

  // A takeover (see //udpgate/takeover) during which flows stay relayed. An
  // offload without support keeps the defaults: its flows go back to the
  // sockets first. Threads: one at a time, and none that moves datagrams.

  // In the old process. Install and Remove may be called at any time.

  // Copies of the descriptors that the new process needs to continue the flows,
  // by name. The caller owns them. Empty if not supported.
  virtual std::map<std::string, int> CopyDescriptors() const { return {}; }
  // From now on no flow is installed or withdrawn, and all are relayed as
  // before: a process that has those copies may take them over. False if that
  // is not possible.
  virtual bool BeginHandOver() { return false; }
  // The takeover failed; everything continues.
  virtual void CancelHandOver() {}
  // The takeover succeeded; this object no longer owns the flows.
  virtual void LetGo() {}

  // In the new process. Until StartAdopted the flows belong to the old process
  // and are not touched, whatever else is called.

  // Whether it has the descriptors from CopyDescriptors of the old process.
  virtual bool has_adopted() const { return false; }
  // Between BeginHandOver in the old process and StartAdopted: assigns the slot
  // to this session, as installed and with all that was relayed there so far.
  // False if the session has no flow there.
  virtual bool Adopt(uint32_t slot, const SessionAddresses& addresses) {
    (void)slot;
    (void)addresses;
    return false;
  }
  // This object owns the adopted flows now; the others are removed.
  virtual void StartAdopted() {}
};

}  // namespace udpgate

#endif  // UDPGATE_FLOW_OFFLOAD_H_
