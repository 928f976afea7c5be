// A metric that a part of the host program reports, for `AdminHooks::metrics`
// or for any other exporter.
#ifndef UDPGATE_HOST_METRIC_H_
#define UDPGATE_HOST_METRIC_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "udpgate/base/export.h"

namespace udpgate {

// How often a measured value fell into which range. Threads: as a std::vector.
struct UDPGATE_EXPORT HostHistogram {
  std::vector<double> upper_bounds = {};  // ascending, each included
  // One for each bound: the values above the bound before it. One more, the
  // last: the values above all bounds.
  std::vector<uint64_t> counts = {};
  double sum = 0;  // of all values
};

// One value. Values with the same name and other labels are one metric; they
// have the same kind and help text. Threads: as a std::string.
//
//   HostMetric joins;
//   joins.kind = HostMetric::Kind::kCounter;
//   joins.name = "game_joins_total";
//   joins.help = "Joins by result.";
//   joins.value = 3;
//   joins.labels = {{"result", "refused"}};
struct UDPGATE_EXPORT HostMetric {
  enum class Kind { kCounter, kGauge, kHistogram };
  Kind kind = Kind::kGauge;
  std::string name = {};  // a Prometheus name, with `_total` behind a counter
  std::string help = {};
  double value = 0;  // not used by a histogram
  // Names (Prometheus: [a-zA-Z_][a-zA-Z0-9_]*, not `le`) and values.
  std::vector<std::pair<std::string, std::string>> labels = {};
  HostHistogram histogram = {};  // used by a histogram only
};

}  // namespace udpgate

#endif  // UDPGATE_HOST_METRIC_H_
