// A way around the process for the datagrams of established sessions: once a
// session stands there is nothing left to decide for them, so something below
// the sockets may relay them, as the kernel does in //udpgate/fastpath.
//
//   dependencies.flow_offload =
//   *udpgate::fastpath::KernelFlowOffload::Create({}); auto proxy =
//   udpgate::Proxy::Create(options, dependencies);
//
// It only ever accelerates. Sessions begin, and end, on their sockets; whatever
// it does not relay reaches these as if it were not there.
#ifndef UDPGATE_FLOW_OFFLOAD_H_
#define UDPGATE_FLOW_OFFLOAD_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/types/optional.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// The four ends of a session, all concrete and of one family.
struct SessionAddresses {
  SocketAddress client;
  SocketAddress listen;  // the very address that the client writes to
  SocketAddress relay;   // our own end towards the backend
  SocketAddress backend;
};

enum class FlowDirection : uint32_t { kFromClient = 0, kFromBackend = 1 };

// What was relayed in one direction of a session.
struct DirectionActivity {
  uint64_t datagrams = 0;
  uint64_t payload_bytes = 0;
  int64_t last_relayed_nanoseconds = 0;  // CLOCK_MONOTONIC; 0: never
};

struct SessionActivity {
  DirectionActivity from_client;
  DirectionActivity from_backend;
};

// How far a session is with the offload.
enum class FlowState : uint8_t {
  kWaiting,    // Install has been called, and nothing is decided yet
  kInstalled,  // its datagrams are relayed as soon as that overtakes none
  kRefused,    // nothing was relayed, nor will be
  kWithdrawn,  // nothing is relayed any more, since the way that the session's
               // datagrams take has changed
};

// Threads: all methods from any thread at any time, but for one slot one at a
// time. A `Proxy` calls them from the threads that move datagrams, so none may
// wait for anything, ask the kernel anything that takes long, or allocate
// memory; what does is left to a thread of the offload's own, which is heard of
// in `state`. LateActivity is the exception.
//
// A slot names a session from Install to Remove.
class FlowOffload {
 public:
  virtual ~FlowOffload() = default;

  // Asks to have the session's datagrams relayed. The result is its slot, with
  // no activity and kWaiting, or none where there is no room. The session goes
  // on over its sockets whatever becomes of it; where it is refused it may be
  // tried again, after Remove.
  virtual absl::optional<uint32_t> Install(
      const SessionAddresses& addresses) = 0;

  // A load from memory.
  virtual FlowState state(uint32_t slot) const = 0;

  // The kernel receive time (SO_TIMESTAMPNS, socket(7)) of the newest datagram
  // of this direction that the process has dealt with: after it was sent on.
  // Called for each batch, so it may cost no more than a store to memory.
  virtual void PublishHandled(uint32_t slot, FlowDirection direction,
                              int64_t receive_time_nanoseconds) = 0;

  // Datagrams that make larger IP packets go to the sockets from now on. Holds
  // also where it comes before the session is installed.
  virtual void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                                   uint32_t bytes) = 0;

  // Since Install. Loads from memory.
  virtual SessionActivity ReadActivity(uint32_t slot) const = 0;

  // The session's next datagram goes to the sockets, also where it was not
  // installed yet, and the slot is given back. The result is what was relayed
  // since Install; a datagram that is being relayed this moment may be missing
  // there, and is in LateActivity then.
  virtual SessionActivity Remove(uint32_t slot) = 0;

  // What was relayed of sessions beside what Remove has returned for them, all
  // of them together; `last_relayed_nanoseconds` is 0. Not for the threads that
  // move datagrams: it may wait.
  virtual SessionActivity LateActivity() const = 0;

  // A take-over (see //udpgate/takeover) in which what is relayed goes on being
  // relayed. An offload that knows nothing of it has nothing to do: its flows
  // go back to the sockets first. Threads: one at a time, and none of those
  // that move datagrams.

  // The giver's part, on which Install and Remove may fall at any time.

  // Copies of what another process needs to go on with the flows, by names that
  // it knows; the caller's. Empty where it cannot.
  virtual std::map<std::string, int> CopyDescriptors() const { return {}; }
  // From now on no flow is installed or withdrawn, while all are relayed as
  // before: a process that has those copies may take them over. False where
  // none can.
  virtual bool BeginHandOver() { return false; }
  // It has not, and everything goes on.
  virtual void CancelHandOver() {}
  // It has, and the flows are nothing of this object's any more.
  virtual void LetGo() {}

  // The taker's part. Until StartAdopted the flows are the giver's, and are not
  // touched, whatever else is called.

  // Whether it has what CopyDescriptors of another process has given.
  virtual bool has_adopted() const { return false; }
  // Between the other one's BeginHandOver and StartAdopted: the slot is this
  // session's from now on, with all that was relayed there so far, and
  // installed. False where it has no flow there.
  virtual bool Adopt(uint32_t slot, const SessionAddresses& addresses) {
    (void)slot;
    (void)addresses;
    return false;
  }
  // The flows that were adopted are this object's now, and the others end.
  virtual void StartAdopted() {}
};

}  // namespace udpgate

#endif  // UDPGATE_FLOW_OFFLOAD_H_
