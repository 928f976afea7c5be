#include "cli/settings.h"

#include <net/if.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "udpgate/cidr.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/socket_address.h"
#include "udpgate/version.h"

namespace udpgate {
namespace cli {
namespace {

constexpr size_t kTextBytesMax = 1024;
// sun_path of unix(7), and its last byte is 0.
constexpr size_t kUnixPathBytesMax = 107;

// Digits alone: no sign, no white space, no overflow, unlike absl::SimpleAtoi.
bool ParseInteger(absl::string_view text, int64_t minimum, int64_t maximum,
                  int64_t* value) {
  if (text.empty() ||
      !std::all_of(text.begin(), text.end(), absl::ascii_isdigit)) {
    return false;
  }
  int64_t parsed;
  if (!absl::SimpleAtoi(text, &parsed)) return false;
  if (parsed < minimum || parsed > maximum) return false;
  *value = parsed;
  return true;
}

// An integer, or one with KiB, MiB or GiB behind it.
bool ParseByteCount(absl::string_view text, int64_t minimum, int64_t maximum,
                    int64_t* value) {
  int64_t unit = 1;
  if (absl::ConsumeSuffix(&text, "KiB")) {
    unit = int64_t{1} << 10;
  } else if (absl::ConsumeSuffix(&text, "MiB")) {
    unit = int64_t{1} << 20;
  } else if (absl::ConsumeSuffix(&text, "GiB")) {
    unit = int64_t{1} << 30;
  }
  int64_t count;
  if (!ParseInteger(text, 0, maximum / unit, &count)) return false;
  if (count * unit < minimum) return false;
  *value = count * unit;
  return true;
}

// fe80::/10 (RFC 4291 section 2.4) without the interface that makes it one
// address; bind(2) refuses it.
bool LacksInterface(const SocketAddress& address) {
  return address.is_ipv6() && address.ip_bytes()[0] == 0xfe &&
         (address.ip_bytes()[1] & 0xc0) == 0x80 && address.scope_id() == 0;
}

// `host:port`, `1.2.3.4:port` or `[v6]:port` that datagrams or connections can
// be sent to; `result` is its plain form.
bool ParseRemoteAddress(absl::string_view text, std::string* result) {
  const absl::StatusOr<HostPort> host_port = HostPort::Parse(text);
  if (!host_port.ok()) return false;
  const absl::StatusOr<SocketAddress> address =
      SocketAddress::FromIpAndPort(host_port->host, host_port->port);
  if (address.ok() && !address->is_unicast()) return false;
  *result = host_port->ToString();
  return true;
}

bool ApplyListenAddress(absl::string_view value, Settings* settings) {
  int64_t port;
  if (value[0] == ':' && ParseInteger(value.substr(1), 0, 65535, &port)) {
    settings->listen_on_all_addresses = true;
    settings->proxy.listen_address =
        SocketAddress::Ipv4Any(static_cast<uint16_t>(port));
    return true;
  }
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(value);
  if (!address.ok() || !(address->is_any() || address->is_unicast()) ||
      LacksInterface(*address)) {
    return false;
  }
  settings->listen_on_all_addresses = false;
  settings->proxy.listen_address = *address;
  return true;
}

bool ApplyRedisAddress(absl::string_view value, Settings* settings) {
  // sun_path of unix(7) has 108 bytes, the last of them zero.
  absl::string_view path = value;
  if (!absl::ConsumePrefix(&path, "unix:")) {
    return ParseRemoteAddress(value, &settings->redis_address);
  }
  if (!absl::StartsWith(path, "/") || path.size() > 107) return false;
  settings->redis_address = std::string(value);
  return true;
}

bool ApplyLogLevel(absl::string_view value, Settings* settings) {
  for (const LogSeverity severity :
       {LogSeverity::kDebug, LogSeverity::kInfo, LogSeverity::kWarning,
        LogSeverity::kError}) {
    if (value == LogSeverityName(severity)) {
      settings->log_level = severity;
      return true;
    }
  }
  return false;
}

bool ApplyLogFormat(absl::string_view value, Settings* settings) {
  if (value != "text" && value != "json") return false;
  settings->log_format = value == "json" ? LogFormat::kJson : LogFormat::kText;
  return true;
}

bool ApplySessionLog(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->session_log = SessionLog::kOff;
  } else if (value == "end") {
    settings->session_log = SessionLog::kEnd;
  } else if (value == "all") {
    settings->session_log = SessionLog::kAll;
  } else {
    return false;
  }
  return true;
}

// IP addresses without ports, with commas or white space between them.
bool ApplyBindAddresses(absl::string_view value, Settings* settings) {
  constexpr size_t kAddressesMax = 64;
  std::vector<SocketAddress> addresses;
  for (const absl::string_view text :
       absl::StrSplit(value, absl::ByAnyChar(", \t"), absl::SkipEmpty())) {
    const absl::StatusOr<SocketAddress> address =
        SocketAddress::FromIpAndPort(text, 0);
    if (!address.ok() || !address->is_unicast() || LacksInterface(*address) ||
        addresses.size() == kAddressesMax) {
      return false;
    }
    addresses.push_back(*address);
  }
  if (addresses.empty()) return false;
  settings->proxy.upstream_bind_addresses = std::move(addresses);
  return true;
}

bool ApplyFastPath(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->fast_path = FastPath::kOff;
  } else if (value == "auto") {
    settings->fast_path = FastPath::kAuto;
  } else if (value == "required") {
    settings->fast_path = FastPath::kRequired;
  } else {
    return false;
  }
  return true;
}

bool ApplyReadyzDisconnects(absl::string_view value, Settings* settings) {
  if (value != "warn" && value != "fail") return false;
  settings->is_unready_without_disconnects = value == "fail";
  return true;
}

bool ApplyDontFragment(absl::string_view value, Settings* settings) {
  if (value != "off" && value != "on") return false;
  settings->proxy.dont_fragment = value == "on";
  return true;
}

bool ApplyTrafficClass(absl::string_view value, Settings* settings) {
  if (value != "copy" && value != "clear") return false;
  settings->proxy.copies_traffic_class = value == "copy";
  return true;
}

bool ApplyAdminAddress(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->admin_address = SocketAddress();
    return true;
  }
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(value);
  if (!address.ok() || !(address->is_any() || address->is_unicast()) ||
      LacksInterface(*address)) {
    return false;
  }
  settings->admin_address = *address;
  return true;
}

