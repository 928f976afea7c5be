// Where backends, and disconnects, come from: what the settings say of it, as
// parts of a Proxy.
#ifndef UDPGATE_CLI_BACKEND_SOURCE_H_
#define UDPGATE_CLI_BACKEND_SOURCE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/settings.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace cli {

using HostMetrics = std::vector<admin::HostMetric>;

// What the table of settings does not check; the ranges were checked.
absl::Status ValidateBackendSource(const Settings& settings);

// Fills in `resolver` and, with Redis, `disconnects`; `metrics` becomes what
// these report for /metrics, and stays empty without Redis. `reload_names`
// becomes what makes the look-up of host names read the system's files again,
// see `HostLookup::Reload`, and stays empty where no name is looked up.
// InvalidArgument for a wrong setting, else what the system refuses.
absl::Status UseBackendSource(const Settings& settings,
                              ProxyDependencies* dependencies,
                              std::function<HostMetrics()>* metrics,
                              std::function<void()>* reload_names);

// For the log, without secrets.
std::string DescribeBackendSource(const Settings& settings);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_BACKEND_SOURCE_H_
