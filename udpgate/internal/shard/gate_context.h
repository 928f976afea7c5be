// What all shards and readers of one gateway share.
#ifndef UDPGATE_INTERNAL_SHARD_GATE_CONTEXT_H_
#define UDPGATE_INTERNAL_SHARD_GATE_CONTEXT_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/clock.h"
#include "udpgate/flow_offload.h"
#include "udpgate/internal/net/client_hash.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/admission.h"
#include "udpgate/internal/session/backend_holdoff.h"
#include "udpgate/internal/session/backend_sessions.h"
#include "udpgate/internal/session/relay_ports.h"
#include "udpgate/internal/session/session_events.h"
#include "udpgate/internal/shard/hop.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/util/control_thread.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/proxy_options.h"

namespace udpgate {
namespace internal {

// The most backend addresses that are held off at the same time.
inline constexpr size_t kBackendHoldoffEntriesMax = 1024;

// Filled in before the first thread starts. Members that change later are
// marked and safe from any thread.
struct GateContext {
  GateContext(const ProxyOptions& proxy_options, const Clock* gate_clock,
              SysCalls* gate_sys_calls, ClientHash client_hash,
              const std::vector<uint16_t>& local_ports, int64_t sessions_max)
      : options(proxy_options),
        clock(gate_clock),
        sys_calls(gate_sys_calls),
        hash(client_hash),
        admission(proxy_options.limits, sessions_max),
        relay_ports(local_ports,
                    {proxy_options.upstream_bind_addresses,
                     absl::ToInt64Nanoseconds(proxy_options.port_quarantine)}),
        backend_holdoff(proxy_options.backend_holdoff,
                        kBackendHoldoffEntriesMax),
        control(proxy_options.log_sink, gate_clock,
                proxy_options.event_queue_size),
        limits(proxy_options.limits) {}

  const ProxyOptions options;
  const Clock* const clock;
  SysCalls* const sys_calls;
  const ClientHash hash;
  std::shared_ptr<BackendResolver> resolver;
  std::shared_ptr<FlowOffload> flow_offload;      // may be null
  std::unique_ptr<SessionEvents> session_events;  // null: no observer
  std::unique_ptr<Hop> hop;  // null: nothing is forwarded between gateways
  std::vector<ListenSocket> listeners;
  // Of all shards, by their numbers.
  std::vector<std::shared_ptr<Inbox>> inboxes;

  // These change; each is safe from any thread.
  Admission admission;
  RelayPorts relay_ports;
  BackendHoldoff backend_holdoff;
  BackendSessions backend_sessions;
  ControlThread control;
  std::atomic<bool> is_draining{false};
  std::atomic<bool> is_standby{false};  // see Proxy::SetStandby
  // From Start to Stop, or to the end of a takeover: shards handle messages.
  std::atomic<bool> is_running{false};
  // The limits in force. Each shard has a copy, and renews it when the version
  // changes.
  std::atomic<uint32_t> limits_version{0};
  mutable Mutex limits_mutex;
  ProxyLimits limits ABSL_GUARDED_BY(limits_mutex);
  // Messages kEvict that no shard has handled yet.
  std::atomic<int> evictions_under_way{0};
  // ICMP errors that named a client, and messages kClientRefused that no shard
  // has handled yet.
  std::atomic<uint64_t> client_refusals{0};
  std::atomic<int> client_refusals_under_way{0};
  std::atomic<uint64_t> client_error_pauses{0};
  // Changes when an address of this host is added or removed; see
  // NetworkWatcher.
  std::atomic<uint32_t> network_epoch{0};
  // By listener: a send returned an ICMP error, and more may be queued.
  std::array<std::atomic<bool>, 64> has_listen_errors{};
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_GATE_CONTEXT_H_
