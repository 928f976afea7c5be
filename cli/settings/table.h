// The table of settings. It serves the flags, the environment, the `.env` file,
// `--help`, the documents and the check of `.env.example`, so that they cannot
// disagree. To add a setting, add its row in traffic_settings.cc,
// program_settings.cc or fleet_settings.cc.
#ifndef UDPGATE_CLI_SETTINGS_TABLE_H_
#define UDPGATE_CLI_SETTINGS_TABLE_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cli/settings/settings.h"

namespace udpgate {
namespace cli {

// One row of the table.
struct Setting {
  std::string variable;      // PROXY_ADDR
  std::string group;         // a heading of --help
  std::string default_text;  // empty: not set
  std::string default_note;  // what an empty default means, if not "none"
  std::string unit;          // empty: no unit
  std::string help;          // one or two sentences
  std::string allowed;       // what an error says
  std::string option;        // the library's name for it; empty: has none
  bool is_live = false;      // a reload (SIGHUP) applies it
  bool is_secret = false;    // has no flag, and its value is never shown
  // Takes a value that is not empty. False if the value is not allowed;
  // `settings` is then unchanged.
  std::function<bool(absl::string_view value, Settings* settings)> apply;

  // PROXY_ADDR -> --proxy-addr
  std::string flag() const;
};

absl::Span<const Setting> SettingTable();

// The row of `variable`, or null.
const Setting* FindSetting(absl::string_view variable);

// `status` for a user: if the library names an option at fault (see
// `OptionAtFault`) that is a setting, the text begins with the setting instead.
// Any other status comes back unchanged.
absl::Status NameSetting(const absl::Status& status);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_TABLE_H_
