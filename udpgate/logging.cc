#include "udpgate/logging.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"

namespace udpgate {

absl::string_view LogSeverityName(LogSeverity severity) {
  switch (severity) {
    case LogSeverity::kDebug:
      return "debug";
    case LogSeverity::kInfo:
      return "info";
    case LogSeverity::kWarning:
      return "warn";
    case LogSeverity::kError:
      return "error";
  }
  return "unknown";
}

LogSink StderrLogSink() {
  return [](LogSeverity severity, absl::string_view message) {
    if (severity < LogSeverity::kWarning) return;
    const std::string line = absl::StrCat("udpgate ", LogSeverityName(severity),
                                          ": ", message, "\n");
    std::fwrite(line.data(), 1, line.size(), stderr);
  };
}

LogRateLimiter::LogRateLimiter(const Clock* clock, absl::Duration interval)
    : clock_(clock),
      interval_nanoseconds_(absl::ToInt64Nanoseconds(interval)) {}

bool LogRateLimiter::Admit(int64_t* suppressed) {
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  int64_t next_nanoseconds = next_nanoseconds_.load(std::memory_order_relaxed);
  if (now_nanoseconds < next_nanoseconds ||
      !next_nanoseconds_.compare_exchange_strong(
          next_nanoseconds,
          // An infinite interval must not overflow.
          std::min(now_nanoseconds, INT64_MAX - interval_nanoseconds_) +
              interval_nanoseconds_,
          std::memory_order_relaxed)) {
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  *suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
  return true;
}

}  // namespace udpgate