bool ApplyAdminToken(absl::string_view value, Settings* settings) {
  if (!IsToken(value)) return false;
  settings->admin_token = std::string(value);
  return true;
}

bool ApplyInterfaces(absl::string_view value, Settings* settings) {
  constexpr size_t kInterfacesMax = 64;
  std::vector<std::string> interfaces;
  for (const absl::string_view name :
       absl::StrSplit(value, absl::ByAnyChar(", \t"), absl::SkipEmpty())) {
    // dev_valid_name in net/core/dev.c of Linux.
    if (name.size() >= IFNAMSIZ || name == "." || name == ".." ||
        absl::StrContains(name, '/') || absl::StrContains(name, ':') ||
        interfaces.size() == kInterfacesMax) {
      return false;
    }
    interfaces.emplace_back(name);
  }
  if (interfaces.empty()) return false;
  settings->fast_path_interfaces = std::move(interfaces);
  return true;
}

// What an integer of the table is kept in.
template <typename Integer>
std::function<void(int64_t, Settings*)> InProxy(Integer ProxyOptions::*member) {
  return [member](int64_t value, Settings* settings) {
    settings->proxy.*member = static_cast<Integer>(value);
  };
}

template <typename Integer>
std::function<void(int64_t, Settings*)> InLimits(Integer ProxyLimits::*member) {
  return [member](int64_t value, Settings* settings) {
    settings->proxy.limits.*member = static_cast<Integer>(value);
  };
}

std::function<void(int64_t, Settings*)> InLimitsAsSeconds(
    absl::Duration ProxyLimits::*member) {
  return [member](int64_t value, Settings* settings) {
    settings->proxy.limits.*member = absl::Seconds(value);
  };
}

std::function<bool(absl::string_view, Settings*)> InLimitsAsCidrs(
    CidrList ProxyLimits::*member) {
  return [member](absl::string_view value, Settings* settings) {
    absl::StatusOr<CidrList> cidrs = ParseCidrList(value);
    if (!cidrs.ok()) return false;
    settings->proxy.limits.*member = *std::move(cidrs);
    return true;
  };
}

