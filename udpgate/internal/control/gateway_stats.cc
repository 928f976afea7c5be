#include "udpgate/internal/control/gateway_stats.h"

#include "udpgate/internal/session/session_offload.h"
#include "udpgate/internal/util/counters.h"

namespace udpgate {
namespace internal {

void AddGatewayStats(const GateContext& context, const DataPlane& data_plane,
                     const DisconnectRouter& disconnects, ProxyStats* stats) {
  const int64_t now_nanoseconds = context.clock->NowNanoseconds();
  data_plane.AddStats(stats);
  disconnects.AddStats(stats);
  stats->relay_ports_in_use += context.relay_ports.in_use();
  stats->relay_ports_quarantined +=
      context.relay_ports.quarantined(now_nanoseconds);
  stats->quarantined_ports_taken +=
      context.relay_ports.quarantined_ports_taken();
  stats->backends_held_off += context.backend_holdoff.count(now_nanoseconds);
  stats->backend_holdoff_overflows += context.backend_holdoff.overflows();
  stats->client_refusals +=
      context.client_refusals.load(std::memory_order_relaxed);
  stats->client_error_pauses +=
      context.client_error_pauses.load(std::memory_order_relaxed);
  stats->events_suppressed += context.control.suppressed();
  if (context.session_events != nullptr) {
    stats->session_events_dropped += context.session_events->dropped();
    stats->session_events_queued += context.session_events->waiting();
  }
  if (context.flow_offload != nullptr) {
    Counters late;
    CountRelayed(context.flow_offload->LateActivity(), &late);
    late.AddTo(stats);
  }
}

}  // namespace internal
}  // namespace udpgate
