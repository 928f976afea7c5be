#include "udpgate/redis/redis_metrics.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {
namespace {

// One value for each reason, so that all are there from the start.
void AddProblem(absl::string_view connection, RedisProblem problem,
                std::vector<HostMetric>* metrics) {
  for (size_t i = 1; i < kRedisProblemCount; ++i) {
    const auto reason = static_cast<RedisProblem>(i);
    HostMetric metric;
    metric.kind = HostMetric::Kind::kGauge;
    metric.name = "udpgate_redis_problem";
    metric.help = "1 for the reason why a connection to Redis does not work.";
    metric.value = reason == problem ? 1 : 0;
    metric.labels = {{"connection", std::string(connection)},
                     {"reason", std::string(RedisProblemName(reason))}};
    metrics->push_back(std::move(metric));
  }
}

}  // namespace

std::vector<HostMetric> RedisMetrics(const RedisBackendResolver& resolver,
                                     const RedisDisconnectSource& source) {
  using Kind = HostMetric::Kind;
  const RedisBackendResolverStats stats = resolver.GetStats();
  const RedisDisconnectSourceStats events = source.GetStats();
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  std::vector<HostMetric> metrics = {
      {Kind::kGauge, "udpgate_redis_connected",
       "1 while the connection for backend resolutions works.",
       stats.is_connected ? 1.0 : 0.0},
      {Kind::kGauge, "udpgate_redis_subscribed",
       "1 while disconnect events are received.",
       events.is_subscribed ? 1.0 : 0.0},
      {Kind::kGauge, "udpgate_redis_subscribed_age_seconds",
       "Seconds since udpgate_redis_subscribed changed.",
       absl::ToDoubleSeconds(events.subscribed_age)},
      {Kind::kCounter, "udpgate_redis_disconnect_gaps_total",
       "Times that disconnect events may have been lost.", number(events.gaps)},
      {Kind::kGauge, "udpgate_redis_disconnect_stream_reading",
       "1 while disconnect events are read from the stream.",
       events.is_reading_stream ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_disconnect_stream_entries_total",
       "Entries read from the stream of disconnect events.",
       number(events.stream_entries_read)},
      {Kind::kCounter, "udpgate_redis_disconnect_pairs_total",
       "Disconnect events that came by the channel and by the stream.",
       number(events.pairs)},
      {Kind::kCounter, "udpgate_redis_disconnect_pairs_forgotten_total",
       "Disconnect events that were forgotten to make room, so that the same "
       "one by the other way would count as another.",
       number(events.pairs_forgotten)},
      {Kind::kCounter, "udpgate_redis_gets_sent_total",
       "GET commands sent to Redis.", number(stats.gets_sent)},
      {Kind::kCounter, "udpgate_redis_stale_answers_total",
       "Resolutions that returned the last known backend while Redis was "
       "unavailable.",
       number(stats.stale_answers)},
      {Kind::kCounter, "udpgate_redis_questions_refused_total",
       "Resolutions rejected because too many were waiting.",
       number(stats.questions_refused)},
      {Kind::kCounter, "udpgate_redis_questions_asked_again_total",
       "Resolutions repeated because the connection to Redis was closed.",
       number(stats.questions_asked_again)},
      {Kind::kCounter, "udpgate_redis_key_sets_forgotten_total",
       "Keys of clients whose last result was forgotten to make room.",
       number(stats.key_sets_forgotten)},
      {Kind::kGauge, "udpgate_redis_key_sets",
       "Different keys of clients whose last result is known.",
       number(stats.key_sets)},
      {Kind::kGauge, "udpgate_redis_questions_waiting",
       "Resolutions without a result so far.", number(stats.questions_waiting)},
  };
  AddProblem("backend_key", stats.problem, &metrics);
  AddProblem("disconnect_channel", events.channel_problem, &metrics);
  AddProblem("disconnect_stream", events.stream_problem, &metrics);
  return metrics;
}