// Builds the table group by group.
class TableBuilder {
 public:
  // The settings that follow; `is_live` is of all of them.
  void Group(std::string group, bool is_live = false) {
    group_ = std::move(group);
    is_live_ = is_live;
  }

  Setting& Add(std::string variable, std::string default_text, std::string help,
               std::string allowed,
               std::function<bool(absl::string_view, Settings*)> apply) {
    Setting setting;
    setting.variable = std::move(variable);
    setting.group = group_;
    setting.is_live = is_live_;
    setting.default_text = std::move(default_text);
    setting.help = std::move(help);
    setting.allowed = std::move(allowed);
    setting.apply = std::move(apply);
    table_.push_back(std::move(setting));
    return table_.back();
  }

  Setting& AddInteger(std::string variable, std::string default_text,
                      int64_t minimum, int64_t maximum, std::string help,
                      std::function<void(int64_t, Settings*)> set) {
    auto apply = [minimum, maximum, set = std::move(set)](
                     absl::string_view value, Settings* settings) {
      int64_t parsed;
      if (!ParseInteger(value, minimum, maximum, &parsed)) return false;
      set(parsed, settings);
      return true;
    };
    return Add(std::move(variable), std::move(default_text), std::move(help),
               absl::StrCat("an integer from ", minimum, " to ", maximum),
               std::move(apply));
  }

  // An integer, or one with KiB, MiB or GiB behind it.
  Setting& AddByteCount(std::string variable, std::string default_text,
                        int64_t minimum, int64_t maximum, std::string help,
                        std::function<void(int64_t, Settings*)> set) {
    auto apply = [minimum, maximum, set = std::move(set)](
                     absl::string_view value, Settings* settings) {
      int64_t parsed;
      if (!ParseByteCount(value, minimum, maximum, &parsed)) return false;
      set(parsed, settings);
      return true;
    };
    Setting& setting =
        Add(std::move(variable), std::move(default_text), std::move(help),
            absl::StrCat("an integer from ", minimum, " to ", maximum,
                         ", or one with KiB, MiB or GiB behind it"),
            std::move(apply));
    setting.unit = "bytes";
    return setting;
  }

  Setting& AddText(std::string variable, std::string default_text,
                   size_t bytes_max, std::string help,
                   std::string Settings::*member) {
    auto apply = [bytes_max, member](absl::string_view value,
                                     Settings* settings) {
      if (value.size() > bytes_max) return false;
      settings->*member = std::string(value);
      return true;
    };
    return Add(std::move(variable), std::move(default_text), std::move(help),
               absl::StrCat("at most ", bytes_max, " bytes"), std::move(apply));
  }

  std::vector<Setting> Build() { return std::move(table_); }

 private:
  std::string group_;
  bool is_live_ = false;
  std::vector<Setting> table_;
};

void AddListenSettings(TableBuilder* table) {
  table->Group("Listening");
  table->Add("PROXY_ADDR", "0.0.0.0:19132",
             "Address to listen on; [::]:19132 serves IPv4 and IPv6, :19132 "
             "means all addresses, and port 0 lets the kernel choose.",
             "1.2.3.4:port, [v6]:port or :port, with a port from 0 to 65535; "
             "not a multicast or broadcast address, and a link-local one with "
             "its interface, [fe80::1%eth0]:port",
             ApplyListenAddress);
  table->AddInteger("LISTENER_COUNT", "1", 1, 64,
                    "Sockets and reader threads on PROXY_ADDR (SO_REUSEPORT "
                    "when more than 1).",
                    InProxy(&ProxyOptions::listener_count));
  table->AddByteCount("RECEIVE_BUFFER_BYTES", "8388608", 4096, int64_t{1} << 30,
                      "Buffers of each listening socket, and of a session's "
                      "own up to 1 MiB; the log says how much the kernel "
                      "granted.",
                      InProxy(&ProxyOptions::receive_buffer_bytes));
  table->Add("DONT_FRAGMENT", "off",
             "Whether a datagram that is too large for one packet of the "
             "interface is dropped rather than sent in fragments, both ways.",
             "off or on", ApplyDontFragment);
  table->Add("TRAFFIC_CLASS", "copy",
             "What becomes of the DSCP and ECN marks of a datagram, both ways; "
             "clear: it leaves without.",
             "copy or clear", ApplyTrafficClass);
}

