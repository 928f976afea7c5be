#include "cli/settings/fleet_settings.h"

#include <algorithm>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/settings/table_builder.h"
#include "udpgate/option_error.h"
#include "udpgate/socket_address.h"
#include "udpgate/store/session_keeper_options.h"

namespace udpgate {
namespace cli {
namespace {

bool IsGraphic(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

bool ApplySwitch(absl::string_view value, bool Settings::*member,
                 Settings* settings) {
  if (value != "off" && value != "on") return false;
  settings->*member = value == "on";
  return true;
}

ApplyText Switch(bool Settings::*member) {
  return [member](absl::string_view value, Settings* settings) {
    return ApplySwitch(value, member, settings);
  };
}

bool ApplySessionStore(absl::string_view value, Settings* settings) {
  if (value != "off" && value != "redis") return false;
  settings->has_session_store = value == "redis";
  return true;
}

bool ApplySessionStorePrefix(absl::string_view value, Settings* settings) {
  if (!IsSessionStorePrefix(value)) return false;
  settings->session_store_prefix = std::string(value);
  return true;
}

bool ApplyForwardAddress(absl::string_view value, Settings* settings) {
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(value);
  // Other gateways get it as text, where the name of an interface means
  // nothing (RFC 4007 section 6).
  if (!address.ok() || !address->is_unicast() || address->port() == 0 ||
      address->scope_id() != 0) {
    return false;
  }
  settings->session_forward_address = *address;
  return true;
}

absl::Status Wrong(absl::string_view text) {
  return absl::InvalidArgumentError(text);
}

absl::Status CheckStandby(const Settings& settings) {
  if (!settings.is_standby) return absl::OkStatus();
  if (!settings.has_session_store) {
    return Wrong(
        "STANDBY=on needs SESSION_STORE=redis, from which a standby knows the "
        "sessions; allowed: both, or STANDBY=off");
  }
  if (settings.listen_on_all_addresses ||
      settings.proxy.listen_address.is_any()) {
    return Wrong(
        "STANDBY=on needs the address that moves in PROXY_ADDR, and PROXY_ADDR "
        "names all addresses; allowed: 1.2.3.4:port or [v6]:port");
  }
  if (settings.proxy.listen_address.port() == 0) {
    return Wrong(
        "STANDBY=on needs the port of the players in PROXY_ADDR, and "
        "PROXY_ADDR "
        "has port 0; allowed: a port from 1 to 65535");
  }
  return absl::OkStatus();
}

absl::Status CheckForward(const Settings& settings) {
  if (!settings.forwards_sessions) return absl::OkStatus();
  if (!settings.has_session_store) {
    return Wrong(
        "SESSION_FORWARD=on needs SESSION_STORE=redis, which names the owner "
        "of a session; allowed: both, or SESSION_FORWARD=off");
  }
  if (!settings.session_forward_address.is_valid()) {
    return Wrong(
        "SESSION_FORWARD=on needs SESSION_FORWARD_ADDR, where other gateways "
        "send to; allowed: 1.2.3.4:port or [v6]:port of this machine");
  }
  if (settings.session_forward_secret_file.empty()) {
    return Wrong(
        "SESSION_FORWARD=on needs SESSION_FORWARD_SECRET_FILE, the same secret "
        "on all gateways; allowed: a readable file");
  }
  const SocketAddress& listen = settings.proxy.listen_address;
  const SocketAddress& forward = settings.session_forward_address;
  if (forward.port() == listen.port() &&
      (forward == listen || listen.is_any() ||
       settings.listen_on_all_addresses)) {
    return Wrong(
        absl::StrCat("SESSION_FORWARD_ADDR=\"", forward.ToString(),
                     "\" is the address of PROXY_ADDR; allowed: another port"));
  }
  return absl::OkStatus();
}

void AddForwardSettings(TableBuilder* table) {
  table->Add(
      "SESSION_FORWARD", "off",
      "on: datagrams of a client whose session another live gateway "
      "owns are sent to that gateway, and its replies come back the same "
      "way.",
      "off or on", Switch(&Settings::forwards_sessions));
  Setting& address = table->Add(
      "SESSION_FORWARD_ADDR", "",
      "UDP address of this machine for SESSION_FORWARD: other gateways of the "
      "fleet send to it.",
      "1.2.3.4:port or [v6]:port, with a port from 1 to 65535; not a wildcard, "
      "multicast or broadcast address, and none with an interface",
      ApplyForwardAddress);
  address.option = "forward_address";
  table->AddText(
      "SESSION_FORWARD_SECRET_FILE", "", kPathBytesMax,
      absl::StrCat("File of the secret for SESSION_FORWARD, the same on all "
                   "gateways of the fleet: ",
                   kForwardSecretBytesMin, " to ", kForwardSecretBytesMax,
                   " printable ASCII characters without spaces. One "
                   "trailing line break is removed."),
      &Settings::session_forward_secret_file);
}

}  // namespace

bool IsSessionStorePrefix(absl::string_view text) {
  if (text.empty() || text.size() > kSessionStorePrefixBytesMax ||
      !IsGraphic(text)) {
    return false;
  }
  const size_t open = text.find('{');
  if (open == absl::string_view::npos) return !absl::StrContains(text, '}');
  const size_t close = text.find('}');
  return close != absl::string_view::npos && close > open + 1;
}

bool IsForwardSecret(absl::string_view text) {
  return text.size() >= kForwardSecretBytesMin &&
         text.size() <= kForwardSecretBytesMax && IsGraphic(text);
}

void AddFleetSettings(TableBuilder* table) {
  table->Group("Session store and fleet");
  table->Add("SESSION_STORE", "off",
             "Where confirmed sessions are kept, so that they survive the end "
             "of this process or of its host. redis: the Redis of the other "
             "settings.",
             "off or redis", ApplySessionStore);
  table->Add(
      "SESSION_STORE_PREFIX", "udp_gate:session:",
      "Prefix of the keys of the session store, the same on all gateways "
      "of a fleet.",
      absl::StrCat("1 to ", kSessionStorePrefixBytesMax,
                   " printable ASCII characters without spaces, with a "
                   "brace only in a hash tag such as {sessions}"),
      ApplySessionStorePrefix);
  table->AddSeconds("SESSION_STORE_LIFETIME_SECS", "600",
                    session_keeper_ranges::kRecordLifetime,
                    "How long the record of a session stays after its gateway "
                    "has died. A live gateway prolongs its records in time.",
                    InSettings(&Settings::session_store_lifetime));
  table->Add("STANDBY", "off",
             "on: the gateway serves only while this machine has the address "
             "of PROXY_ADDR, and takes the sessions over when the address "
             "comes (VRRP). Until then it waits.",
             "off or on", Switch(&Settings::is_standby));
  AddForwardSettings(table);
}

absl::Status CheckFleetSettings(const Settings& settings) {
  if (settings.has_session_store && !settings.backend_address.empty()) {
    return Wrong(
        "SESSION_STORE=redis needs Redis, and with BACKEND_ADDR the gateway "
        "does not use Redis; allowed: one of them");
  }
  if (absl::Status status = CheckStandby(settings); !status.ok()) return status;
  return CheckForward(settings);
}

}  // namespace cli
}  // namespace udpgate
