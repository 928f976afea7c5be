#include "cli/report.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace cli {
namespace {

constexpr int64_t kFewSessions = 100;

// The parts of a line that are not zero: "name 3, other 5".
class Counts {
 public:
  void Add(absl::string_view name, uint64_t count) {
    if (count > 0) parts_.push_back(absl::StrCat(name, " ", count));
  }

  // Appends them to `sections` under a heading, if there are any.
  void MoveTo(absl::string_view heading, std::vector<std::string>* sections) {
    if (parts_.empty()) return;
    sections->push_back(
        absl::StrCat(heading, ": ", absl::StrJoin(parts_, ", ")));
    parts_.clear();
  }

 private:
  std::vector<std::string> parts_;
};

std::string BufferWarning(absl::string_view buffer, absl::string_view sysctl,
                          int64_t wanted, int64_t granted,
                          absl::optional<int64_t> limit) {
  if (granted >= wanted) return "";
  std::string text = absl::StrCat("the kernel capped the ", buffer, " buffer, ",
                                  wanted, " bytes were requested");
  if (limit.has_value() && *limit < wanted) {
    absl::StrAppend(&text, "; to allow this: sysctl -w ", sysctl, "=", wanted);
  }
  return text;
}

}  // namespace

std::string SessionLimitText(const SessionLimit& limit) {
  absl::string_view cause;
  switch (limit.cause) {
    case SessionLimit::Cause::kSetting:
      cause = "MAX_SESSIONS";
      break;
    case SessionLimit::Cause::kDescriptors:
      cause = "descriptor limit";
      break;
    case SessionLimit::Cause::kSourcePorts:
      cause = "source ports";
      break;
  }
  return absl::StrCat("sessions at most: ", limit.sessions_max, " (", cause,
                      ")");
}

std::string SessionLimitWarning(int64_t configured,
                                const SessionLimit& in_force,
                                int64_t descriptors_max) {
  const bool is_capped = in_force.sessions_max < configured;
  const bool is_of_ports = in_force.cause == SessionLimit::Cause::kSourcePorts;
  if (!is_capped && (configured > 0 || in_force.sessions_max >= kFewSessions)) {
    return "";
  }
  const std::string limit =
      is_of_ports ? std::string("the source ports of one address")
                  : absl::StrCat("the descriptor limit of ", descriptors_max);
  const absl::string_view remedy =
      is_of_ports ? "widen net.ipv4.ip_local_port_range, or set several "
                    "UPSTREAM_BIND_ADDRS"
                  : "raise it (ulimit -n, LimitNOFILE=)";
  if (is_capped) {
    return absl::StrCat("MAX_SESSIONS=", configured, " is capped at ",
                        in_force.sessions_max, ": ", limit,
                        is_of_ports ? " do not allow more; "
                                    : ", less a reserve, does not allow more; ",
                        remedy);
  }
  return absl::StrCat(limit, is_of_ports ? " allow" : " allows", " only ",
                      in_force.sessions_max, " sessions; ", remedy);
}

std::string ReceiveBufferWarning(int64_t wanted, int64_t granted,
                                 absl::optional<int64_t> rmem_max) {
  return BufferWarning("receive", "net.core.rmem_max", wanted, granted,
                       rmem_max);
}

std::string SendBufferWarning(int64_t wanted, int64_t granted,
                              absl::optional<int64_t> wmem_max) {
  return BufferWarning("send", "net.core.wmem_max", wanted, granted, wmem_max);
}

std::vector<std::string> StopLines(const ProxyStats& stats) {
  std::vector<std::string> sections;
  Counts counts;
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    const auto reason = static_cast<DropReason>(i);
    counts.Add(DropReasonName(reason), stats.dropped(reason));
  }
  counts.MoveTo("dropped", &sections);
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    const auto reason = static_cast<EndReason>(i);
    counts.Add(EndReasonName(reason), stats.ended(reason));
  }
  counts.MoveTo("ended", &sections);
  counts.Add("received", stats.disconnects_received);
  counts.Add("unmatched", stats.disconnects_unmatched);
  counts.Add("invalid", stats.disconnects_invalid);
  counts.Add("ambiguous", stats.disconnects_ambiguous);
  counts.MoveTo("disconnects", &sections);
  counts.Add("from clients", stats.fast_path_client_datagrams);
  counts.Add("from backends", stats.fast_path_backend_datagrams);
  counts.Add("sessions withdrawn", stats.fast_path_withdrawals);
  counts.Add("sessions refused", stats.fast_path_refusals);
  counts.MoveTo("fast path", &sections);
  if (stats.kernel_drops > 0) {
    sections.push_back(absl::StrCat("kernel drops: ", stats.kernel_drops));
  }

  std::vector<std::string> lines = {absl::StrCat(
      "stopped: ", stats.sessions_created, " sessions created, ",
      stats.client_datagrams_forwarded + stats.backend_datagrams_forwarded,
      " datagrams forwarded, ", stats.dropped_total(), " dropped")};
  if (!sections.empty()) lines.push_back(absl::StrJoin(sections, "; "));
  return lines;
}

}  // namespace cli
}  // namespace udpgate