void AddAddressWait(TableBuilder* table) {
  table
      ->AddInteger("ADDRESS_WAIT_SECS", "300", 0, 86400,
                   "How long the start waits until this machine has the "
                   "addresses of PROXY_ADDR, ADMIN_ADDR and "
                   "UPSTREAM_BIND_ADDRS; 0: not at all, it fails at once.",
                   [](int64_t value, Settings* settings) {
                     settings->address_wait = absl::Seconds(value);
                   })
      .unit = "seconds";
}

void AddBackendSettings(TableBuilder* table) {
  table->Group("Backend");
  table
      ->Add("BACKEND_ADDR", "",
            "One fixed backend instead of Redis: the gate then needs no Redis "
            "at all.",
            "host:port, 1.2.3.4:port or [v6]:port, with a port from 1 to "
            "65535; not a wildcard, multicast or broadcast address",
            [](absl::string_view value, Settings* settings) {
              return ParseRemoteAddress(value, &settings->backend_address);
            })
      .default_note = "none: ask Redis";
  table
      ->AddInteger("BACKEND_REFUSALS_MAX", "3", 1, 1000,
                   "Port-unreachable answers in a row, with no reply between "
                   "them, that end a session.",
                   InLimits(&ProxyLimits::backend_refusals_max))
      .is_live = true;
  Setting& resolve_timeout = table->AddInteger(
      "RESOLVE_TIMEOUT_MS", "3000", 1, 3600000,
      "How long a client waits for its backend.",
      [](int64_t value, Settings* settings) {
        settings->proxy.limits.resolve_timeout = absl::Milliseconds(value);
      });
  resolve_timeout.unit = "milliseconds";
  resolve_timeout.is_live = true;
  table
      ->Add("UPSTREAM_BIND_ADDRS", "",
            "Source addresses towards backends, used in turn, each with a "
            "range of ports of its own.",
            "1 to 64 IP addresses of this machine without ports, with commas "
            "between them",
            ApplyBindAddresses)
      .default_note = "none: the one that the system's routes choose";
  table
      ->AddInteger("PORT_QUARANTINE_SECS", "30", 0, 3600,
                   "How long a source port on which a backend has answered is "
                   "left alone after its session, while there are others.",
                   [](int64_t value, Settings* settings) {
                     settings->proxy.port_quarantine = absl::Seconds(value);
                   })
      .unit = "seconds";
}

void AddRedisSettings(TableBuilder* table) {
  table->Group("Redis");
  table->Add("REDIS_ADDR", "127.0.0.1:6379",
             "Where Redis is; TLS, Sentinel and Cluster are not offered.",
             "host:port, 1.2.3.4:port or [v6]:port, with a port from 1 to "
             "65535, not a wildcard, multicast or broadcast address; or "
             "unix:/path of at most 107 bytes",
             ApplyRedisAddress);
  table->AddText("REDIS_USERNAME", "", kTextBytesMax, "ACL user of Redis.",
                 &Settings::redis_username);
  table
      ->AddText("REDIS_PASSWORD", "", kPasswordBytesMax,
                "Password of Redis. It has no flag, since the command line of "
                "a process can be read by others.",
                &Settings::redis_password)
      .is_secret = true;
  table->AddText("REDIS_PASSWORD_FILE", "", kTextBytesMax,
                 "File that holds the password instead; one line feed at its "
                 "end is cut.",
                 &Settings::redis_password_file);
  table->AddInteger("REDIS_DB", "0", 0, 1000000, "Database index.",
                    [](int64_t value, Settings* settings) {
                      settings->redis_database = static_cast<int>(value);
                    });
  table->AddText("REDIS_BACKEND_KEY", "udp_gate:backend", kTextBytesMax,
                 "Key that holds the current backend, host:port.",
                 &Settings::redis_backend_key);
  table->AddText("REDIS_DISCONNECT_CHANNEL", "udp_gate:disconnect",
                 kTextBytesMax, "Pub/sub channel of disconnect events.",
                 &Settings::redis_disconnect_channel);
  table
      ->AddInteger("REDIS_TIMEOUT_MS", "1000", 1, 60000,
                   "How long one Redis command or connect may take.",
                   [](int64_t value, Settings* settings) {
                     settings->redis_timeout = absl::Milliseconds(value);
                   })
      .unit = "milliseconds";
  table
      ->AddInteger("BACKEND_STALE_SECS", "0", 0, 86400,
                   "While Redis is away, new clients get the last backend "
                   "known, no older than this; 0: they do not.",
                   [](int64_t value, Settings* settings) {
                     settings->backend_stale_max = absl::Seconds(value);
                   })
      .unit = "seconds";
  table->AddInteger("RESOLVES_PER_SEC", "1000", 1, 1000000,
                    "GETs a second at most; clients that wait together share "
                    "an answer.",
                    [](int64_t value, Settings* settings) {
                      settings->resolves_per_second = static_cast<int>(value);
                    });
}