std::vector<HostMetric> RedisClusterMetrics(
    const RedisClusterStats& cluster,
    const RedisBackendResolverStats& resolver) {
  using Kind = HostMetric::Kind;
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  return {
      {Kind::kGauge, "udpgate_redis_cluster", "1 if Redis is a Cluster.",
       cluster.is_cluster ? 1.0 : 0.0},
      {Kind::kGauge, "udpgate_redis_cluster_nodes",
       "Masters and replicas in the last slot map.", number(cluster.nodes)},
      {Kind::kGauge, "udpgate_redis_cluster_slots_covered",
       "Slots of 16384 whose master is known.", number(cluster.slots_covered)},
      {Kind::kGauge, "udpgate_redis_cluster_nodes_connected",
       "Nodes that are connected for backend resolutions.",
       number(resolver.nodes_connected)},
      {Kind::kCounter, "udpgate_redis_cluster_nodes_refused_total",
       "GETs that failed because no connection was left for their node.",
       number(resolver.nodes_refused)},
      {Kind::kCounter, "udpgate_redis_cluster_redirects_total",
       "Redirects (MOVED and ASK) received.", number(cluster.redirects)},
      {Kind::kCounter, "udpgate_redis_cluster_contradictions_total",
       "Redirects that were not followed because they contradict others.",
       number(cluster.contradictions)},
      {Kind::kCounter, "udpgate_redis_cluster_refreshes_total",
       "Slot maps read.", number(cluster.refreshes)},
  };
}

std::vector<HostMetric> RedisStreamMetrics(const RedisStreamStats& stats) {
  using Kind = HostMetric::Kind;
  const auto number = [](auto value) { return static_cast<double>(value); };
  std::vector<HostMetric> metrics = {
      {Kind::kGauge, "udpgate_redis_stream_reading",
       "1 while messages of other gateways are read from the stream.",
       stats.is_reading ? 1.0 : 0.0},
      {Kind::kGauge, "udpgate_redis_stream_writing",
       "1 while messages for other gateways can be written to the stream.",
       stats.is_writing ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_stream_entries_written_total",
       "Messages written to the stream.", number(stats.entries_written)},
      {Kind::kCounter, "udpgate_redis_stream_entries_read_total",
       "Messages of other gateways read from the stream.",
       number(stats.entries_read)},
      {Kind::kCounter, "udpgate_redis_stream_entries_dropped_total",
       "Messages that were too long, found the queue full, or were refused by "
       "Redis.",
       number(stats.entries_dropped)},
      {Kind::kCounter, "udpgate_redis_stream_entries_invalid_total",
       "Messages read from the stream that were of no use.",
       number(stats.entries_invalid)},
      {Kind::kGauge, "udpgate_redis_stream_entries_waiting",
       "Messages that wait for Redis.", number(stats.entries_waiting)},
  };
  AddProblem("stream_reading", stats.read_problem, &metrics);
  AddProblem("stream_writing", stats.write_problem, &metrics);
  return metrics;
}

std::vector<HostMetric> RedisKeyWatchMetrics(const RedisKeyWatchStats& stats) {
  using Kind = HostMetric::Kind;
  std::vector<HostMetric> metrics = {
      {Kind::kGauge, "udpgate_redis_status_connected",
       "1 while the status of the fleet can be read.",
       stats.is_connected ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_status_reads_total",
       "Reads of the status of the fleet.", static_cast<double>(stats.reads)},
      {Kind::kCounter, "udpgate_redis_status_refused_total",
       "Values that were too long or no string.",
       static_cast<double>(stats.values_refused)},
  };
  AddProblem("status_key", stats.problem, &metrics);
  return metrics;
}

std::vector<HostMetric> RedisEventStreamMetrics(
    const RedisEventStreamStats& stats) {
  using Kind = HostMetric::Kind;
  std::vector<HostMetric> metrics = {
      {Kind::kGauge, "udpgate_redis_events_writing",
       "1 while session events can be written to the stream.",
       stats.is_writing ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_events_written_total",
       "Session events written to the stream.",
       static_cast<double>(stats.events_written)},
      {Kind::kCounter, "udpgate_redis_events_dropped_total",
       "Session events that found the queue full, or were refused by Redis.",
       static_cast<double>(stats.events_dropped)},
      {Kind::kGauge, "udpgate_redis_events_waiting",
       "Session events that wait for Redis.",
       static_cast<double>(stats.events_waiting)},
  };
  AddProblem("event_stream", stats.problem, &metrics);
  return metrics;
}

