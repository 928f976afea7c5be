// Creates the sources of backends and disconnect events from the settings.
#ifndef UDPGATE_CLI_BACKEND_SOURCE_H_
#define UDPGATE_CLI_BACKEND_SOURCE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "cli/settings/settings.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {
namespace cli {

using HostMetrics = std::vector<admin::HostMetric>;

// How other parts of the program reach the same Redis.
struct RedisAccess {
  RedisOptions options;
  std::shared_ptr<HostLookup> lookup;
};

struct BackendSource {
  std::shared_ptr<BackendResolver> resolver;
  std::shared_ptr<DisconnectSource> disconnects;  // null without Redis
  // The same; null without Redis.
  std::shared_ptr<RedisDisconnectSource> redis_disconnects;
  // What both report for /metrics; null without Redis.
  std::function<HostMetrics()> metrics;
  // Calls `HostLookup::Reload`; null without a HostLookup.
  std::function<void()> reload_names;
  absl::optional<RedisAccess> redis;  // nullopt without Redis
};

// Checks rules that are not ranges of single settings.
absl::Status ValidateBackendSource(const Settings& settings);

// Reads the files of TLS to Redis, as each connection does.
absl::Status CheckRedisFiles(const Settings& settings);

// A fixed backend if BACKEND_ADDR is set, else Redis. Connects to nothing yet.
// Errors: InvalidArgument for an invalid setting, else an error of the system.
absl::StatusOr<BackendSource> MakeBackendSource(const Settings& settings);

// A description for the log, without secrets.
std::string DescribeBackendSource(const Settings& settings);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_BACKEND_SOURCE_H_
