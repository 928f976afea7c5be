#include "cli/report.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace cli {
namespace {

// What else than sessions takes descriptors, as udpgate reckons with it.
constexpr int64_t kReservedDescriptors = 128;
constexpr int64_t kFewSessions = 100;

// The parts of a line that are not zero: "name 3, other 5".
class Counts {
 public:
  void Add(absl::string_view name, uint64_t count) {
    if (count > 0) parts_.push_back(absl::StrCat(name, " ", count));
  }

  // Adds them to `sections` under a heading, if there are any.
  void MoveTo(absl::string_view heading, std::vector<std::string>* sections) {
    if (parts_.empty()) return;
    sections->push_back(
        absl::StrCat(heading, ": ", absl::StrJoin(parts_, ", ")));
    parts_.clear();
  }

 private:
  std::vector<std::string> parts_;
};

}  // namespace

std::string SessionLimitWarning(int64_t configured, int64_t in_force,
                                int64_t descriptors_max) {
  if (configured > 0) {
    if (configured <= descriptors_max - kReservedDescriptors) return "";
    return absl::StrCat(
        "MAX_SESSIONS=", configured, " and a reserve of ", kReservedDescriptors,
        " are more than the descriptor limit of ", descriptors_max,
        " allows; raise it (ulimit -n, LimitNOFILE=)");
  }
  if (in_force >= kFewSessions) return "";
  return absl::StrCat("the descriptor limit of ", descriptors_max,
                      " leaves room for only ", in_force,
                      " sessions; raise it (ulimit -n, LimitNOFILE=)");
}

std::string ReceiveBufferWarning(int64_t wanted, int64_t granted,
                                 absl::optional<int64_t> rmem_max) {
  if (granted >= wanted) return "";
  std::string text = absl::StrCat("the kernel capped the receive buffer, ",
                                  wanted, " bytes were asked for");
  if (rmem_max.has_value() && *rmem_max < wanted) {
    absl::StrAppend(&text,
                    "; to allow them: sysctl -w net.core.rmem_max=", wanted);
  }
  return text;
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
