// Settings that change while the gate runs.
#ifndef UDPGATE_CLI_RELOAD_H_
#define UDPGATE_CLI_RELOAD_H_

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/command_line.h"
#include "cli/logger.h"
#include "cli/settings.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace cli {

// Reads all sources again. What `Setting::is_live` says can change is applied;
// what else is different is named, and stays as it was. Threads: any.
class Reloader {
 public:
  using Validate = std::function<absl::Status(const Settings& settings)>;

  // `running` is what the process runs with; `validate` checks more than the
  // sources' own check. `reload_names` makes the look-up of host names read the
  // system's files again; null where there is none. `proxy` and `logger` must
  // outlive it.
  Reloader(SettingSources sources, const CommandLine& running,
           Validate validate, std::function<void()> reload_names, Proxy* proxy,
           Logger* logger);

  // One line that says what was done, which is logged too. Where the settings
  // are not valid nothing changes, and the error says what is wrong.
  absl::StatusOr<std::string> Reload();

 private:
  // With `mutex_` held.
  absl::StatusOr<std::string> Apply();

  const SettingSources sources_;
  const Validate validate_;
  const std::function<void()> reload_names_;
  Proxy* const proxy_;
  Logger* const logger_;
  std::mutex mutex_;  // guards what follows
  // The values in force, by variable.
  std::map<std::string, std::string> values_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_RELOAD_H_
