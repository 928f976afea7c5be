// The metrics of signaling and of joins.
#ifndef UDPGATE_NETHERNET_NETHERNET_METRICS_H_
#define UDPGATE_NETHERNET_NETHERNET_METRICS_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "udpgate/host_metric.h"
#include "udpgate/nethernet/join_table.h"
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
// Requests are shown by path and status, joins by result, as soon as there was
// one; everything else always. Threads: any.
std::vector<HostMetric> NetherNetMetrics(const SignalingStats& signaling,
                                         const JoinTableStats& joins);

// What these metrics are, for documents.
struct NetherNetMetricInfo {
  absl::string_view name;
  HostMetric::Kind kind;
  absl::string_view labels;  // "path, status"; empty: none
  absl::string_view help;
};
absl::Span<const NetherNetMetricInfo> NetherNetMetricInfos();

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_NETHERNET_METRICS_H_
