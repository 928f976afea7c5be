// From the flags, the environment and `.env` to `Settings`.
//
// A flag overrides the environment, which overrides `.env`, which overrides the
// default. An empty value means "not set" everywhere.
#ifndef UDPGATE_CLI_SETTINGS_COMMAND_LINE_H_
#define UDPGATE_CLI_SETTINGS_COMMAND_LINE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "cli/settings/settings.h"

namespace udpgate {
namespace cli {

// Where the values come from. A test provides its own.
struct SettingSources {
  std::vector<std::string> arguments;  // without the program's name
  // The value of an environment variable, if it has one.
  std::function<absl::optional<std::string>(const std::string& variable)>
      environment;
  std::string dotenv_path = ".env";

  // Of this process.
  static SettingSources OfProcess(int argc, const char* const* argv);
};

struct CommandLine {
  enum class Action { kRun, kCheck, kHelp, kVersion };

  Action action = Action::kRun;
  Settings settings;  // for kRun and kCheck
  // TAKEOVER_SOCKET of the process to take over from; empty: none.
  std::string takeover_path;
  // The values that are set, as given, by variable.
  std::map<std::string, std::string> values;
  std::vector<std::string> warnings;  // one line each
};

// Reads all sources. An error is one line that names the setting, its value
// (unless that is secret) and what is allowed.
absl::StatusOr<CommandLine> ParseCommandLine(const SettingSources& sources);

// Whether `name`, which is not a setting, is probably meant to be one.
bool LooksLikeSetting(absl::string_view name);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_COMMAND_LINE_H_
