// Prints what the documents show of the code's own tables, for docs/pages.py:
//
//   tables        blocks of Markdown; each begins with a line `=== NAME`
//   tables --man  udp-gate(8), for man(1)
//
// Threads: one. Exit status: 2 for another argument.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "cli/settings/table.h"
#include "udpgate/host_metric.h"
#include "udpgate/nethernet/join_service_options.h"
#include "udpgate/nethernet/nethernet_metric_infos.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/redis/redis_metrics.h"
#include "udpgate/store/store_metrics.h"
#include "udpgate/version.h"

namespace udpgate {
namespace {

using cli::Setting;

std::string Code(absl::string_view text) {
  return absl::StrCat("`", text, "`");
}

std::string Row(const std::vector<std::string>& cells) {
  // A cell holds no line feed, so that it can stand for the border.
  const std::string joined = absl::StrJoin(cells, "\n");
  return absl::StrCat(
      "| ", absl::StrReplaceAll(joined, {{"|", "\\|"}, {"\n", " | "}}), " |\n");
}

std::string DefaultOf(const Setting& setting) {
  if (!setting.default_text.empty()) return setting.default_text;
  return setting.default_note.empty() ? "none" : setting.default_note;
}

std::string SettingTables() {
  std::string text;
  std::string group;
  for (const Setting& setting : cli::SettingTable()) {
    if (setting.group != group) {
      absl::StrAppend(&text, group.empty() ? "" : "\n", "### ", setting.group,
                      "\n\n",
                      "| Setting | Default | Allowed | Reload | Meaning |\n",
                      "|---|---|---|---|---|\n");
      group = setting.group;
    }
    const std::string flag =
        setting.is_secret ? "no flag" : Code(setting.flag());
    const std::string default_text = setting.default_text.empty()
                                         ? DefaultOf(setting)
                                         : Code(setting.default_text);
    text +=
        Row({absl::StrCat(Code(setting.variable), "<br>", flag), default_text,
             setting.allowed, setting.is_live ? "yes" : "no",
             absl::StrCat(setting.help,
                          setting.unit.empty()
                              ? ""
                              : absl::StrCat(" Unit: ", setting.unit, "."))});
  }
  return text;
}

std::string NumberTable() {
  std::string text = "| Number | Type | Meaning |\n|---|---|---|\n";
  for (const ProxyStatField& field : ProxyStatFields()) {
    const bool is_counter = field.kind == ProxyStatField::Kind::kCounter;
    text += Row({Code(field.name), is_counter ? "counter" : "gauge",
                 std::string(field.help)});
  }
  return text;
}

// A table of the reasons of an enumeration with so many of them.
template <typename Reason>
std::string ReasonTable(size_t count, absl::string_view (*name)(Reason),
                        absl::string_view (*help)(Reason)) {
  std::string text = "| Reason | Meaning |\n|---|---|\n";
  for (size_t i = 0; i < count; ++i) {
    const auto reason = static_cast<Reason>(i);
    text += Row({Code(name(reason)), std::string(help(reason))});
  }
  return text;
}

std::string NetherNetMetricTable() {
  std::string text =
      "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n";
  for (const nethernet::NetherNetMetricInfo& info :
       nethernet::NetherNetMetricInfos()) {
    const char* type = "gauge";
    if (info.kind == HostMetric::Kind::kCounter) type = "counter";
    if (info.kind == HostMetric::Kind::kHistogram) type = "histogram";
    text += Row({Code(info.name), type,
                 info.labels.empty()
                     ? ""
                     : Code(absl::StrReplaceAll(info.labels, {{", ", "`, `"}})),
                 std::string(info.help)});
  }
  return text;
}

std::string StoreMetricTable() {
  std::string text =
      "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n";
  std::vector<HostMetric> metrics = SessionStoreMetrics({});
  for (HostMetric& metric : RedisSessionStoreMetrics({})) {
    // That one is on the page about Redis.
    if (metric.name != "udpgate_redis_problem") {
      metrics.push_back(std::move(metric));
    }
  }
  std::string last;
  for (const HostMetric& metric : metrics) {
    if (metric.name == last) continue;  // with another label
    last = metric.name;
    const char* type = "gauge";
    if (metric.kind == HostMetric::Kind::kCounter) type = "counter";
    if (metric.kind == HostMetric::Kind::kHistogram) type = "histogram";
    text += Row({Code(metric.name), type,
                 metric.labels.empty() ? "" : Code(metric.labels[0].first),
                 metric.help});
  }
  return text;
}

std::string JoinResultTable() {
  std::string text = "| Result | Meaning |\n|---|---|\n";
  for (size_t i = 0; i < nethernet::kJoinResultCount; ++i) {
    const auto result = static_cast<nethernet::JoinResult>(i);
    text += Row({Code(nethernet::JoinResultName(result)),
                 std::string(nethernet::JoinResultHelp(result))});
  }
  return text;
}

void PrintBlocks() {
  const auto print = [](absl::string_view name, const std::string& text) {
    std::fputs(absl::StrCat("=== ", name, "\n", text).c_str(), stdout);
  };
  print("settings", SettingTables());
  print("numbers", NumberTable());
  print("drop-reasons",
        ReasonTable(kDropReasonCount, DropReasonName, DropReasonHelp));
  print("end-reasons",
        ReasonTable(kEndReasonCount, EndReasonName, EndReasonHelp));
  print("nethernet-metrics", NetherNetMetricTable());
  print("join-results", JoinResultTable());
  print("store-metrics", StoreMetricTable());
  print("reopen-reasons",
        ReasonTable(kReopenReasonCount, ReopenReasonName, ReopenReasonHelp));
}

// `text` for troff, see man(7): no escape, no request at the begin of a line.
std::string Escaped(absl::string_view text) {
  std::string escaped =
      absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
  if (!escaped.empty() && (escaped[0] == '.' || escaped[0] == '\'')) {
    escaped.insert(0, "\\&");
  }
  return escaped;
}

constexpr char kManHead[] = R"(.SH NAME
udp\-gate \- UDP gateway that pins each client to a backend
.SH SYNOPSIS
.B udp\-gate
.RB [ \-\-flag
.IR value ]...
.SH DESCRIPTION
Listens on a public UDP address and forwards the datagrams of each client to one
backend.
Redis names the backend when the client sends its first datagram; the client
stays with it until its session ends.
A message on a Redis channel ends a session earlier.
.PP
Each setting is a flag, an environment variable, and a line of the file
.I .env
in the working directory.
A flag takes precedence over the environment, the environment over
.IR .env ,
and
.I .env
over the default.
An empty value means "not set".
.SH OPTIONS
.TP
.B \-\-check
Check all settings and exit.
.TP
.BI \-\-takeover " PATH"
Take over all sockets and sessions of the gateway that runs with
.BI TAKEOVER_SOCKET= PATH\fR,
which ends then.
.TP
.BR \-\-help ", " \-h
Print all settings and exit.
.TP
.BR \-\-version ", " \-V
Print the version and exit.
)";

constexpr char kManTail[] = R"(.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
Stop, or drain first (DRAIN_TIMEOUT_SECS); a second signal stops immediately.
.TP
.B SIGHUP
Read
.I .env
again and apply what a reload applies.
.TP
.B SIGUSR2
Start the installed program, which takes over all sockets and sessions
(TAKEOVER_SOCKET).
.SH EXIT STATUS
0 after SIGTERM, SIGINT or a takeover; 1 if the gateway cannot start; 2 for a
wrong setting.
.SH FILES
.TP
.I /etc/udp\-gate/udp\-gate.env
Settings of the systemd unit.
.TP
.I /usr/share/doc/udp\-gate/docs/index.md
The documentation.
.SH SEE ALSO
.BR systemd.service (5),
.BR udp (7),
.BR redis\-server (1)
)";

