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

#include "absl/status/statusor.h"
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

// Threads: all methods from any thread at any time; a `Proxy` calls them from
// the threads that move datagrams, so none may wait for anything. A slot names
// a session from Install to Release.
class FlowOffload {
 public:
  virtual ~FlowOffload() = default;

  // Has the session's datagrams relayed as soon as that overtakes none that is
  // still on its way through the process. The result is its slot. An error
  // leaves the session on its sockets; it may be tried again later. Takes some
  // ten microseconds.
  virtual absl::StatusOr<uint32_t> Install(
      const SessionAddresses& addresses) = 0;

  // The kernel receive time (SO_TIMESTAMPNS, socket(7)) of the newest datagram
  // of this direction that the process has dealt with: after it was sent on.
  // Called for each batch, so it may cost no more than a store to memory.
  virtual void PublishHandled(uint32_t slot, FlowDirection direction,
                              int64_t receive_time_nanoseconds) = 0;

  // Datagrams that make larger IP packets go to the sockets from now on.
  virtual void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                                   uint32_t bytes) = 0;

  // Since Install. Loads from memory.
  virtual DirectionActivity ReadActivity(uint32_t slot,
                                         FlowDirection direction) const = 0;

  // True once nothing is relayed any more, because the way that the session's
  // datagrams take has changed, or `Remove` was called.
  virtual bool is_withdrawn(uint32_t slot) const = 0;

  // The session's next datagram goes to the sockets. Its activity can still be
  // read.
  virtual void Remove(uint32_t slot) = 0;
  // Removes, where that was not done, and gives the slot back.
  virtual void Release(uint32_t slot) = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_FLOW_OFFLOAD_H_
