// The settings of what the program adds to the data plane.
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/settings/parsers.h"
#include "cli/settings/table_builder.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace cli {
namespace {

constexpr IntegerRange kDrainTimeoutSeconds{"", 0, 86400};
constexpr IntegerRange kSessionLogLinesPerSecond{"", 0, 1'000'000};
constexpr IntegerRange kPort{"", 0, 65535};
constexpr IntegerRange kNetherNetJoinsMax{"", 1, 1'000'000};
constexpr DurationRange kNetherNetJoinTimeout{"", absl::Seconds(1),
                                              absl::Hours(1)};

void AddFastPathSettings(TableBuilder* table) {
  table->Group("Fast path");
  table->Add("FAST_PATH", "off",
             "Whether the kernel relays confirmed sessions, bypassing "
             "netfilter. auto: if the kernel supports it; required: startup "
             "fails without it.",
             "off, auto or required", ApplyFastPath);
  Setting& interfaces = table->Add(
      "FAST_PATH_INTERFACES", "", "Network interfaces that the fast path uses.",
      "1 to 64 names of interfaces of at most 15 bytes, separated "
      "by commas",
      ApplyInterfaces);
  interfaces.default_note =
      "none: those of PROXY_ADDR and of the routes to clients and backends";
  interfaces.option = "interfaces";
}

void AddNetherNetListenSettings(TableBuilder* table) {
  table->Group("NetherNet");
  table->Add("NETHERNET_ADDR", "off",
             "TCP address at which Bedrock players ask for a connection "
             "(NetherNet, signaling over HTTP). Its port is usually that of "
             "PROXY_ADDR.",
             "off, 1.2.3.4:port, [v6]:port or :port for all addresses, with a "
             "port from 0 to 65535; not a multicast or broadcast address, and "
             "a link-local one with its interface",
             ApplyNetherNetAddress);
  table
      ->AddText("NETHERNET_CERTIFICATE_FILE", "", kPathBytesMax,
                "File of the certificate chain (PEM). With it HTTPS is served "
                "beside HTTP on NETHERNET_ADDR. A reload reads it again, and "
                "so does a change of the file.",
                &Settings::nethernet_certificate_file)
      .default_note = "none: HTTP alone";
  table->AddText("NETHERNET_PRIVATE_KEY_FILE", "", kPathBytesMax,
                 "File of the certificate's private key (PEM).",
                 &Settings::nethernet_private_key_file);
}

void AddNetherNetSettings(TableBuilder* table) {
  AddNetherNetListenSettings(table);
  table->Group("NetherNet", /*is_live=*/true);
  table
      ->Add("NETHERNET_PUBLIC_ADDRS", "",
            "UDP addresses that players are told, with the port of PROXY_ADDR "
            "if they have none. Needed behind address translation.",
            "1 to 16 addresses such as 203.0.113.1, 203.0.113.1:19132, "
            "2001:db8::1 and [2001:db8::1]:19132, separated by commas; not "
            "wildcard, multicast, broadcast or link-local addresses",
            ApplyNetherNetPublicAddresses)
      .default_note =
      "none: the address that the player's TCP connection "
      "came to";
  table->AddInteger("NETHERNET_BACKEND_PORT", "0", kPort,
                    "TCP port of a backend's signaling. 0: the port of the "
                    "backend's address.",
                    InSettings(&Settings::nethernet_backend_port));
  table->Add("NETHERNET_FORWARD_CLIENT", "x-forwarded-for",
             "How a backend's signaling learns the player's address: by an "
             "HTTP header, by a PROXY protocol header before the request, or "
             "not at all.",
             "x-forwarded-for, proxy-v1, proxy-v2 or off",
             ApplyNetherNetForwardClient);
  table->Add("NETHERNET_TRUSTED_PROXIES", "",
             "Load balancers in front of NETHERNET_ADDR. Only their PROXY "
             "protocol headers and X-Forwarded-For are believed.",
             kAllowedCidrs,
             InSettingsAsCidrs(&Settings::nethernet_trusted_proxies));
  table->AddInteger("NETHERNET_JOINS_MAX", "10000", kNetherNetJoinsMax,
                    "Maximum number of joins that are remembered. Further "
                    "players are rejected.",
                    InSettings(&Settings::nethernet_joins_max));
  table->AddSeconds("NETHERNET_JOIN_TIMEOUT_SECS", "60", kNetherNetJoinTimeout,
                    "How long a join waits for the player's first datagram.",
                    InSettings(&Settings::nethernet_join_timeout));
  table->Add("NETHERNET_STATUS", "",
             "Response to GET /v1/join while there is no backend, for example "
             "a maintenance message.",
             absl::StrCat("a JSON object of at most ",
                          kNetherNetStatusBytesMax / 1024, " KiB"),
             ApplyNetherNetStatus);
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
            "Bearer token of ADMIN_ADDR, required for everything except "
            "metrics and health. Without a token, only loopback addresses "
            "serve the rest. It has no flag.",
            absl::StrCat(kTokenBytesMin, " to ", kTokenBytesMax,
                         " printable ASCII characters without spaces"),
            ApplyAdminToken)
      .is_secret = true;
  table->AddText("ADMIN_TOKEN_FILE", "", kPathBytesMax,
                 "File that holds the token instead. One trailing line break "
                 "is removed.",
                 &Settings::admin_token_file);
  table->Add("READYZ_DISCONNECTS", "warn",
             "Response of /readyz while disconnect events from Redis cannot "
             "arrive. warn: ready, with the reason on a second line; fail: not "
             "ready.",
             "warn or fail", ApplyReadyzDisconnects);
}

