#include "udpgate/admin/internal/host_families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "prometheus/metric_family.h"
#include "udpgate/admin/internal/metrics.h"
#include "udpgate/host_metric.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

HostMetric Joins(double value, const std::string& result) {
  HostMetric metric;
  metric.kind = HostMetric::Kind::kCounter;
  metric.name = "joins_total";
  metric.help = "Joins by result.";
  metric.value = value;
  metric.labels = {{"result", result}};
  return metric;
}

HostMetric Seconds() {
  HostMetric metric;
  metric.kind = HostMetric::Kind::kHistogram;
  metric.name = "answer_seconds";
  metric.help = "Time to the answer.";
  metric.histogram.upper_bounds = {0.5, 2};
  metric.histogram.counts = {3, 1, 2};
  metric.histogram.sum = 17.25;
  return metric;
}

TEST(HostFamiliesTest, MetricsOfOneNameAreOneFamily) {
  EXPECT_EQ(Serialize(HostFamilies(std::vector<HostMetric>{
                Joins(3, "joined"),
                {HostMetric::Kind::kGauge, "waiting", "Joins that wait.", 7},
                Joins(1, "refused")})),
            "# HELP joins_total Joins by result.\n"
            "# TYPE joins_total counter\n"
            "joins_total{result=\"joined\"} 3\n"
            "joins_total{result=\"refused\"} 1\n"
            "# HELP waiting Joins that wait.\n"
            "# TYPE waiting gauge\n"
            "waiting 7\n");
}

TEST(HostFamiliesTest, HistogramsAreCumulative) {
  EXPECT_EQ(Serialize(HostFamilies(std::vector<HostMetric>{Seconds()})),
            "# HELP answer_seconds Time to the answer.\n"
            "# TYPE answer_seconds histogram\n"
            "answer_seconds_count 6\n"
            "answer_seconds_sum 17.25\n"
            "answer_seconds_bucket{le=\"0.5\"} 3\n"
            "answer_seconds_bucket{le=\"2\"} 4\n"
            "answer_seconds_bucket{le=\"+Inf\"} 6\n");
}

TEST(HostFamiliesTest, CountersAreNamedAsInTheTextFormat) {
  EXPECT_THAT(
      CountersOf(HostFamilies(std::vector<HostMetric>{
          Joins(3, "joined"),
          {HostMetric::Kind::kGauge, "waiting", "Help.", 7},
          {HostMetric::Kind::kCounter, "gets_total", "Help.", 2},
          Seconds()})),
      ElementsAre(Pair("answer_seconds_bucket{le=\"0.5\"}", 3),
                  Pair("answer_seconds_bucket{le=\"2\"}", 4),
                  Pair("answer_seconds_bucket{le=\"inf\"}", 6),
                  Pair("answer_seconds_count", 6),
                  Pair("answer_seconds_sum", 17.25), Pair("gets_total", 2),
                  Pair("joins_total{result=\"joined\"}", 3)));
}

// The previous process is the one whose counters are taken.
TEST(HostFamiliesTest, CountersContinueThoseOfThePreviousProcess) {
  std::vector<prometheus::MetricFamily> families = HostFamilies(
      std::vector<HostMetric>{Joins(3, "joined"),
                              Joins(1, "refused"),
                              {HostMetric::Kind::kGauge, "waiting", "Help.", 7},
                              Seconds()});
  std::map<std::string, double> before = CountersOf(families);
  before.erase("joins_total{result=\"refused\"}");
  before["waiting"] = 100;
  AddCountersBefore(before, &families);
  EXPECT_EQ(Serialize(families),
            "# HELP joins_total Joins by result.\n"
            "# TYPE joins_total counter\n"
            "joins_total{result=\"joined\"} 6\n"
            "joins_total{result=\"refused\"} 1\n"
            "# HELP waiting Help.\n"
            "# TYPE waiting gauge\n"
            "waiting 7\n"
            "# HELP answer_seconds Time to the answer.\n"
            "# TYPE answer_seconds histogram\n"
            "answer_seconds_count 12\n"
            "answer_seconds_sum 34.5\n"
            "answer_seconds_bucket{le=\"0.5\"} 6\n"
            "answer_seconds_bucket{le=\"2\"} 8\n"
            "answer_seconds_bucket{le=\"+Inf\"} 12\n");
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
