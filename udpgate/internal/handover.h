// What a gate hands to its successor, another process that goes on with its
// sockets: the plain data, and the part of a Proxy that gives and takes it.
// How it gets from one process to the other is //udpgate/takeover's.
#ifndef UDPGATE_INTERNAL_HANDOVER_H_
#define UDPGATE_INTERNAL_HANDOVER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "udpgate/flow_offload.h"
#include "udpgate/internal/session_record.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// One session. Times are those of the old process's clock.
struct HandedSession : SessionRecord {
  // Where the flow offload's flows are handed over: its slot, and what of it is
  // in the numbers above.
  uint32_t flow_slot = UINT32_MAX;  // none
  SessionActivity flow_counted;

  // Of the taker: where Prepare has put it.
  uint32_t prepared_slot = UINT32_MAX;

  // Towards the backend; none while pending. A copy (dup(2)) where the giver
  // still serves, its own one, on loan, where it does not.
  UniqueFd upstream_fd;
  // The datagrams that a pending one holds, in order.
  std::vector<std::string> held;
  std::vector<uint8_t> held_traffic_classes;  // 0 for those beyond its end
};

// A source port that rests, see RelayPorts.
struct HandedPort {
  SocketAddress relay;
  int64_t since_nanoseconds = 0;
};

// The rest of a gate.
struct HandedGate {
  // By the giver's clock: when it gave this, and when it stopped all traffic.
  int64_t now_nanoseconds = 0;
  int64_t pause_began_nanoseconds = 0;
  // The number in the highest id so far; see SessionTable.
  uint64_t session_number = 0;
  // The counters; gauges are 0, since the taker has its own.
  ProxyStats stats;
  bool is_draining = false;
  // Of each listener, as its reader has counted them; see SO_RXQ_OVFL.
  std::vector<uint32_t> kernel_drops;
  std::vector<HandedPort> quarantined;
  std::vector<HandedSession> sessions;
};

// A Proxy as giver or as taker. Threads: one at a time, and none of the
// Proxy's own.
class Handover {
 public:
  virtual ~Handover() = default;

  // The giver's part, while the Proxy runs.

  // See ProxyOptions::client_hash_seed.
  virtual uint64_t hash_seed() const = 0;
  // Copies of the listen sockets.
  virtual absl::StatusOr<std::vector<UniqueFd>> CopyListenSockets() = 0;
  // Copies of what the flow offload needs to go on in another process; see
  // FlowOffload::CopyDescriptors.
  virtual std::map<std::string, UniqueFd> CopyFlowDescriptors() = 0;
  // Calls `visit` with the sessions that have a socket, in slices, each with a
  // copy of it; the data plane goes on between the slices. A session that
  // begins or ends meanwhile may be missing, and so may one for whose copy
  // there was no descriptor. Stops where `visit` fails.
  virtual absl::Status VisitSockets(
      absl::FunctionRef<absl::Status(std::vector<HandedSession> sessions)>
          visit) = 0;
  // Stops all traffic, deals with what was read, and calls `give` with all that
  // the taker must have; each `upstream_fd` is a loan then. If `give` succeeds,
  // the taker has it all: the Proxy lets go of it, without an end of a session,
  // and is stopped. If not, it goes on as if nothing had been, and this returns
  // what `give` did. FailedPrecondition where the Proxy does not run.
  // `keeps_flows`: the taker has the flow offload's descriptors, and goes on
  // with its flows. Else these go back to the sockets.
  virtual absl::Status HandOver(
      bool keeps_flows,
      absl::FunctionRef<absl::Status(const HandedGate& gate)> give) = 0;

  // The taker's part, between Create and Start, in this order.

  // Starts the disconnect source, and keeps what it brings until Start: the
  // giver ends the sessions that it has, and this Proxy those that it gets.
  virtual absl::Status ListenForDisconnects() = 0;
  // Whether that source works, or there is none.
  virtual bool HearsDisconnects() const = 0;
  // Whether the flow offload has the giver's, and can go on with its flows.
  virtual bool KeepsFlows() const = 0;
  // Makes sessions ready that the giver still serves, takes their descriptors,
  // and notes in `prepared_slot` where they are, for TakeOver: what is done
  // here need not be done while all traffic stands still. They are dropped
  // where TakeOver does not bring them too. InvalidArgument where one does not
  // fit; then the Proxy is of no use any more.
  virtual absl::Status Prepare(absl::Span<HandedSession> sessions) = 0;
  // Takes everything, whatever the own limits say; Start then goes on with it.
  // A session that was prepared has no descriptor. Errors as of Prepare. The
  // descriptors are the Proxy's, also then.
  virtual absl::Status TakeOver(HandedGate gate) = 0;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_HANDOVER_H_