void AddSessionSettings(TableBuilder* table) {
  table->Group("Sessions", /*is_live=*/true);
  table
      ->AddInteger("SESSION_IDLE_TIMEOUT_SECS", "60", 1, 86400,
                   "A session with no datagram in either direction for so "
                   "long ends.",
                   InLimitsAsSeconds(&ProxyLimits::session_idle_timeout))
      .unit = "seconds";
  table
      ->AddInteger("BACKEND_SILENT_TIMEOUT_SECS", "30", 0, 86400,
                   "A session ends if its client has sent and its backend has "
                   "been silent for so long; 0: never.",
                   InLimitsAsSeconds(&ProxyLimits::backend_silent_timeout))
      .unit = "seconds";
  table
      ->AddInteger("CLIENT_SILENT_TIMEOUT_SECS", "300", 0, 86400,
                   "A session ends if its client has been silent for so long, "
                   "whatever its backend sends; 0: never.",
                   InLimitsAsSeconds(&ProxyLimits::client_silent_timeout))
      .unit = "seconds";
  table->AddInteger("MAX_SESSIONS", "0", 0, 1000000000,
                    "Live sessions at most, as far as the descriptor limit, "
                    "less a reserve, and the source ports allow them; 0: as "
                    "many as these allow.",
                    InLimits(&ProxyLimits::max_sessions));
  table
      ->AddInteger("PENDING_DATAGRAMS_MAX", "16", 1, 1024,
                   "Datagrams kept for one client that waits for its "
                   "backend.",
                   InLimits(&ProxyLimits::pending_datagrams_max))
      .unit = "datagrams";
}

void AddAdmissionSettings(TableBuilder* table) {
  constexpr char kCidrs[] =
      "up to 1024 IP addresses or prefixes such as 10.0.0.0/8 and "
      "2001:db8::/32, with commas between them and no bits behind the prefix";
  table->Group("Who may come", /*is_live=*/true);
  table
      ->Add("ALLOW_CIDRS", "", "Only clients from here may begin a session.",
            kCidrs, InLimitsAsCidrs(&ProxyLimits::allow_cidrs))
      .default_note = "none: everyone may";
  table->Add("DENY_CIDRS", "",
             "Clients from here may not, also where ALLOW_CIDRS has them.",
             kCidrs, InLimitsAsCidrs(&ProxyLimits::deny_cidrs));
  table->AddInteger("MAX_SESSIONS_PER_IP", "0", 0, 1000000000,
                    "Live sessions of one IPv4 address or IPv6 /64 at most; "
                    "for one more the one silent longest gives way. 0: any "
                    "number.",
                    InLimits(&ProxyLimits::max_sessions_per_ip));
  table->AddInteger(
      "MAX_UNCONFIRMED_SESSIONS_PER_IP", "512", 0, 1000000000,
      "Of them, those at most whose client has not yet shown that it sees "
      "replies; ends loops of gateways. 0: any number.",
      InLimits(&ProxyLimits::max_unconfirmed_sessions_per_ip));
  table->AddInteger("NEW_SESSIONS_PER_SEC", "10000", 0, 1000000,
                    "Sessions that may begin in one second, as many of them at "
                    "once; 0: any number.",
                    InLimits(&ProxyLimits::new_sessions_per_second));
  table->AddInteger("NEW_SESSIONS_PER_SEC_PER_IP", "0", 0, 1000000,
                    "The same for one IPv4 address or IPv6 /64.",
                    InLimits(&ProxyLimits::new_sessions_per_second_per_ip));
  table->AddInteger("PENDING_CLIENTS_MAX", "4096", 1, 1048576,
                    "Clients that wait for their backend at most.",
                    InLimits(&ProxyLimits::pending_clients_max));
  table->AddByteCount("PENDING_BYTES_MAX", "16777216", 65536, int64_t{1} << 40,
                      "What is kept for all of them at most.",
                      InLimits(&ProxyLimits::pending_bytes_max));
  table
      ->AddInteger("UNCONFIRMED_TIMEOUT_SECS", "30", 1, 86400,
                   "A session whose client has not yet shown that it sees "
                   "replies ends so long after its client's last datagram.",
                   InLimitsAsSeconds(&ProxyLimits::unconfirmed_timeout))
      .unit = "seconds";
  table->AddInteger("UNCONFIRMED_REPLY_FACTOR", "10", 0, 1000000,
                    "Until such a client has sent after a reply it gets at "
                    "most so many times the bytes that it sent, and 2048 bytes "
                    "in any case; 0: no limit.",
                    InLimits(&ProxyLimits::unconfirmed_reply_factor));
  table->AddInteger("PAUSED_SESSIONS_MAX", "64", 0, 65536,
                    "Sessions of one worker whose replies wait in the kernel "
                    "for that limit at most; replies of others are dropped.",
                    InLimits(&ProxyLimits::paused_sessions_max));
}