void AddShutdownSettings(TableBuilder* table) {
  table->Group("Shutdown and upgrade");
  table
      ->AddInteger("DRAIN_TIMEOUT_SECS", "0", kDrainTimeoutSeconds,
                   "Maximum time to drain after SIGTERM or SIGINT: live "
                   "sessions continue, new clients are rejected. A second "
                   "signal ends the drain. 0: no drain.",
                   [](int64_t value, Settings* settings) {
                     settings->drain_timeout = absl::Seconds(value);
                   })
      .unit = "seconds";
  table
      ->AddText("TAKEOVER_SOCKET", "", kUnixPathBytesMax,
                "Unix socket for takeover; the new process (--takeover, or "
                "started by SIGUSR2) receives all sockets and sessions. Empty: "
                "disabled.",
                &Settings::takeover_socket)
      .default_note = "none: disabled";
}

void AddLogSettings(TableBuilder* table) {
  table->Group("Log", /*is_live=*/true);
  table->Add("LOG_LEVEL", "info", "Minimum log severity.",
             "debug, info, warn or error", ApplyLogLevel);
  table->Group("Log");
  table->Add("LOG_FORMAT", "text",
             "Log format: text, or one JSON object per line.", "text or json",
             ApplyLogFormat);
  table->Add("SESSION_LOG", "off",
             "Which session events are logged. end: the end of each session, "
             "with its totals; all: also its creation and its confirmation.",
             "off, end or all", ApplySessionLog);
  table->AddInteger("SESSION_LOG_LINES_PER_SEC", "1000",
                    kSessionLogLinesPerSecond,
                    "Maximum number of session log lines per second. A later "
                    "line reports how many were suppressed. 0: no limit.",
                    InSettings(&Settings::session_log_lines_per_second_max));
}

}  // namespace

void AddProgramSettings(TableBuilder* table) {
  AddFleetSettings(table);
  AddFastPathSettings(table);
  AddNetherNetSettings(table);
  AddAdminSettings(table);
  AddShutdownSettings(table);
  AddLogSettings(table);
}

}  // namespace cli
}  // namespace udpgate
