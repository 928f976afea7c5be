#include "udpgate/redis/redis_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "testing/await.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/internal/scripted_peer.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::ScriptedPeer;

// A resolver and a source that are connected to one peer.
class RedisMetricsTest : public ::testing::Test {
 protected:
  RedisMetricsTest() {
    const auto lookup = HostLookup::Create({});
    RedisOptions options;
    options.address = peer_.address();
    options.log_sink = nullptr;
    options.requests_waiting_max = 1;
    resolver_ = *RedisBackendResolver::Create(options, *lookup);
    source_ = *RedisDisconnectSource::Create(options, *lookup);
  }

  std::map<std::string, double> Values() const {
    std::map<std::string, double> values;
    for (const HostMetric& metric : RedisMetrics(*resolver_, *source_)) {
      values[metric.name] = metric.value;
    }
    return values;
  }

  ScriptedPeer peer_{ScriptedPeer::Healthy};  // never replies to a GET
  std::shared_ptr<RedisBackendResolver> resolver_;
  std::shared_ptr<RedisDisconnectSource> source_;
};

// The names are a contract with dashboards and alerts.
TEST_F(RedisMetricsTest, ListsEachMetricOnceWithAHelpText) {
  std::vector<std::string> names;
  for (const HostMetric& metric : RedisMetrics(*resolver_, *source_)) {
    // Each has its labels.
    if (metric.name == "udpgate_redis_problem" && !names.empty() &&
        names.back() == metric.name) {
      continue;
    }
    names.push_back(metric.name);
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    const bool is_total =
        metric.name.size() > 6 &&
        metric.name.compare(metric.name.size() - 6, 6, "_total") == 0;
    EXPECT_EQ(is_total, metric.kind == HostMetric::Kind::kCounter)
        << metric.name;
  }
  EXPECT_THAT(
      names,
      ::testing::UnorderedElementsAre(
          "udpgate_redis_connected", "udpgate_redis_subscribed",
          "udpgate_redis_subscribed_age_seconds",
          "udpgate_redis_disconnect_gaps_total",
          "udpgate_redis_disconnect_stream_reading",
          "udpgate_redis_disconnect_stream_entries_total",
          "udpgate_redis_disconnect_pairs_total",
          "udpgate_redis_disconnect_pairs_forgotten_total",
          "udpgate_redis_gets_sent_total", "udpgate_redis_stale_answers_total",
          "udpgate_redis_questions_refused_total",
          "udpgate_redis_questions_asked_again_total",
          "udpgate_redis_key_sets_forgotten_total", "udpgate_redis_key_sets",
          "udpgate_redis_questions_waiting", "udpgate_redis_problem"));
}

// Each reason of each connection has a value.
TEST_F(RedisMetricsTest, HaveAValueForEachProblem) {
  std::map<std::string, size_t> reasons;
  for (const HostMetric& metric : RedisMetrics(*resolver_, *source_)) {
    if (metric.name != "udpgate_redis_problem") continue;
    ASSERT_EQ(metric.labels.size(), 2u);
    EXPECT_EQ(metric.labels[0].first, "connection");
    EXPECT_EQ(metric.labels[1].first, "reason");
    ++reasons[metric.labels[0].second];
  }
  for (const char* connection :
       {"backend_key", "disconnect_channel", "disconnect_stream"}) {
    EXPECT_EQ(reasons[connection], kRedisProblemCount - 1);
  }
}

