// The metrics of signaling and of joins.
#ifndef UDPGATE_NETHERNET_NETHERNET_METRICS_H_
#define UDPGATE_NETHERNET_NETHERNET_METRICS_H_

#include <vector>

#include "udpgate/base/export.h"
#include "udpgate/host_metric.h"
#include "udpgate/nethernet/join.h"
#include "udpgate/nethernet/signaling_server.h"

namespace udpgate {
namespace nethernet {

// Names, help texts and current values, as `AdminHooks::metrics` takes them:
//
//   hooks.metrics = [server = server.get(), joins] {
//     return udpgate::nethernet::NetherNetMetrics(server->stats(),
//                                                 joins->stats());
//   };
//
// nethernet_metric_infos.h says what they are. Requests by path and status are
// there as soon as there was one; everything else always. Threads: any.
UDPGATE_EXPORT std::vector<HostMetric> NetherNetMetrics(
    const SignalingStats& signaling, const JoinTableStats& joins);

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_NETHERNET_METRICS_H_
