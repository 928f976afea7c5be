// ADMIN_ADDR and SESSION_LOG: what observes sessions, and the HTTP endpoint
// that shows it.
#ifndef UDPGATE_CLI_ADMIN_ENDPOINT_H_
#define UDPGATE_CLI_ADMIN_ENDPOINT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/backend_source.h"
#include "cli/log/logger.h"
#include "cli/log/session_log.h"
#include "cli/session_keeping.h"
#include "cli/settings/settings.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/proxy.h"
#include "udpgate/session_observer.h"
#include "udpgate/takeover/predecessor.h"

namespace udpgate {
namespace cli {

// The observers that the settings ask for; null if they do not.
struct Observers {
  std::shared_ptr<admin::SessionHistory> history;  // for the admin endpoint
  std::shared_ptr<SessionLogger> log;
  std::shared_ptr<SessionObserver> all;  // for the Proxy
};

// `reports` may be null: that of REDIS_EVENT_STREAM.
Observers MakeObservers(const Settings& settings,
                        std::shared_ptr<SessionObserver> reports,
                        Logger* logger);

// What the endpoint shows beside the Proxy.
struct AdminSources {
  BackendSource backends;
  Observers observers;
  const SessionKeeping* keeping = nullptr;  // null without SESSION_STORE
  std::function<absl::StatusOr<std::string>()> reload;
  std::function<void()> drain;
  std::function<HostMetrics()> report_metrics;
  // Null without NETHERNET_ADDR.
  std::function<HostMetrics()> nethernet_metrics;
  std::function<std::vector<admin::ListedJoin>()> joins;
  std::function<std::vector<admin::ComponentHealth>()> nethernet_health;
};

// The endpoint, bound but not started; null if ADMIN_ADDR is off. It uses the
// old process's socket if that has the wanted address; `old_process` may be
// null. `proxy` and `logger` must outlive it. Errors name the setting.
absl::StatusOr<std::unique_ptr<admin::AdminServer>> MakeAdminServer(
    const Settings& settings, AdminSources sources,
    takeover::Predecessor* old_process, Proxy* proxy, Logger* logger);

// The name of the endpoint's socket in a takeover.
inline constexpr char kAdminSocket[] = "admin";

void LogAdmin(const Settings& settings, const admin::AdminServer& server,
              Logger* logger);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_ADMIN_ENDPOINT_H_