TEST(RedisClusterMetricsTest, ShowEveryNumber) {
  RedisClusterStats cluster;
  cluster.is_cluster = true;
  cluster.redirects = 2;
  cluster.contradictions = 3;
  cluster.refreshes = 4;
  cluster.nodes = 5;
  cluster.slots_covered = 6;
  RedisBackendResolverStats resolver;
  resolver.nodes_connected = 7;
  resolver.nodes_refused = 8;
  std::map<std::string, double> values;
  for (const HostMetric& metric : RedisClusterMetrics(cluster, resolver)) {
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    values[metric.name] = metric.value;
  }
  const std::string prefix = "udpgate_redis_cluster";
  EXPECT_THAT(values, ::testing::UnorderedElementsAre(
                          std::make_pair(prefix, 1),
                          std::make_pair(prefix + "_redirects_total", 2),
                          std::make_pair(prefix + "_contradictions_total", 3),
                          std::make_pair(prefix + "_refreshes_total", 4),
                          std::make_pair(prefix + "_nodes", 5),
                          std::make_pair(prefix + "_slots_covered", 6),
                          std::make_pair(prefix + "_nodes_connected", 7),
                          std::make_pair(prefix + "_nodes_refused_total", 8)));
}

TEST(RedisStreamMetricsTest, ShowEveryNumber) {
  RedisStreamStats stream;
  stream.is_reading = true;
  stream.entries_written = 1;
  stream.entries_read = 2;
  stream.entries_dropped = 3;
  stream.entries_invalid = 4;
  stream.entries_waiting = 5;
  std::map<std::string, double> values;
  for (const HostMetric& metric : RedisStreamMetrics(stream)) {
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    if (metric.labels.empty()) values[metric.name] = metric.value;
  }
  const std::string prefix = "udpgate_redis_stream_";
  EXPECT_THAT(values, ::testing::UnorderedElementsAre(
                          std::make_pair(prefix + "reading", 1),
                          std::make_pair(prefix + "writing", 0),
                          std::make_pair(prefix + "entries_written_total", 1),
                          std::make_pair(prefix + "entries_read_total", 2),
                          std::make_pair(prefix + "entries_dropped_total", 3),
                          std::make_pair(prefix + "entries_invalid_total", 4),
                          std::make_pair(prefix + "entries_waiting", 5)));
  values.clear();
  for (const HostMetric& metric :
       RedisKeyWatchMetrics({/*is_connected=*/true, 6, 7})) {
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    if (metric.labels.empty()) values[metric.name] = metric.value;
  }
  EXPECT_THAT(values,
              ::testing::UnorderedElementsAre(
                  std::make_pair("udpgate_redis_status_connected", 1),
                  std::make_pair("udpgate_redis_status_reads_total", 6),
                  std::make_pair("udpgate_redis_status_refused_total", 7)));
}

TEST(RedisEventStreamMetricsTest, ShowEveryNumber) {
  RedisEventStreamStats stats;
  stats.is_writing = true;
  stats.events_written = 2;
  stats.events_dropped = 3;
  stats.events_waiting = 4;
  std::map<std::string, double> values;
  for (const HostMetric& metric : RedisEventStreamMetrics(stats)) {
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    if (metric.labels.empty()) values[metric.name] = metric.value;
  }
  const std::string prefix = "udpgate_redis_events_";
  EXPECT_THAT(values, ::testing::UnorderedElementsAre(
                          std::make_pair(prefix + "writing", 1),
                          std::make_pair(prefix + "written_total", 2),
                          std::make_pair(prefix + "dropped_total", 3),
                          std::make_pair(prefix + "waiting", 4)));
}

TEST(RedisGatewayEntryMetricsTest, ShowEveryNumber) {
  std::map<std::string, double> values;
  for (const HostMetric& metric :
       RedisGatewayEntryMetrics({/*is_current=*/true, 1, 2, 3})) {
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    if (metric.labels.empty()) values[metric.name] = metric.value;
  }
  EXPECT_THAT(
      values,
      ::testing::UnorderedElementsAre(
          std::make_pair("udpgate_redis_entry_current", 1),
          std::make_pair("udpgate_redis_entry_writes_total", 1),
          std::make_pair("udpgate_redis_entry_writes_skipped_total", 2),
          std::make_pair("udpgate_redis_entry_writes_refused_total", 3)));
}