std::vector<HostMetric> RedisGatewayEntryMetrics(
    const RedisGatewayEntryStats& stats) {
  using Kind = HostMetric::Kind;
  std::vector<HostMetric> metrics = {
      {Kind::kGauge, "udpgate_redis_entry_current",
       "1 while Redis has the entry of this gateway.",
       stats.is_current ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_entry_writes_total",
       "Writes of the entry of this gateway.",
       static_cast<double>(stats.writes)},
      {Kind::kCounter, "udpgate_redis_entry_writes_skipped_total",
       "Writes left out because Redis was away or slow.",
       static_cast<double>(stats.writes_skipped)},
      {Kind::kCounter, "udpgate_redis_entry_writes_refused_total",
       "Writes that Redis refused, or for which another gateway has the id.",
       static_cast<double>(stats.writes_refused)},
  };
  AddProblem("gateway_entry", stats.problem, &metrics);
  return metrics;
}

std::vector<HostMetric> RedisSessionStoreMetrics(
    const RedisSessionStoreStats& stats) {
  using Kind = HostMetric::Kind;
  const auto number = [](auto value) { return static_cast<double>(value); };
  std::vector<HostMetric> metrics = {
      {Kind::kGauge, "udpgate_redis_sessions_connected",
       "1 while the connection for records of sessions works.",
       stats.is_connected ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_sessions_commands_total",
       "Commands for records of sessions that were sent to Redis.",
       number(stats.commands_sent)},
      {Kind::kCounter, "udpgate_redis_sessions_replies_total",
       "Replies to these commands that are no errors.", number(stats.replies)},
      {Kind::kCounter, "udpgate_redis_sessions_reply_seconds_total",
       "Sum of the times from sending a command to the reply.",
       stats.reply_seconds},
      {Kind::kCounter, "udpgate_redis_sessions_errors_total",
       "Error replies to commands for records of sessions.",
       number(stats.errors)},
      {Kind::kCounter, "udpgate_redis_sessions_commands_lost_total",
       "Commands for records of sessions without a reply, or not sent in time.",
       number(stats.commands_lost)},
      {Kind::kCounter, "udpgate_redis_sessions_records_refused_total",
       "Records that were not sent since too many waited, or Redis was not "
       "connected.",
       number(stats.records_refused)},
      {Kind::kCounter, "udpgate_redis_sessions_records_invalid_total",
       "Records of sessions that were read and do not parse.",
       number(stats.records_invalid)},
      {Kind::kCounter, "udpgate_redis_sessions_records_other_version_total",
       "Records of sessions that were read and have another version.",
       number(stats.records_of_other_version)},
      {Kind::kCounter, "udpgate_redis_sessions_index_entries_removed_total",
       "Clients that were removed from an index, since their record has run "
       "out.",
       number(stats.index_entries_removed)},
      {Kind::kGauge, "udpgate_redis_sessions_records_waiting",
       "Records of sessions that wait to be sent.",
       number(stats.records_waiting)},
      {Kind::kGauge, "udpgate_redis_sessions_commands_in_flight",
       "Commands for records of sessions without a reply so far.",
       number(stats.commands_in_flight)},
  };
  AddProblem("session_store", stats.problem, &metrics);
  return metrics;
}

std::vector<HostMetric> RedisSentinelMetrics(const RedisSentinelStats& stats) {
  using Kind = HostMetric::Kind;
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  std::vector<HostMetric> metrics = {
      {Kind::kGauge, "udpgate_redis_sentinel_subscribed",
       "1 while a Sentinel is connected that tells of a new master.",
       stats.is_subscribed ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_sentinel_failures_total",
       "Connections to a Sentinel that failed or were lost.",
       number(stats.sentinels_failed)},
      {Kind::kCounter, "udpgate_redis_sentinel_master_changes_total",
       "Times that Sentinel named another master.",
       number(stats.master_changes)},
      {Kind::kCounter, "udpgate_redis_sentinel_questions_refused_total",
       "Questions for the master that were refused because too many waited.",
       number(stats.questions_refused)},
  };
  AddProblem("sentinel", stats.problem, &metrics);
  return metrics;
}

}  // namespace udpgate
