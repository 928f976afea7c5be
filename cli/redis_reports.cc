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

// A clean exit waits so long for a Redis that hangs. The entry expires anyway.
constexpr absl::Duration kRemovalTimeMax = absl::Milliseconds(250);

RedisGatewayEntryOptions EntryOptions(const Settings& settings) {
  RedisGatewayEntryOptions options;
  options.key = settings.redis_gateway_key;
  options.id = settings.gateway_id;
  options.version = UDPGATE_VERSION_STRING;
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
  if (settings.redis_gateway_key.empty()) return absl::OkStatus();
  return EntryOptions(settings).Validate();
}

absl::StatusOr<std::unique_ptr<RedisReports>> RedisReports::Create(
    const Settings& settings, const BackendSource& backends, Logger* logger) {
  std::unique_ptr<RedisReports> reports(new RedisReports());
  if (settings.redis_gateway_key.empty()) return reports;
  if (!backends.redis.has_value()) {
    logger->Log(LogSeverity::kWarning,
                "REDIS_GATEWAY_KEY has no effect with BACKEND_ADDR, without "
                "Redis");
    return reports;
  }
  absl::StatusOr<std::unique_ptr<RedisGatewayEntry>> entry =
      RedisGatewayEntry::Create(backends.redis->options, EntryOptions(settings),
                                backends.redis->lookup);
  if (!entry.ok()) return entry.status();
  reports->entry_ = *std::move(entry);
  return reports;
}

absl::Status RedisReports::Start(const Proxy* proxy) {
  if (entry_ == nullptr) return absl::OkStatus();
  is_started_ = true;
  return entry_->Start([proxy] { return StateOf(*proxy); });
}

void RedisReports::Update() {
  if (entry_ != nullptr) entry_->Update();
}

void RedisReports::Remove() {
  if (entry_ == nullptr || !is_started_) return;
  entry_->Remove(kRemovalTimeMax);
  entry_->Stop();
}

void RedisReports::Stop() {
  if (entry_ != nullptr) entry_->Stop();
}

HostMetrics RedisReports::Metrics() const {
  if (entry_ == nullptr) return {};
  return RedisGatewayEntryMetrics(entry_->GetStats());
}

}  // namespace cli
}  // namespace udpgate
