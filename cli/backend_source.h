// Where backends and disconnect events come from, as the settings choose.
#ifndef UDPGATE_CLI_BACKEND_SOURCE_H_
#define UDPGATE_CLI_BACKEND_SOURCE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/settings/settings.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"

namespace udpgate {
namespace cli {

using HostMetrics = std::vector<admin::HostMetric>;

struct BackendSource {
  std::shared_ptr<BackendResolver> resolver;
  std::shared_ptr<DisconnectSource> disconnects;  // null without Redis
  // What both report for /metrics; null without Redis.
  std::function<HostMetrics()> metrics;
  // Makes the lookup of host names read the system's files again, see
  // `HostLookup::Reload`; null if no name is looked up.
  std::function<void()> reload_names;
};

// Checks what the table of settings does not; the ranges were checked.
absl::Status ValidateBackendSource(const Settings& settings);

// A fixed backend if BACKEND_ADDR is set, else Redis. Connects to nothing yet.
// InvalidArgument for a wrong setting, else what the system refuses.
absl::StatusOr<BackendSource> MakeBackendSource(const Settings& settings);

// For the log, without secrets.
std::string DescribeBackendSource(const Settings& settings);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_BACKEND_SOURCE_H_
