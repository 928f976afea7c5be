#include "cli/settings/help.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "cli/settings/table.h"
#include "udpgate/version.h"

namespace udpgate {
namespace cli {
namespace {

// `text` as indented lines of at most 80 columns.
std::string Wrapped(absl::string_view text) {
  constexpr size_t kColumnsMax = 80;
  constexpr absl::string_view kIndent = "        ";
  std::string result;
  std::string line;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (!line.empty() &&
        kIndent.size() + line.size() + 1 + word.size() > kColumnsMax) {
      absl::StrAppend(&result, kIndent, line, "\n");
      line.clear();
    }
    absl::StrAppend(&line, line.empty() ? "" : " ", word);
  }
  absl::StrAppend(&result, kIndent, line, "\n");
  return result;
}

std::string HelpOf(const Setting& setting) {
  std::string default_text = setting.default_text;
  if (default_text.empty()) {
    default_text = setting.default_note.empty() ? "none" : setting.default_note;
  }
  return absl::StrCat(
      "  ", setting.is_secret ? "(no flag)" : setting.flag(), "  ",
      setting.variable, "\n", Wrapped(setting.help),
      Wrapped(absl::StrCat("Default: ", default_text, ". ",
                           setting.unit.empty() ? "" : "Unit: ", setting.unit,
                           setting.unit.empty() ? "" : ". ",
                           "Allowed: ", setting.allowed, ".",
                           setting.is_live ? " A reload applies it." : "")));
}

}  // namespace

std::string HelpText() {
  std::string text =
      "udp-gate " UDPGATE_VERSION_STRING
      R"(: a UDP gateway. It relays each client's datagrams to the
backend that Redis named when the session was created, until the session ends.

Usage: udp-gate [--flag value]...

Each setting is a flag, an environment variable, and a line of the file .env in
the working directory. A flag overrides the environment, which overrides .env,
which overrides the default. An empty value means "not set". If a flag is given
twice, the last one wins.
)";
  std::string group;
  for (const Setting& setting : SettingTable()) {
    if (setting.group != group) {
      group = setting.group;
      absl::StrAppend(&text, "\n", group, "\n");
    }
    absl::StrAppend(&text, HelpOf(setting));
  }
  absl::StrAppend(&text, R"(
Other
  --check        check all settings and exit
  --takeover PATH  take over all sockets and sessions of the running gateway
                 whose TAKEOVER_SOCKET is PATH; that process then exits
  --help, -h     print this and exit
  --version, -V  print the version and exit

SIGHUP reloads .env, applies the settings that a reload applies, and logs those
that require a restart. If a setting is invalid, nothing changes. SIGUSR2 starts
a new process that takes over all sessions (TAKEOVER_SOCKET).

Exit status: 0 after SIGTERM, SIGINT or a takeover, 1 if the gateway cannot
start, 2 if a setting is invalid.
)");
  return text;
}

}  // namespace cli
}  // namespace udpgate