TEST(RedisSessionStoreMetricsTest, ShowEveryNumber) {
  RedisSessionStoreStats stats;
  stats.is_connected = true;
  stats.commands_sent = 1;
  stats.replies = 2;
  stats.errors = 3;
  stats.commands_lost = 4;
  stats.records_refused = 5;
  stats.records_invalid = 6;
  stats.records_of_other_version = 7;
  stats.index_entries_removed = 8;
  stats.records_waiting = 9;
  stats.commands_in_flight = 10;
  stats.reply_seconds = 0.5;
  std::map<std::string, double> values;
  for (const HostMetric& metric : RedisSessionStoreMetrics(stats)) {
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    if (metric.labels.empty()) values[metric.name] = metric.value;
  }
  const std::string prefix = "udpgate_redis_sessions_";
  EXPECT_THAT(values,
              ::testing::UnorderedElementsAre(
                  std::make_pair(prefix + "connected", 1),
                  std::make_pair(prefix + "commands_total", 1),
                  std::make_pair(prefix + "replies_total", 2),
                  std::make_pair(prefix + "errors_total", 3),
                  std::make_pair(prefix + "commands_lost_total", 4),
                  std::make_pair(prefix + "records_refused_total", 5),
                  std::make_pair(prefix + "records_invalid_total", 6),
                  std::make_pair(prefix + "records_other_version_total", 7),
                  std::make_pair(prefix + "index_entries_removed_total", 8),
                  std::make_pair(prefix + "records_waiting", 9),
                  std::make_pair(prefix + "commands_in_flight", 10),
                  std::make_pair(prefix + "reply_seconds_total", 0.5)));
}

TEST(RedisSentinelMetricsTest, ShowEveryNumber) {
  RedisSentinelStats stats;
  stats.is_subscribed = true;
  stats.sentinels_failed = 1;
  stats.master_changes = 2;
  stats.questions_refused = 3;
  stats.problem = RedisProblem::kUnreachable;
  std::map<std::string, double> values;
  for (const HostMetric& metric : RedisSentinelMetrics(stats)) {
    if (metric.value == 0) continue;
    values[metric.name +
           (metric.labels.empty() ? "" : ":" + metric.labels[1].second)] =
        metric.value;
  }
  const std::string prefix = "udpgate_redis_sentinel_";
  EXPECT_THAT(values,
              ::testing::UnorderedElementsAre(
                  std::make_pair(prefix + "subscribed", 1),
                  std::make_pair(prefix + "failures_total", 1),
                  std::make_pair(prefix + "master_changes_total", 2),
                  std::make_pair(prefix + "questions_refused_total", 3),
                  std::make_pair("udpgate_redis_problem:unreachable", 1)));
}

TEST_F(RedisMetricsTest, FollowTheResolverAndTheSource) {
  EXPECT_EQ(Values()["udpgate_redis_subscribed"], 0);
  EXPECT_TRUE(
      AwaitTrue([&] { return Values()["udpgate_redis_connected"] == 1; }));
  ASSERT_TRUE(source_->Start([](absl::StatusOr<DisconnectTarget>) {}).ok());
  EXPECT_TRUE(
      AwaitTrue([&] { return Values()["udpgate_redis_subscribed"] == 1; }));
  ResolveRequest request;
  request.timeout = absl::Minutes(1);
  for (int i = 0; i < 3; ++i) {
    resolver_->Resolve(request, [](absl::StatusOr<ResolveResult>) {});
  }
  EXPECT_TRUE(AwaitTrue(
      [&] { return Values()["udpgate_redis_gets_sent_total"] == 1; }));
  EXPECT_EQ(Values()["udpgate_redis_questions_waiting"], 1);
  EXPECT_EQ(Values()["udpgate_redis_questions_refused_total"], 2);
  EXPECT_EQ(Values()["udpgate_redis_stale_answers_total"], 0);
}

}  // namespace
}  // namespace udpgate
