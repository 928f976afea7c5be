// The log lines about the loss and the recovery of one connection.
#ifndef UDPGATE_REDIS_INTERNAL_OUTAGE_LOG_H_
#define UDPGATE_REDIS_INTERNAL_OUTAGE_LOG_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace redis {
namespace internal {

// Threads: one.
class OutageLog {
 public:
  // `clock` must outlive the log.
  OutageLog(const Clock* clock, LogSink sink)
      : sink_(std::move(sink)),
        limiter_(clock, kInterval),
        error_limiter_(clock, kInterval) {}

  // Logs once per outage, and again if the reason changes.
  void Lost(absl::string_view why) {
    if (!is_recovery_logged_ && why == lost_logged_) return;
    int64_t suppressed;
    if (!limiter_.Admit(&suppressed)) return;
    is_recovery_logged_ = false;
    lost_logged_ = std::string(why);
    sink_(LogSeverity::kWarning,
          suppressed == 0 ? absl::StrCat(why, "; retrying")
                          : absl::StrCat(why, "; retrying (", suppressed,
                                         " failures not shown)"));
  }

  // The same for an error that Redis has replied with; such a connection may be
  // lost afterwards, for another reason.
  void Refused(absl::string_view error) {
    if (error == error_logged_) return;
    int64_t suppressed;
    if (!error_limiter_.Admit(&suppressed)) return;
    is_recovery_logged_ = false;
    error_logged_ = std::string(error);
    sink_(LogSeverity::kWarning, error);
  }

  // Logs if a failure or nothing was logged before: at most once per logged
  // failure, so at a limited rate.
  void Recovered(absl::string_view what) {
    if (is_recovery_logged_) return;
    is_recovery_logged_ = true;
    lost_logged_.clear();
    error_logged_.clear();
    sink_(LogSeverity::kInfo, what);
  }

 private:
  static constexpr absl::Duration kInterval = absl::Seconds(2);

  const LogSink sink_;
  LogRateLimiter limiter_;
  LogRateLimiter error_limiter_;
  std::string lost_logged_;
  std::string error_logged_;
  bool is_recovery_logged_ = false;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_OUTAGE_LOG_H_
