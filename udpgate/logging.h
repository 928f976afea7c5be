// The log lines of udpgate, and the sink that receives them.
//
// The library formats a line and hands it to a `LogSink`, which the host
// replaces with its own logger:
//
//   options.log_sink = [](udpgate::LogSeverity severity,
//                         absl::string_view message) {
//     my_logger.Write(severity >= udpgate::LogSeverity::kWarning, message);
//   };
//
// Lines come from control-plane threads only. No thread that moves datagrams
// ever calls a sink, so a slow sink delays no datagram. What traffic can cause
// is limited in rate before it gets here.
#ifndef UDPGATE_LOGGING_H_
#define UDPGATE_LOGGING_H_

#include <atomic>
#include <cstdint>
#include <functional>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"

namespace udpgate {

enum class LogSeverity { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warn" or "error".
UDPGATE_EXPORT absl::string_view LogSeverityName(LogSeverity severity);

// Called with one line without a line feed. Threads: may be called from
// several threads at once. Must not call back into the object that logs.
using LogSink = std::function<void(LogSeverity, absl::string_view message)>;

// The default: warnings and errors to stderr, one line each.
UDPGATE_EXPORT LogSink StderrLogSink();

// Lets one line through per interval and counts those it held back, so that
// the next line can say how many there were.
//
//   int64_t suppressed = 0;
//   if (limiter.Admit(&suppressed)) {
//     sink(LogSeverity::kWarning, absl::StrCat(..., suppressed, " more"));
//   }
//
// Threads: any number at once, without a lock.
class UDPGATE_EXPORT LogRateLimiter {
 public:
  // `clock` must outlive the limiter.
  LogRateLimiter(const Clock* clock, absl::Duration interval);

  // True if a line may be written now; `suppressed` then holds the number of
  // lines that were held back since the last one.
  bool Admit(int64_t* suppressed);

  // The next line may be written at once.
  void Reset() {
    next_nanoseconds_.store(INT64_MIN, std::memory_order_relaxed);
  }

 private:
  const Clock* const clock_;
  const int64_t interval_nanoseconds_;
  std::atomic<int64_t> next_nanoseconds_{INT64_MIN};
  std::atomic<int64_t> suppressed_{0};
};

}  // namespace udpgate

#endif  // UDPGATE_LOGGING_H_