void AddFastPathSettings(TableBuilder* table) {
  table->Group("Fast path");
  table->Add("FAST_PATH", "off",
             "Whether the kernel relays confirmed sessions, past netfilter; "
             "auto: where it can, required: or the start fails.",
             "off, auto or required", ApplyFastPath);
  table
      ->Add("FAST_PATH_INTERFACES", "",
            "Network interfaces that the kernel relays on.",
            "1 to 64 names of interfaces of at most 15 bytes, with commas "
            "between them",
            ApplyInterfaces)
      .default_note =
      "none: those of PROXY_ADDR and of the routes to clients and backends";
}

void AddAdminSettings(TableBuilder* table) {
  table->Group("Admin");
  table->Add("ADMIN_ADDR", "off",
             "Address of the HTTP endpoint for operators: /metrics, /healthz, "
             "/readyz, /api/v1/...",
             "off, 1.2.3.4:port or [v6]:port, with a port from 0 to 65535; not "
             "a multicast or broadcast address, and a link-local one with its "
             "interface",
             ApplyAdminAddress);
  table
      ->Add("ADMIN_TOKEN", "",
            "What callers of ADMIN_ADDR must send for more than metrics and "
            "health; off loopback there is nothing else without it. It has no "
            "flag.",
            absl::StrCat(kTokenBytesMin, " to ", kTokenBytesMax,
                         " printable ASCII characters without spaces"),
            ApplyAdminToken)
      .is_secret = true;
  table->AddText("ADMIN_TOKEN_FILE", "", kTextBytesMax,
                 "File that holds the token instead; one line feed at its end "
                 "is cut.",
                 &Settings::admin_token_file);
  table->Add("READYZ_DISCONNECTS", "warn",
             "What /readyz says while disconnect events from Redis cannot "
             "arrive; warn: ready, with the reason in a second line; fail: not "
             "ready.",
             "warn or fail", ApplyReadyzDisconnects);
}

void AddStopSettings(TableBuilder* table) {
  table->Group("Stop and upgrade");
  table
      ->AddInteger("DRAIN_TIMEOUT_SECS", "0", 0, 86400,
                   "After SIGTERM or SIGINT live sessions go on until they "
                   "end, so long at most, and new clients are refused; a "
                   "second signal stops now. 0: stop at once.",
                   [](int64_t value, Settings* settings) {
                     settings->drain_timeout = absl::Seconds(value);
                   })
      .unit = "seconds";
  table->AddText("TAKEOVER_SOCKET", "", kUnixPathBytesMax,
                 "Unix socket where a successor gets all sockets and sessions "
                 "(--takeover); SIGUSR2 starts one. Empty: none can.",
                 &Settings::takeover_socket);
}

