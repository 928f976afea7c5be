// Changes settings while the gateway runs.
#ifndef UDPGATE_CLI_RELOAD_H_
#define UDPGATE_CLI_RELOAD_H_

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/log/logger.h"
#include "cli/settings/command_line.h"
#include "cli/settings/settings.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace cli {

// Reads all sources again. Applies the settings that are live
// (`Setting::is_live`). The others keep their values, and those that changed
// are named. Threads: any.
class Reloader {
 public:
  using Validate = std::function<absl::Status(const Settings& settings)>;

  // Other parts that a reload concerns; each may be null.
  struct Parts {
    // Makes the lookup of host names read the system's files again.
    std::function<void()> reload_names;
    // Applies live settings that are not limits of the Proxy. An error is
    // logged; what is valid is applied.
    std::function<absl::Status(const Settings& settings)> apply;
  };

  // `running` is what the process runs with; `validate` checks what
  // ParseCommandLine does not. `proxy` and `logger` must outlive the object.
  Reloader(SettingSources sources, const CommandLine& running,
           Validate validate, Parts parts, Proxy* proxy, Logger* logger);

  // Returns and logs one line that says what was done. If the settings are not
  // valid, nothing changes, and the error says what is wrong.
  absl::StatusOr<std::string> Reload();

 private:
  // With `mutex_` held.
  absl::StatusOr<std::string> Apply();

  const SettingSources sources_;
  const Validate validate_;
  const Parts parts_;
  Proxy* const proxy_;
  Logger* const logger_;
  std::mutex mutex_;  // guards what follows
  // The values in force, by variable.
  std::map<std::string, std::string> values_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_RELOAD_H_
