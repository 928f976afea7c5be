// The metrics of a `SessionKeeper`.
#ifndef UDPGATE_STORE_STORE_METRICS_H_
#define UDPGATE_STORE_STORE_METRICS_H_

#include <vector>

#include "udpgate/base/export.h"
#include "udpgate/host_metric.h"
#include "udpgate/store/session_keeper_stats.h"

namespace udpgate {

// Names, help texts and values, as `AdminHooks::metrics` takes them:
//
//   hooks.metrics = [keeper] {
//     return udpgate::SessionStoreMetrics(keeper->GetStats());
//   };
//
// Threads: any.
UDPGATE_EXPORT std::vector<HostMetric> SessionStoreMetrics(
    const SessionKeeperStats& stats);

}  // namespace udpgate

#endif  // UDPGATE_STORE_STORE_METRICS_H_
