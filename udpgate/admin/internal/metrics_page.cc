#include "udpgate/admin/internal/metrics_page.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/admin/internal/host_families.h"
#include "udpgate/admin/internal/metrics.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/version.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::prometheus::ClientMetric;
using ::prometheus::MetricFamily;

}  // namespace

void MetricsPage::AddCounters(const std::map<std::string, double>& counters) {
  for (const auto& [name, count] : counters) counters_before_[name] += count;
}

std::vector<MetricFamily> MetricsPage::OwnFamilies(
    const EndpointCounts& counts) const {
  std::vector<MetricFamily> families;
  if (hooks_->metrics != nullptr) families = HostFamilies(hooks_->metrics());
  const auto count = [&families](const char* name, const char* help,
                                 uint64_t value) {
    families.push_back(Counter(absl::StrCat("udpgate_admin_", name, "_total"),
                               help, static_cast<double>(value)));
  };
  count("requests", "HTTP requests handled by the admin endpoint.",
        counts.requests);
  count("connections", "Connections accepted by the admin endpoint.",
        counts.connections);
  count("connections_evicted",
        "Idle connections closed to make room for new ones.", counts.evicted);
  count("connections_timed_out",
        "Connections closed by the request or response timeout.",
        counts.timed_out);
  count("requests_refused",
        "Requests refused: malformed, too large, or all workers busy.",
        counts.refused);
  count("wrong_tokens", "Requests with an invalid token.", counts.wrong_tokens);
  count("rate_limited", "Requests refused after too many invalid tokens.",
        counts.rate_limited);
  for (MetricFamily& family : ProcessFamilies()) {
    families.push_back(std::move(family));
  }
  AddCountersBefore(counters_before_, &families);
  return families;
}

std::map<std::string, double> MetricsPage::Counters(
    const EndpointCounts& counts) const {
  std::map<std::string, double> counters = counters_before_;
  for (const auto& [name, count] : CountersOf(OwnFamilies(counts))) {
    counters[name] = count;
  }
  return counters;
}

std::string MetricsPage::Text(const EndpointCounts& counts) {
  std::vector<MetricFamily> families = StatsFamilies(proxy_->GetStats());
  families.push_back(
      BackendFamily(*backends_->Get(), options_->metric_backends_max));
  if (hooks_->history != nullptr) {
    for (MetricFamily& family : HistoryFamilies(hooks_->history->Backends())) {
      families.push_back(std::move(family));
    }
  }
  families.push_back(Gauge("udpgate_sessions_max", "Session limit in effect.",
                           static_cast<double>(proxy_->max_sessions())));
  families.push_back(Gauge(
      "udpgate_receive_buffer_bytes",
      "Receive buffer of each listening socket, as granted by the kernel.",
      static_cast<double>(proxy_->receive_buffer_bytes())));
  families.push_back(
      Gauge("udpgate_send_buffer_bytes",
            "Send buffer of each listening socket, as granted by the kernel.",
            static_cast<double>(proxy_->send_buffer_bytes())));
  families.push_back(
      Gauge("udpgate_draining",
            "1 if the gateway is draining and refuses new clients.",
            proxy_->is_draining() ? 1 : 0));
  families.push_back(Gauge(
      "udpgate_standby", "1 if the gateway is in standby and serves no client.",
      proxy_->is_standby() ? 1 : 0));
  MetricFamily build =
      Gauge("udpgate_build_info", "Always 1; the version is a label.", 1);
  build.metric[0].label = {{"version", UDPGATE_VERSION_STRING}};
  families.push_back(std::move(build));
  MetricFamily up =
      Gauge("udpgate_component_up",
            "1 if the component works, such as the connection to Redis.", 0);
  up.metric.clear();
  for (const ComponentHealth& component : health_->Components()) {
    ClientMetric metric;
    metric.label = {{"component", component.name}};
    metric.gauge.value = component.status.ok() ? 1 : 0;
    up.metric.push_back(std::move(metric));
  }
  if (!up.metric.empty()) families.push_back(std::move(up));

  for (MetricFamily& family : OwnFamilies(counts)) {
    families.push_back(std::move(family));
  }
  return Serialize(families);
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
