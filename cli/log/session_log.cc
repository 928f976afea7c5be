#include "cli/log/session_log.h"

#include <cmath>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace cli {
namespace {

constexpr int64_t kSecondNanoseconds = 1'000'000'000;

std::vector<LogField> FieldsOf(const SessionEvent& event) {
  std::vector<LogField> fields = {{"event", "session_"},
                                  {"session", event.session_id},
                                  {"client", event.client.ToString()},
                                  {"local", event.local.ToString()}};
  std::get<std::string>(fields[0].value) +=
      std::string(SessionEventKindName(event.kind));
  // A session without a backend has neither.
  if (event.backend.is_valid()) {
    fields.push_back({"backend", event.backend.ToString()});
    fields.push_back({"relay", event.relay.ToString()});
    fields.push_back({"relay_port", uint64_t{event.relay.port()}});
  }
  if (event.tag != nullptr) {
    fields.push_back({"network_id", event.tag->text()});
  }
  if (event.kind != SessionEvent::Kind::kEnded) return fields;
  const int64_t milliseconds = absl::ToInt64Milliseconds(event.age);
  fields.push_back(
      {"duration_seconds", static_cast<double>(milliseconds) / 1000});
  fields.push_back({"client_datagrams", event.client_datagrams_forwarded});
  fields.push_back({"client_bytes", event.client_bytes_forwarded});
  fields.push_back({"backend_datagrams", event.backend_datagrams_forwarded});
  fields.push_back({"backend_bytes", event.backend_bytes_forwarded});
  fields.push_back({"reason", std::string(EndReasonName(event.end_reason))});
  return fields;
}

}  // namespace

SessionLogger::SessionLogger(SessionLog what, int64_t lines_per_second_max,
                             const Clock* clock, Logger* logger)
    : what_(what),
      lines_per_second_max_(lines_per_second_max),
      clock_(clock),
      logger_(logger),
      second_begin_nanoseconds_(clock->NowNanoseconds()) {}

void SessionLogger::Observe(const SessionEvent& event) {
  if (what_ == SessionLog::kOff ||
      (what_ == SessionLog::kEnd && event.kind != SessionEvent::Kind::kEnded)) {
    return;
  }
  if (!Admit()) return;
  logger_->Log(LogSeverity::kInfo,
               absl::StrCat("session ", SessionEventKindName(event.kind)),
               FieldsOf(event));
}

bool SessionLogger::Admit() {
  if (lines_per_second_max_ == 0) return true;
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (now_nanoseconds - second_begin_nanoseconds_ >= kSecondNanoseconds) {
    second_begin_nanoseconds_ = now_nanoseconds;
    lines_in_second_ = 0;
    ReportLeftOut();
  }
  if (lines_in_second_ == lines_per_second_max_) {
    lines_left_out_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  ++lines_in_second_;
  return true;
}

void SessionLogger::ReportLeftOut() {
  const uint64_t news = lines_left_out() - lines_reported_;
  if (news == 0) return;
  lines_reported_ += news;
  logger_->Log(LogSeverity::kWarning,
               absl::StrCat(news,
                            " session log lines were suppressed by "
                            "SESSION_LOG_LINES_PER_SEC"));
}

}  // namespace cli
}  // namespace udpgate
