// What a takeover hands over: the data, and a Proxy's interface for it as the
// old process and as the new one. //udpgate/takeover transfers the data.
#ifndef UDPGATE_INTERNAL_SESSION_HANDOVER_H_
#define UDPGATE_INTERNAL_SESSION_HANDOVER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "udpgate/flow_offload.h"
#include "udpgate/internal/session/session_record.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// One session. Times are those of the old process's clock.
struct HandedSession : SessionRecord {
  // If the flow offload's flows are handed over: its slot, and how much of the
  // flow is included in the counters of the record.
  uint32_t flow_slot = UINT32_MAX;  // none
  SessionActivity flow_counted;

  // In the new process: the slot of the session that Prepare made.
  uint32_t prepared_slot = UINT32_MAX;

  // The upstream socket; none while pending. While the old process serves, a
  // copy (dup(2)); during the pause its own descriptor, which it still owns.
  UniqueFd upstream_fd;
  // The buffered datagrams of a pending session, in order.
  std::vector<std::string> held;
  std::vector<uint8_t> held_traffic_classes;  // 0 for those beyond its end
};

// A source port in quarantine, see RelayPorts.
struct HandedPort {
  SocketAddress relay;
  int64_t since_nanoseconds = 0;
};

// Everything of a gateway.
struct HandedGate {
  // By the old process's clock: when this was filled in, and when forwarding
  // was paused.
  int64_t now_nanoseconds = 0;
  int64_t pause_began_nanoseconds = 0;
  // The number in the highest id so far; see SessionTable.
  uint64_t session_number = 0;
  // The counters. Gauges are 0: the new process has its own.
  ProxyStats stats;
  bool is_draining = false;
  bool is_standby = false;
  // SO_RXQ_OVFL of each listening socket, as last counted.
  std::vector<uint32_t> kernel_drops;
  std::vector<HandedPort> quarantined;
  std::vector<HandedSession> sessions;
};

// Threads: one at a time, and none of the Proxy's own.
class Handover {
 public:
  virtual ~Handover() = default;

  // The old process, while the Proxy runs.

  // See ProxyOptions::client_hash_seed.
  virtual uint64_t hash_seed() const = 0;
  // Copies of the listening sockets.
  virtual absl::StatusOr<std::vector<UniqueFd>> CopyListenSockets() = 0;
  // Copies of what the flow offload needs to continue in another process; see
  // FlowOffload::CopyDescriptors.
  virtual std::map<std::string, UniqueFd> CopyFlowDescriptors() = 0;
  // Calls `visit` with the sessions that have an upstream socket, in slices,
  // each with a copy of it. Datagrams are forwarded between slices. A session
  // may be missing if it is created or ends meanwhile, or if no descriptor was
  // left for the copy. Stops if `visit` fails.
  virtual absl::Status VisitSockets(
      absl::FunctionRef<absl::Status(std::vector<HandedSession> sessions)>
          visit) = 0;
  // Pauses forwarding, handles what was read, and calls `give` with everything;
  // the Proxy still owns each `upstream_fd`. If `give` succeeds the new process
  // has it all: the Proxy forgets its sessions, without ending them, and is
  // stopped. If `give` fails the Proxy continues as before, and the status is
  // returned. FailedPrecondition if the Proxy does not run.
  // `keeps_flows`: the new process has the flow offload's descriptors, and
  // continues its flows. Otherwise flows go back to the sockets.
  virtual absl::Status HandOver(
      bool keeps_flows,
      absl::FunctionRef<absl::Status(const HandedGate& gate)> give) = 0;

  // The new process, between Create and Start, in this order.

  // Starts the disconnect source, and keeps its events until Start: the old
  // process ends the sessions that it has, and this Proxy those that it gets.
  virtual absl::Status ListenForDisconnects() = 0;
  // True if that source receives events, or if there is none.
  virtual bool HearsDisconnects() const = 0;
  // True if the flow offload has the old process's descriptors, and can
  // continue its flows.
  virtual bool KeepsFlows() const = 0;
  // Prepares sessions that the old process still serves, which shortens the
  // pause. Takes their descriptors, and sets `prepared_slot` for TakeOver.
  // Sessions that are not in TakeOver are dropped there. InvalidArgument if one
  // is not acceptable; the Proxy can only be destroyed then.
  virtual absl::Status Prepare(absl::Span<HandedSession> sessions) = 0;
  // Takes everything, regardless of this process's limits; Start continues with
  // it. A prepared session has no descriptor here. Errors as for Prepare. Owns
  // the descriptors, also if it fails.
  virtual absl::Status TakeOver(HandedGate gate) = 0;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_HANDOVER_H_
