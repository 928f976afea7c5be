#include "udpgate/store/store_metrics.h"

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

TEST(StoreMetricsTest, EveryMetricHasAPrometheusNameAndAHelpText) {
  std::set<std::string> series;
  for (const HostMetric& metric : SessionStoreMetrics({})) {
    EXPECT_TRUE(absl::StartsWith(metric.name, "udpgate_store_")) << metric.name;
    EXPECT_EQ(absl::EndsWith(metric.name, "_total"),
              metric.kind == HostMetric::Kind::kCounter)
        << metric.name;
    EXPECT_TRUE(absl::EndsWith(metric.help, ".")) << metric.help;
    const std::string label =
        metric.labels.empty() ? "" : metric.labels[0].second;
    EXPECT_TRUE(series.insert(metric.name + label).second) << metric.name;
  }
}

TEST(StoreMetricsTest, ValuesAreThoseOfTheStats) {
  SessionKeeperStats stats;
  stats.recovered = 5;
  stats.recovered_on_other_port = 2;
  stats.is_fenced = true;
  stats.calls_by_duration[1] = 3;
  int found = 0;
  for (const HostMetric& metric : SessionStoreMetrics(stats)) {
    if (metric.name == "udpgate_store_recovered_total" &&
        metric.labels[0].second == "same_port") {
      EXPECT_EQ(metric.value, 3);
      ++found;
    }
    if (metric.name == "udpgate_store_fenced") {
      EXPECT_EQ(metric.value, 1);
      ++found;
    }
    if (metric.kind == HostMetric::Kind::kHistogram) {
      EXPECT_EQ(metric.histogram.counts.size(),
                metric.histogram.upper_bounds.size() + 1);
      EXPECT_EQ(metric.histogram.counts[1], 3u);
      ++found;
    }
  }
  EXPECT_EQ(found, 3);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
