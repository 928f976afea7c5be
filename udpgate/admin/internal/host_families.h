// The metrics of the host program as Prometheus' families, and counters that
// continue those of a previous process.
#ifndef UDPGATE_ADMIN_INTERNAL_HOST_FAMILIES_H_
#define UDPGATE_ADMIN_INTERNAL_HOST_FAMILIES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "prometheus/metric_family.h"
#include "udpgate/host_metric.h"

namespace udpgate {
namespace admin {
namespace internal {

// One family for each name, in the order in which the names come first.
std::vector<prometheus::MetricFamily> HostFamilies(
    absl::Span<const HostMetric> metrics);

// The counters and histograms of `families`, one entry for each sample, named
// as in the text format: `name`, `name{label="value"}`, `name_bucket{le="1"}`.
std::map<std::string, double> CountersOf(
    const std::vector<prometheus::MetricFamily>& families);

// Adds to each counter and histogram what `before` has under its name.
void AddCountersBefore(const std::map<std::string, double>& before,
                       std::vector<prometheus::MetricFamily>* families);

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_HOST_FAMILIES_H_