void PrintManPage() {
  std::string text =
      absl::StrCat(".TH UDP\\-GATE 8 \"\" \"udp\\-gate ",
                   UDPGATE_VERSION_STRING, "\"\n", kManHead, ".SH SETTINGS\n");
  std::string group;
  for (const Setting& setting : cli::SettingTable()) {
    if (setting.group != group) {
      group = setting.group;
      absl::StrAppend(&text, ".SS ", Escaped(group), "\n");
    }
    absl::StrAppend(
        &text, ".TP\n.B ", setting.variable,
        setting.is_secret ? "" : absl::StrCat(", ", Escaped(setting.flag())),
        "\n", Escaped(setting.help), "\n.br\n",
        Escaped(absl::StrCat("Default: ", DefaultOf(setting), ". ",
                             setting.unit.empty()
                                 ? ""
                                 : absl::StrCat("Unit: ", setting.unit, ". "),
                             "Allowed: ", setting.allowed, ".",
                             setting.is_live ? " A reload applies it." : "")),
        "\n");
  }
  text += kManTail;
  std::fputs(text.c_str(), stdout);
}

}  // namespace
}  // namespace udpgate

int main(int argc, char** argv) {
  if (argc == 1) {
    udpgate::PrintBlocks();
  } else if (argc == 2 && absl::string_view(argv[1]) == "--man") {
    udpgate::PrintManPage();
  } else {
    std::fputs("usage: tables [--man]\n", stderr);
    return 2;
  }
  return 0;
}
