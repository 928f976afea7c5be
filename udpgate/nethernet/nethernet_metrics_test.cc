#include "udpgate/nethernet/nethernet_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "udpgate/nethernet/nethernet_metric_infos.h"

namespace udpgate {
namespace nethernet {
namespace {

// By name and labels.
std::map<std::string, double> Values(const SignalingStats& signaling,
                                     const JoinTableStats& joins) {
  std::map<std::string, double> values;
  for (const HostMetric& metric : NetherNetMetrics(signaling, joins)) {
    std::string name = metric.name;
    for (const auto& [label, value] : metric.labels) {
      absl::StrAppend(&name, " ", label, "=", value);
    }
    EXPECT_EQ(values.count(name), 0u) << name;
    values[name] = metric.value;
  }
  return values;
}

// The names are a contract with dashboards, alerts and documents.
TEST(NetherNetMetricsTest, EachIsDescribedAsItIs) {
  SignalingStats stats;
  stats.join.requests = {{RequestPath::kJoin, 200, 1}};
  std::map<std::string, const NetherNetMetricInfo*> infos;
  for (const NetherNetMetricInfo& info : NetherNetMetricInfos()) {
    EXPECT_TRUE(infos.emplace(std::string(info.name), &info).second);
    EXPECT_TRUE(absl::StartsWith(info.name, "udpgate_nethernet_"));
    EXPECT_FALSE(info.help.empty());
    EXPECT_EQ(absl::EndsWith(info.name, "_total"),
              info.kind == HostMetric::Kind::kCounter)
        << info.name;
  }
  std::set<std::string> seen;
  for (const HostMetric& metric : NetherNetMetrics(stats, JoinTableStats())) {
    ASSERT_EQ(infos.count(metric.name), 1u) << metric.name;
    const NetherNetMetricInfo& info = *infos[metric.name];
    EXPECT_EQ(metric.kind, info.kind);
    EXPECT_EQ(metric.help, info.help);
    std::vector<std::string> labels;
    for (const auto& label : metric.labels) labels.push_back(label.first);
    EXPECT_EQ(absl::StrJoin(labels, ", "), info.labels) << metric.name;
    seen.insert(metric.name);
  }
  EXPECT_EQ(seen.size(), infos.size());
}

TEST(NetherNetMetricsTest, FollowTheNumbers) {
  SignalingStats stats;
  stats.server.accepted = 1;
  stats.server.open = 2;
  stats.server.closed_at_limit = 3;
  stats.server.tls_handshakes_failed = 4;
  stats.server.proxy_headers_refused = 5;
  stats.server.refused_requests = 6;
  stats.join.requests = {{RequestPath::kStatus, 200, 7},
                         {RequestPath::kJoin, 503, 8}};
  stats.join.joins[static_cast<size_t>(JoinResult::kBadOffer)] = 9;
  stats.join.status_questions_failed = 10;
  stats.client.refused = 11;
  JoinTableStats joins;
  joins.joins_waiting = 12;
  joins.joins_live = 13;
  joins.joins_expired = 14;
  joins.stun_wrong_integrity = 15;
  joins.clients_moved = 16;
  std::map<std::string, double> values = Values(stats, joins);
  const auto value = [&values](const std::string& name) {
    return values.at(absl::StrCat("udpgate_nethernet_", name));
  };
  EXPECT_EQ(value("connections_total"), 1);
  EXPECT_EQ(value("connections_open"), 2);
  EXPECT_EQ(value("connections_closed_total reason=limit"), 3);
  EXPECT_EQ(value("tls_handshakes_total result=failed"), 4);
  EXPECT_EQ(value("proxy_headers_total result=refused"), 5);
  EXPECT_EQ(value("requests_refused_total"), 6);
  EXPECT_EQ(value("requests_total path=status status=200"), 7);
  EXPECT_EQ(value("requests_total path=join status=503"), 8);
  EXPECT_EQ(value("joins_total result=bad_offer"), 9);
  EXPECT_EQ(value("joins_total result=joined"), 0);
  EXPECT_EQ(value("status_questions_total result=failed"), 10);
  EXPECT_EQ(value("backend_requests_refused_total"), 11);
  EXPECT_EQ(value("joins_waiting"), 12);
  EXPECT_EQ(value("joins_live"), 13);
  EXPECT_EQ(value("joins_ended_total reason=expired"), 14);
  EXPECT_EQ(value("stun_total result=wrong_integrity"), 15);
  EXPECT_EQ(value("clients_moved_total"), 16);
}

TEST(NetherNetMetricsTest, TheTimeToTheAnswerIsAHistogram) {
  SignalingStats stats;
  for (size_t i = 0; i < kAnswerBucketCount; ++i) {
    stats.join.answers_by_duration[i] = i;
  }
  stats.join.answer_seconds_total = 2.5;
  for (const HostMetric& metric : NetherNetMetrics(stats, JoinTableStats())) {
    if (metric.kind != HostMetric::Kind::kHistogram) continue;
    EXPECT_EQ(metric.name, "udpgate_nethernet_answer_duration_seconds");
    EXPECT_EQ(metric.histogram.upper_bounds.size() + 1,
              metric.histogram.counts.size());
    EXPECT_EQ(metric.histogram.counts.back(), kAnswerBucketCount - 1);
    EXPECT_EQ(metric.histogram.sum, 2.5);
    return;
  }
  FAIL() << "no histogram";
}

}  // namespace
}  // namespace nethernet
}  // namespace udpgate
