// The text of /metrics: numbers of the Proxy, of the host program, of the
// endpoint and of the process.
#ifndef UDPGATE_ADMIN_INTERNAL_METRICS_PAGE_H_
#define UDPGATE_ADMIN_INTERNAL_METRICS_PAGE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "prometheus/metric_family.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/admin/internal/backend_loads.h"
#include "udpgate/admin/internal/health.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace admin {
namespace internal {

// Counters of the endpoint itself.
struct EndpointCounts {
  uint64_t requests = 0;  // that reached a worker
  uint64_t connections = 0;
  uint64_t evicted = 0;
  uint64_t timed_out = 0;
  uint64_t refused = 0;
  uint64_t wrong_tokens = 0;
  uint64_t rate_limited = 0;
};

// Threads: any, but `AddCounters` only before the others.
// Ownership: what the constructor gets must outlive it.
class MetricsPage {
 public:
  MetricsPage(const AdminOptions* options, const Proxy* proxy,
              const AdminHooks* hooks, const Health* health,
              BackendLoads* backends)
      : options_(options),
        proxy_(proxy),
        hooks_(hooks),
        health_(health),
        backends_(backends) {}

  // Prometheus' text format 0.0.4.
  std::string Text(const EndpointCounts& counts);

  // See `AdminServer`.
  std::map<std::string, double> Counters(const EndpointCounts& counts) const;
  void AddCounters(const std::map<std::string, double>& counters);

 private:
  // Those of the host program, of the endpoint and of the process.
  std::vector<prometheus::MetricFamily> OwnFamilies(
      const EndpointCounts& counts) const;

  const AdminOptions* const options_;
  const Proxy* const proxy_;
  const AdminHooks* const hooks_;
  const Health* const health_;
  BackendLoads* const backends_;
  std::map<std::string, double> counters_before_;  // of previous processes
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_METRICS_PAGE_H_