void AddThreadSettings(TableBuilder* table) {
  table->Group("Threads and queues");
  table
      ->AddInteger("WORKER_COUNT", "", 0, 256,
                   "Threads of the worker pool; 0: no pool, each listener "
                   "handles what it reads.",
                   InProxy(&ProxyOptions::worker_count))
      .default_note = "CPUs - 1, at least 1";
  table
      ->AddInteger("QUEUE_SIZE", "4096", 1, 1048576,
                   "Datagrams that wait for one worker at most, and 2 KiB "
                   "times as many bytes; a full queue drops and counts.",
                   InProxy(&ProxyOptions::queue_size_datagrams))
      .unit = "datagrams";
  table
      ->AddInteger("BATCH_SIZE", "64", 1, 1024,
                   "Datagrams read or sent by one system call at most.",
                   InProxy(&ProxyOptions::batch_size))
      .unit = "datagrams";
  table
      ->AddInteger("SESSION_EVENTS_MAX", "1024", 1, 1048576,
                   "Events of one worker's sessions that wait for SESSION_LOG "
                   "and ADMIN_ADDR at most; a full queue drops and counts.",
                   InProxy(&ProxyOptions::session_events_max))
      .unit = "events";
}

std::vector<Setting> BuildTable() {
  TableBuilder table;
  AddListenSettings(&table);
  AddAddressWait(&table);
  AddBackendSettings(&table);
  AddRedisSettings(&table);
  AddSessionSettings(&table);
  AddAdmissionSettings(&table);
  AddThreadSettings(&table);
  AddFastPathSettings(&table);
  AddAdminSettings(&table);
  AddStopSettings(&table);
  table.Group("Log", /*is_live=*/true);
  table.Add("LOG_LEVEL", "info", "Least severe lines that are logged.",
            "debug, info, warn or error", ApplyLogLevel);
  table.Group("Log");
  table.Add("LOG_FORMAT", "text",
            "Lines for people, or one JSON object a line for programs.",
            "text or json", ApplyLogFormat);
  table.Add("SESSION_LOG", "off",
            "Whether the log says of each session that it ended, with its "
            "totals; all: also that it opened and was confirmed.",
            "off, end or all", ApplySessionLog);
  table.AddInteger("SESSION_LOG_LINES_PER_SEC", "1000", 0, 1000000,
                   "Lines on sessions in one second at most; a later one says "
                   "how many were left out. 0: any number.",
                   [](int64_t value, Settings* settings) {
                     settings->session_log_lines_per_second_max = value;
                   });
  return table.Build();
}

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

bool IsToken(absl::string_view text) {
  return text.size() >= kTokenBytesMin && text.size() <= kTokenBytesMax &&
         std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

std::string Setting::flag() const {
  return absl::StrCat(
      "--", absl::StrReplaceAll(absl::AsciiStrToLower(variable), {{"_", "-"}}));
}

absl::Span<const Setting> SettingTable() {
  static const auto* const kTable = new std::vector<Setting>(BuildTable());
  return *kTable;
}

std::string HelpText() {
  std::string text =
      "udp-gate " UDPGATE_VERSION_STRING
      R"(: a UDP gateway. It forwards each client's datagrams to the
backend that Redis named when the client came, until its session ends.

Usage: udp-gate [--flag value]...

Each setting is a flag, an environment variable, and a line of the file .env in
the working directory. A flag beats the environment, which beats .env, which
beats the default. An empty value means "not set". Where a flag comes twice, the
last one holds.
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
  --takeover PATH  take over all sockets and sessions of the gate that runs
                 with TAKEOVER_SOCKET=PATH, which ends then
  --help, -h     print this and exit
  --version, -V  print the version and exit

SIGHUP reads .env again, applies what a reload applies, and names what needs a
restart. Where a setting is wrong all stay as they are. SIGUSR2 starts this
program anew, and it takes over, so that no session ends (TAKEOVER_SOCKET).

Exit status: 0 after SIGTERM, SIGINT or a take-over, 1 where the gate cannot
start, 2 for a wrong setting.
)");
  return text;
}

}  // namespace cli
}  // namespace udpgate
