#include "udpgate/store/store_metrics.h"

#include <cstdint>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace udpgate {
namespace {

using Kind = HostMetric::Kind;

class Metrics {
 public:
  void Counter(absl::string_view name, absl::string_view help, uint64_t value) {
    Add(Kind::kCounter, name, help, static_cast<double>(value));
  }
  void Gauge(absl::string_view name, absl::string_view help, double value) {
    Add(Kind::kGauge, name, help, value);
  }
  void Gauge(absl::string_view name, absl::string_view help, uint64_t value) {
    Gauge(name, help, static_cast<double>(value));
  }
  void Gauge(absl::string_view name, absl::string_view help, bool value) {
    Gauge(name, help, value ? 1.0 : 0.0);
  }

  // A counter with one value for each label.
  struct Labelled {
    const char* label;
    uint64_t value;
  };
  void Counters(absl::string_view name, absl::string_view help,
                const char* label_name, const std::vector<Labelled>& values) {
    for (const Labelled& labelled : values) {
      Add(Kind::kCounter, name, help, static_cast<double>(labelled.value));
      metrics_.back().labels = {{label_name, labelled.label}};
    }
  }

  void Add(HostMetric metric) { metrics_.push_back(std::move(metric)); }
  std::vector<HostMetric> Take() { return std::move(metrics_); }

 private:
  void Add(Kind kind, absl::string_view name, absl::string_view help,
           double value) {
    HostMetric metric;
    metric.kind = kind;
    metric.name = std::string(name);
    metric.help = std::string(help);
    metric.value = value;
    metrics_.push_back(std::move(metric));
  }

  std::vector<HostMetric> metrics_;
};

void AddRecords(const SessionKeeperStats& stats, Metrics* metrics) {
  metrics->Counters("udpgate_store_records_total",
                    "Records of sessions that were changed in the store.",
                    "change",
                    {{"written", stats.written},
                     {"refreshed", stats.refreshed},
                     {"removed", stats.removed},
                     {"adopted", stats.adopted},
                     {"rewritten", stats.rewritten}});
  metrics->Counters("udpgate_store_records_unused_total",
                    "Records that were not used.", "reason",
                    {{"invalid", stats.invalid},
                     {"disconnected", stats.disconnected},
                     {"from_future", stats.from_future}});
  metrics->Counter("udpgate_store_sessions_lost_total",
                   "Sessions that another gateway has adopted.", stats.lost);
  metrics->Gauge("udpgate_store_sessions",
                 "Sessions of this gateway that have a record, or will.",
                 stats.sessions);
  metrics->Counters(
      "udpgate_store_recovered_total",
      "Sessions of a former process or another gateway that were continued at "
      "startup or at a promotion, or could not be.",
      "result",
      {{"same_port", stats.recovered - stats.recovered_on_other_port},
       {"other_port", stats.recovered_on_other_port},
       {"failed", stats.recovery_failed}});
}

void AddNewcomers(const SessionKeeperStats& stats, Metrics* metrics) {
  metrics->Counters("udpgate_store_newcomers_total",
                    "New clients whose record was looked for.", "result",
                    {{"adopted", stats.newcomers_adopted},
                     {"live_owner", stats.newcomers_of_live_owner -
                                        stats.newcomers_forwarded},
                     {"forwarded", stats.newcomers_forwarded},
                     {"no_record", stats.newcomers_without_record},
                     {"not_looked_up", stats.newcomers_not_looked_up},
                     {"timed_out", stats.newcomers_timed_out}});
  metrics->Gauge("udpgate_store_newcomers_waiting",
                 "New clients whose record is being looked for.",
                 stats.newcomers_waiting);
  metrics->Counter("udpgate_store_disconnects_forgotten_total",
                   "Disconnect events that were forgotten to make room.",
                   stats.disconnects_forgotten);
  metrics->Gauge("udpgate_store_disconnects_remembered",
                 "Disconnect events that are remembered: no record that they "
                 "name is used.",
                 stats.disconnects_remembered);
}

void AddCalls(const SessionKeeperStats& stats, Metrics* metrics) {
  metrics->Counter("udpgate_store_calls_total", "Calls of the store.",
                   stats.calls);
  metrics->Counter("udpgate_store_calls_failed_total",
                   "Calls of the store that failed.", stats.calls_failed);
  metrics->Counter("udpgate_store_changes_dropped_total",
                   "Changes dropped because the queue was full. The next "
                   "comparison of records and sessions repeats them.",
                   stats.changes_dropped);
  metrics->Counter("udpgate_store_events_dropped_total",
                   "Session events dropped because the queue was full. The "
                   "next comparison of records and sessions corrects the "
                   "records.",
                   stats.events_dropped);
  metrics->Gauge("udpgate_store_changes_waiting",
                 "Changes that wait for the store.", stats.changes_waiting);
  metrics->Gauge("udpgate_store_calls_in_flight",
                 "Calls of the store without a result so far.",
                 stats.calls_in_flight);
  metrics->Counter("udpgate_store_sweeps_total",
                   "Comparisons of records and sessions.", stats.sweeps);
  HostMetric seconds;
  seconds.kind = Kind::kHistogram;
  seconds.name = "udpgate_store_call_seconds";
  seconds.help = "Time until the result of a call of the store.";
  seconds.histogram.upper_bounds.assign(kStoreSecondsBounds.begin(),
                                        kStoreSecondsBounds.end());
  seconds.histogram.counts.assign(stats.calls_by_duration.begin(),
                                  stats.calls_by_duration.end());
  seconds.histogram.sum = stats.calls_seconds_total;
  metrics->Add(std::move(seconds));
}

void AddState(const SessionKeeperStats& stats, Metrics* metrics) {
  metrics->Gauge("udpgate_store_available",
                 "1 while the store replies without errors.",
                 stats.is_store_available);
  metrics->Gauge("udpgate_store_fenced",
                 "1 while another process uses the same gateway id, so that "
                 "this one touches no record.",
                 stats.is_fenced);
  metrics->Gauge("udpgate_store_standby", "1 while the gateway is in standby.",
                 stats.is_standby);
  metrics->Gauge("udpgate_store_standby_sessions",
                 "Records of other gateways that a standby knows.",
                 stats.standby_sessions);
  metrics->Gauge("udpgate_store_lease_age_seconds",
                 "Seconds since the lease was renewed; infinite if never.",
                 absl::ToDoubleSeconds(stats.lease_age));
  metrics->Counter("udpgate_store_clock_jumps_total",
                   "Jumps of the time of day.", stats.clock_jumps);
}

}  // namespace

std::vector<HostMetric> SessionStoreMetrics(const SessionKeeperStats& stats) {
  Metrics metrics;
  AddRecords(stats, &metrics);
  AddNewcomers(stats, &metrics);
  AddCalls(stats, &metrics);
  AddState(stats, &metrics);
  return metrics.Take();
}

}  // namespace udpgate
