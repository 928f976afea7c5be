// Adds up the counters of a gateway.
#ifndef UDPGATE_INTERNAL_CONTROL_GATEWAY_STATS_H_
#define UDPGATE_INTERNAL_CONTROL_GATEWAY_STATS_H_

#include "udpgate/internal/control/data_plane.h"
#include "udpgate/internal/control/disconnect_router.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {

// Adds the counters and gauges of this process. Threads: any.
void AddGatewayStats(const GateContext& context, const DataPlane& data_plane,
                     const DisconnectRouter& disconnects, ProxyStats* stats);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_GATEWAY_STATS_H_
