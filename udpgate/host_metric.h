// A metric that a part of the host program reports, for `AdminHooks::metrics`
// or for any other exporter.
#ifndef UDPGATE_HOST_METRIC_H_
#define UDPGATE_HOST_METRIC_H_

#include <string>

namespace udpgate {

// One value, without labels. Threads: as a std::string.
struct HostMetric {
  enum class Kind { kCounter, kGauge };
  Kind kind = Kind::kGauge;
  std::string name;  // a Prometheus name, with `_total` behind a counter
  std::string help;
  double value = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_HOST_METRIC_H_
