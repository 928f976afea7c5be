// The settings of `udp-gate`. One table (`SettingTable`) serves the flags, the
// environment, the `.env` file, `--help` and the check of `.env.example`, so
// that they cannot disagree. To add a setting, add its row.
#ifndef UDPGATE_CLI_SETTINGS_H_
#define UDPGATE_CLI_SETTINGS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cli/logger.h"
#include "udpgate/logging.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// A longer password is refused.
inline constexpr size_t kPasswordBytesMax = 4096;

// Whether the endpoint for operators can have this token: printable ASCII
// without spaces, of 16 to 1024 bytes.
inline constexpr size_t kTokenBytesMin = 16;
inline constexpr size_t kTokenBytesMax = 1024;
bool IsToken(absl::string_view text);

// Which events of sessions are logged.
enum class SessionLog { kOff, kEnd, kAll };

// Whether the kernel relays confirmed sessions (udpgate/fastpath).
enum class FastPath { kOff, kAuto, kRequired };

// What the settings come to.
struct Settings {
  ProxyOptions proxy;
  // `PROXY_ADDR=:port`: the port of `proxy.listen_address` on all addresses,
  // of IPv6 too where the machine has it.
  bool listen_on_all_addresses = false;

  // How long the start waits for addresses of this machine.
  absl::Duration address_wait;  // 0: not at all

  // `host:port` or `ip:port`; empty: ask Redis.
  std::string backend_address;

  std::string redis_address;  // `host:port` or `unix:/path`
  std::string redis_username;
  std::string redis_password;  // never logged
  std::string redis_password_file;
  int redis_database = 0;
  std::string redis_backend_key;
  std::string redis_disconnect_channel;
  absl::Duration redis_timeout;
  absl::Duration backend_stale_max;  // 0: no stale backend
  int resolves_per_second = 0;

  FastPath fast_path = FastPath::kOff;
  std::vector<std::string> fast_path_interfaces;  // empty: found out

  SocketAddress admin_address;  // invalid: no endpoint for operators
  std::string admin_token;      // never logged
  std::string admin_token_file;
  // Whether the gate is not ready while disconnect events cannot arrive.
  bool is_unready_without_disconnects = false;

  absl::Duration drain_timeout;  // 0: a signal stops at once

  std::string takeover_socket;  // empty: no other process can take over

  LogSeverity log_level = LogSeverity::kInfo;
  LogFormat log_format = LogFormat::kText;
  SessionLog session_log = SessionLog::kOff;
  int64_t session_log_lines_per_second_max = 0;  // 0: any number
};

// One row of the table.
struct Setting {
  std::string variable;      // PROXY_ADDR
  std::string group;         // a heading of --help
  std::string default_text;  // empty: not set
  std::string default_note;  // what that means, where it is not plain "none"
  std::string unit;          // empty where it has none
  std::string help;          // one sentence
  std::string allowed;       // what an error says
  bool is_live = false;      // a reload (SIGHUP) applies it
  bool is_secret = false;    // has no flag, and its value is never shown
  // Takes a value that is not empty. False where it is not allowed; `settings`
  // is then unchanged.
  std::function<bool(absl::string_view value, Settings* settings)> apply;

  // PROXY_ADDR -> --proxy-addr
  std::string flag() const;
};

absl::Span<const Setting> SettingTable();

// The text of `--help`.
std::string HelpText();

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_H_
