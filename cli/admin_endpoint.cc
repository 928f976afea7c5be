#include "cli/admin_endpoint.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/listen_sockets.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace cli {
namespace {

// Passes each event on to several observers.
class SessionObservers : public SessionObserver {
 public:
  explicit SessionObservers(
      std::vector<std::shared_ptr<SessionObserver>> observers)
      : observers_(std::move(observers)) {}
  void Observe(const SessionEvent& event) override {
    for (const auto& observer : observers_) observer->Observe(event);
  }

 private:
  const std::vector<std::shared_ptr<SessionObserver>> observers_;
};

// What the program adds to /metrics.
HostMetrics MetricsOfProgram(
    const std::vector<std::function<HostMetrics()>>& sources,
    const SessionLogger* session_log, const Logger& logger) {
  HostMetrics metrics;
  for (const std::function<HostMetrics()>& source : sources) {
    if (source == nullptr) continue;
    for (HostMetric& metric : source()) metrics.push_back(std::move(metric));
  }
  metrics.push_back(
      {admin::HostMetric::Kind::kCounter, "udpgate_log_lines_dropped_total",
       "Log lines dropped because standard error did not accept them "
       "immediately.",
       static_cast<double>(logger.dropped_lines())});
  if (session_log != nullptr) {
    metrics.push_back(
        {admin::HostMetric::Kind::kCounter,
         "udpgate_session_log_lines_left_out_total",
         "Session log lines suppressed by SESSION_LOG_LINES_PER_SEC.",
         static_cast<double>(session_log->lines_left_out())});
  }
  return metrics;
}

std::vector<admin::ComponentHealth> HealthOf(const BackendSource& backends,
                                             const SessionKeeping* keeping,
                                             bool needs_disconnects) {
  std::vector<admin::ComponentHealth> components;
  components.push_back({"backend_source", backends.resolver->Health()});
  if (backends.disconnects != nullptr) {
    // Without it new clients can be served, but not moved.
    components.push_back({"disconnect_source", backends.disconnects->Health(),
                          needs_disconnects});
  }
  if (keeping != nullptr) {
    // Without it clients are served, and their sessions end with the process.
    components.push_back(
        {"session_store", keeping->Health(), /*is_needed=*/false});
  }
  return components;
}

}  // namespace

Observers MakeObservers(const Settings& settings,
                        std::shared_ptr<SessionObserver> reports,
                        Logger* logger) {
  Observers observers;
  std::vector<std::shared_ptr<SessionObserver>> all;
  if (settings.admin_address.is_valid()) {
    observers.history =
        std::make_shared<admin::SessionHistory>(admin::SessionHistoryOptions());
    all.push_back(observers.history);
  }
  if (reports != nullptr) all.push_back(std::move(reports));
  // Last, because it may be slow.
  if (settings.session_log != SessionLog::kOff) {
    observers.log = std::make_shared<SessionLogger>(
        settings.session_log, settings.session_log_lines_per_second_max,
        Clock::Monotonic(), logger);
    all.push_back(observers.log);
  }
  if (!all.empty()) {
    observers.all = std::make_shared<SessionObservers>(std::move(all));
  }
  return observers;
}

absl::StatusOr<std::unique_ptr<admin::AdminServer>> MakeAdminServer(
    const Settings& settings, AdminSources sources,
    takeover::Predecessor* old_process, Proxy* proxy, Logger* logger) {
  if (!settings.admin_address.is_valid()) return nullptr;
  admin::AdminOptions options;
  options.listen_address = settings.admin_address;
  options.listen_fd =
      TakeSocketOf(kAdminSocket, settings.admin_address, old_process);
  options.token = settings.admin_token;
  admin::AdminHooks hooks;
  const SessionKeeping* const keeping = sources.keeping;
  hooks.components = [backends = sources.backends, keeping,
                      needs = settings.is_unready_without_disconnects,
                      more = std::move(sources.nethernet_health)] {
    std::vector<admin::ComponentHealth> components =
        HealthOf(backends, keeping, needs);
    if (more == nullptr) return components;
    for (admin::ComponentHealth& component : more()) {
      components.push_back(std::move(component));
    }
    return components;
  };
  if (keeping != nullptr) {
    hooks.session_store = [keeping] { return keeping->Numbers(); };
  }
  hooks.reload = std::move(sources.reload);
  hooks.history = std::move(sources.observers.history);
  hooks.drain = std::move(sources.drain);
  hooks.joins = std::move(sources.joins);
  std::vector<std::function<HostMetrics()>> metrics = {
      std::move(sources.backends.metrics), std::move(sources.report_metrics),
      std::move(sources.nethernet_metrics)};
  if (keeping != nullptr) {
    metrics.push_back([keeping] { return keeping->Metrics(); });
  }
  hooks.metrics = [logger, metrics = std::move(metrics),
                   session_log = std::move(sources.observers.log)] {
    return MetricsOfProgram(metrics, session_log.get(), *logger);
  };
  absl::StatusOr<std::unique_ptr<admin::AdminServer>> server =
      admin::AdminServer::Create(std::move(options), proxy, std::move(hooks));
  if (server.ok()) return server;
  return absl::Status(server.status().code(),
                      absl::StrCat("ADMIN_ADDR: ", server.status().message()));
}

void LogAdmin(const Settings& settings, const admin::AdminServer& server,
              Logger* logger) {
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("admin endpoint: http://",
                           server.address().ToString(), "/"));
  if (settings.admin_token.empty() && !settings.admin_address.is_loopback()) {
    logger->Log(LogSeverity::kWarning,
                "ADMIN_ADDR is not a loopback address and there is no "
                "ADMIN_TOKEN: only /metrics, /healthz and /readyz are served");
  }
}

}  // namespace cli
}  // namespace udpgate
