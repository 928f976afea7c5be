#include "cli/redis_reports.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/redis/redis_metrics.h"
#include "udpgate/version.h"

namespace udpgate {
namespace cli {
namespace {

// A clean exit waits so long for a Redis that hangs, once for the entry, which
// expires anyway, and once for the last events.
constexpr absl::Duration kWaitMax = absl::Milliseconds(200);

RedisGatewayEntryOptions EntryOptions(const Settings& settings) {
  RedisGatewayEntryOptions options;
  options.key = settings.redis_gateway_key;
  options.id = settings.gateway_id;
  options.version = UDPGATE_VERSION_STRING;
  return options;
}

RedisEventStreamOptions StreamOptions(const Settings& settings) {
  RedisEventStreamOptions options;
  options.key = settings.redis_event_stream;
  options.gateway_id = settings.gateway_id;
  options.entries_max = settings.redis_event_stream_entries_max;
  return options;
}

RedisGatewayState StateOf(const Proxy& proxy) {
  const ProxyStats stats = proxy.GetStats();
  RedisGatewayState state;
  state.address = proxy.listen_addresses().front().ToString();
  state.sessions = stats.sessions_active;
  state.sessions_pending = stats.sessions_pending;
  state.sessions_confirmed = stats.sessions_confirmed;
  state.sessions_max = proxy.max_sessions();
  state.sessions_created = stats.sessions_created;
  state.is_draining = proxy.is_draining();
  state.backends = proxy.CountSessionsByBackend();
  return state;
}

}  // namespace

absl::Status RedisReports::Validate(const Settings& settings) {
  if (!settings.redis_event_stream.empty()) {
    absl::Status status = StreamOptions(settings).Validate();
    if (!status.ok()) return status;
  }
  if (settings.redis_gateway_key.empty()) return absl::OkStatus();
  return EntryOptions(settings).Validate();
}

absl::StatusOr<std::unique_ptr<RedisReports>> RedisReports::Create(
    const Settings& settings, const BackendSource& backends, Logger* logger) {
  std::unique_ptr<RedisReports> reports(new RedisReports());
  const absl::optional<RedisAccess>& redis = backends.redis;
  for (const auto& [variable, value] :
       {std::make_pair("REDIS_GATEWAY_KEY", &settings.redis_gateway_key),
        std::make_pair("REDIS_EVENT_STREAM", &settings.redis_event_stream)}) {
    if (value->empty() || redis.has_value()) continue;
    logger->Log(
        LogSeverity::kWarning,
        absl::StrCat(variable,
                     " has no effect with BACKEND_ADDR, without Redis"));
  }
  if (!redis.has_value()) return reports;
  if (!settings.redis_gateway_key.empty()) {
    absl::StatusOr<std::unique_ptr<RedisGatewayEntry>> entry =
        RedisGatewayEntry::Create(redis->options, EntryOptions(settings),
                                  redis->lookup);
    if (!entry.ok()) return entry.status();
    reports->entry_ = *std::move(entry);
  }
  if (!settings.redis_event_stream.empty()) {
    absl::StatusOr<std::shared_ptr<RedisEventStream>> events =
        RedisEventStream::Create(redis->options, StreamOptions(settings),
                                 redis->lookup);
    if (!events.ok()) return events.status();
    reports->events_ = *std::move(events);
  }
  return reports;
}

absl::Status RedisReports::StartEvents() {
  return events_ == nullptr ? absl::OkStatus() : events_->Start();
}

absl::Status RedisReports::StartEntry(const Proxy* proxy) {
  if (entry_ == nullptr) return absl::OkStatus();
  is_entry_started_ = true;
  return entry_->Start([proxy] { return StateOf(*proxy); });
}

void RedisReports::Update() {
  if (entry_ != nullptr) entry_->Update();
}

void RedisReports::RemoveEntry() {
  if (entry_ == nullptr || !is_entry_started_) return;
  entry_->Remove(kWaitMax);
  entry_->Stop();
}

void RedisReports::LeaveEntry() {
  if (entry_ != nullptr) entry_->Stop();
}

void RedisReports::StopEvents() {
  if (events_ == nullptr) return;
  (void)events_->Flush(kWaitMax);
  events_->Stop();
}

HostMetrics RedisReports::Metrics() const {
  HostMetrics metrics;
  if (entry_ != nullptr) {
    metrics = RedisGatewayEntryMetrics(entry_->GetStats());
  }
  if (events_ != nullptr) {
    for (HostMetric& metric : RedisEventStreamMetrics(events_->GetStats())) {
      metrics.push_back(std::move(metric));
    }
  }
  return metrics;
}

}  // namespace cli
}  // namespace udpgate
