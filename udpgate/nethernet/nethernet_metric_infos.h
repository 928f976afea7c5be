// Which metrics `NetherNetMetrics` (nethernet_metrics.h) has.
#ifndef UDPGATE_NETHERNET_NETHERNET_METRIC_INFOS_H_
#define UDPGATE_NETHERNET_NETHERNET_METRIC_INFOS_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "udpgate/base/export.h"
#include "udpgate/host_metric.h"

namespace udpgate {
namespace nethernet {

struct UDPGATE_EXPORT NetherNetMetricInfo {
  absl::string_view name;
  HostMetric::Kind kind;
  absl::string_view labels;  // "path, status"; empty: none
  absl::string_view help;
};

// In the order in which `NetherNetMetrics` lists them. Threads: any.
UDPGATE_EXPORT absl::Span<const NetherNetMetricInfo> NetherNetMetricInfos();

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_NETHERNET_METRIC_INFOS_H_
