// Metric families of the gateway, and Prometheus' text format 0.0.4.
#ifndef UDPGATE_ADMIN_INTERNAL_METRICS_H_
#define UDPGATE_ADMIN_INTERNAL_METRICS_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "prometheus/metric_family.h"
#include "udpgate/admin/internal/backend_loads.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace admin {
namespace internal {

// All numbers of `stats`: a new field needs no change here. A metric is named
// `udpgate_` and the field's name, with `_total` behind a counter. Datagrams
// and bytes are instead labelled by `direction` and `path`, disconnects by
// `result`.
std::vector<prometheus::MetricFamily> StatsFamilies(const ProxyStats& stats);

// `udpgate_backend_sessions`. The first `backends_max` backends have a label of
// their own; the sum of the rest is `other`.
prometheus::MetricFamily BackendFamily(absl::Span<const BackendLoad> backends,
                                       int backends_max);

// `udpgate_backend_sessions_opened_total` and `..._ended_total`; none if
// there are no backends.
std::vector<prometheus::MetricFamily> HistoryFamilies(
    absl::Span<const SessionHistory::Backend> backends);

// Descriptors, memory, processor time and start of this process, from proc(5).
// Numbers that cannot be read are left out.
std::vector<prometheus::MetricFamily> ProcessFamilies();

prometheus::MetricFamily Gauge(const std::string& name, const std::string& help,
                               double value);
prometheus::MetricFamily Counter(const std::string& name,
                                 const std::string& help, double value);

std::string Serialize(const std::vector<prometheus::MetricFamily>& families);

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_METRICS_H_
