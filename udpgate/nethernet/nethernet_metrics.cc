#include "udpgate/nethernet/nethernet_metrics.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/nethernet/nethernet_metric_infos.h"

namespace udpgate {
namespace nethernet {
namespace {

// Appends values in the order of `NetherNetMetricInfos`.
class Writer {
 public:
  explicit Writer(std::vector<HostMetric>* metrics) : metrics_(metrics) {}

  // The next metric of the table begins.
  Writer& Next() {
    ++index_;
    return *this;
  }
  Writer& Add(double value,
              std::vector<std::pair<std::string, std::string>> labels = {}) {
    HostMetric metric = Make();
    metric.value = value;
    metric.labels = std::move(labels);
    metrics_->push_back(std::move(metric));
    return *this;
  }
  Writer& Add(uint64_t value, const char* label, absl::string_view text) {
    return Add(static_cast<double>(value), {{label, std::string(text)}});
  }
  void Add(HostHistogram histogram) {
    HostMetric metric = Make();
    metric.histogram = std::move(histogram);
    metrics_->push_back(std::move(metric));
  }

 private:
  HostMetric Make() const {
    const NetherNetMetricInfo& info = NetherNetMetricInfos()[index_ - 1];
    HostMetric metric;
    metric.kind = info.kind;
    metric.name = std::string(info.name);
    metric.help = std::string(info.help);
    return metric;
  }

  std::vector<HostMetric>* const metrics_;
  size_t index_ = 0;
};

template <typename Integer>
double Number(Integer value) {
  return static_cast<double>(value);
}

void AddConnections(const http::ServerStats& stats, Writer* writer) {
  writer->Next().Add(Number(stats.accepted));
  writer->Next().Add(Number(stats.open));
  writer->Next()
      .Add(stats.closed_at_limit, "reason", "limit")
      .Add(stats.evicted, "reason", "evicted")
      .Add(stats.denied, "reason", "denied")
      .Add(stats.read_timeouts, "reason", "read_timeout")
      .Add(stats.write_timeouts, "reason", "write_timeout")
      .Add(stats.response_timeouts, "reason", "response_timeout");
  writer->Next().Add(Number(stats.accept_failures));
  writer->Next()
      .Add(stats.tls_handshakes, "result", "completed")
      .Add(stats.tls_handshakes_failed, "result", "failed");
  writer->Next()
      .Add(stats.proxy_headers, "result", "accepted")
      .Add(stats.proxy_headers_refused, "result", "refused");
  writer->Next()
      .Add(stats.certificate_reloads, "result", "applied")
      .Add(stats.certificate_reload_failures, "result", "failed");
  writer->Next().Add(Number(stats.certificate_expires_unix_seconds));
}

void AddJoins(const JoinServiceStats& stats, uint64_t refused_requests,
              Writer* writer) {
  writer->Next();
  for (const JoinServiceStats::Requests& requests : stats.requests) {
    writer->Add(Number(requests.count),
                {{"path", std::string(RequestPathName(requests.path))},
                 {"status", absl::StrCat(requests.status)}});
  }
  writer->Next().Add(Number(refused_requests));
  writer->Next();
  for (size_t i = 0; i < kJoinResultCount; ++i) {
    writer->Add(stats.joins[i], "result",
                JoinResultName(static_cast<JoinResult>(i)));
  }
  HostHistogram durations;
  durations.upper_bounds.assign(kAnswerSecondsBounds.begin(),
                                kAnswerSecondsBounds.end());
  durations.counts.assign(stats.answers_by_duration.begin(),
                          stats.answers_by_duration.end());
  durations.sum = stats.answer_seconds_total;
  writer->Next().Add(std::move(durations));
  writer->Next().Add(Number(stats.joins_in_progress));
  writer->Next().Add(Number(stats.rate_table_full));
  writer->Next()
      .Add(stats.status_questions_answered, "result", "answered")
      .Add(stats.status_questions_failed, "result", "failed");
  writer->Next().Add(Number(stats.status_waiters));
  writer->Next().Add(Number(stats.status_waiters_refused));
}

void AddTable(const JoinTableStats& stats, Writer* writer) {
  writer->Next().Add(Number(stats.joins_waiting));
  writer->Next().Add(Number(stats.joins_live));
  writer->Next().Add(Number(stats.joins_lingering));
  writer->Next().Add(Number(stats.joins_shared_waiting));
  writer->Next()
      .Add(stats.joins_added, "origin", "own")
      .Add(stats.joins_shared, "origin", "shared");
  writer->Next().Add(Number(stats.joins_begun));
  writer->Next()
      .Add(stats.joins_expired, "reason", "expired")
      .Add(stats.joins_left, "reason", "left")
      .Add(stats.joins_disconnected, "reason", "disconnected")
      .Add(stats.joins_displaced, "reason", "displaced");
  writer->Next()
      .Add(stats.joins_refused, "reason", "limit")
      .Add(stats.ufrags_refused, "reason", "ufrag");
  writer->Next()
      .Add(stats.stun_known, "result", "known")
      .Add(stats.stun_unknown_ufrag, "result", "unknown_ufrag")
      .Add(stats.stun_wrong_integrity, "result", "wrong_integrity")
      .Add(stats.stun_malformed, "result", "malformed")
      .Add(stats.stun_address_limit, "result", "address_limit");
  writer->Next().Add(Number(stats.dtls_without_session));
  writer->Next().Add(Number(stats.clients_moved));
}

}  // namespace

std::vector<HostMetric> NetherNetMetrics(const SignalingStats& signaling,
                                         const JoinTableStats& joins) {
  std::vector<HostMetric> metrics;
  Writer writer(&metrics);
  AddConnections(signaling.server, &writer);
  AddJoins(signaling.join, signaling.server.refused_requests, &writer);
  writer.Next().Add(Number(signaling.client.waiting));
  writer.Next().Add(Number(signaling.client.refused));
  AddTable(joins, &writer);
  return metrics;
}

}  // namespace nethernet
}  // namespace udpgate
