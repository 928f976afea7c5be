#include "cli/log/session_log.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "udpgate/session_event_fields.h"

namespace udpgate {
namespace cli {
namespace {

constexpr int64_t kSecondNanoseconds = 1'000'000'000;

std::vector<LogField> FieldsOf(const SessionEvent& event) {
  std::vector<LogField> fields;
  for (SessionEventField& field : SessionEventFields(event)) {
    fields.push_back({std::move(field.name), std::move(field.value)});
  }
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
