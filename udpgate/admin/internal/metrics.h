// What the gate counts, as Prometheus' text format 0.0.4.
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

// All numbers of `stats`, so that a field that comes new is shown without more
// ado. Names: `udpgate_` and the field's, with `_total` behind a counter;
// datagrams and bytes instead by `direction` and `path`, what became of
// disconnects by `result`.
std::vector<prometheus::MetricFamily> StatsFamilies(const ProxyStats& stats);

// `udpgate_backend_sessions`. At most `backends_max` values of its label, the
// first ones; the rest add up to `other`.
prometheus::MetricFamily BackendFamily(absl::Span<const BackendLoad> backends,
                                       int backends_max);

// `udpgate_backend_sessions_opened_total` and `..._ended_total`; none where
// there are no backends.
std::vector<prometheus::MetricFamily> HistoryFamilies(
    absl::Span<const SessionHistory::Backend> backends);

// Descriptors, memory, processor time and start of this process, from proc(5).
// What cannot be read is left out.
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
