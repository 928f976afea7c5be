// What all shards and readers of one gate share.
#ifndef UDPGATE_INTERNAL_GATE_CONTEXT_H_
#define UDPGATE_INTERNAL_GATE_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "udpgate/backend_resolver.h"
#include "udpgate/clock.h"
#include "udpgate/internal/client_hash.h"
#include "udpgate/internal/control_thread.h"
#include "udpgate/internal/listen_socket.h"
#include "udpgate/internal/relay_ports.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/proxy_options.h"

namespace udpgate {
namespace internal {

// Filled in before the first thread starts; what may change later says so and
// is safe from any thread.
struct GateContext {
  GateContext(const ProxyOptions& proxy_options, const Clock* gate_clock,
              SysCalls* gate_sys_calls, ClientHash client_hash,
              std::vector<uint16_t> local_ports)
      : options(proxy_options),
        clock(gate_clock),
        sys_calls(gate_sys_calls),
        hash(client_hash),
        relay_ports(std::move(local_ports)),
        control(proxy_options.log_sink, gate_clock,
                proxy_options.event_queue_size) {}

  const ProxyOptions options;
  const Clock* const clock;
  SysCalls* const sys_calls;
  const ClientHash hash;
  std::shared_ptr<BackendResolver> resolver;
  std::vector<ListenSocket> listeners;
  int64_t sessions_max = 0;

  // These change; each is safe from any thread.
  RelayPorts relay_ports;
  ControlThread control;
  std::atomic<int64_t> session_count{0};
  std::atomic<bool> is_draining{false};
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_GATE_CONTEXT_H_
