// The log lines about the loss and the recovery of one connection.
#ifndef UDPGATE_REDIS_INTERNAL_OUTAGE_LOG_H_
#define UDPGATE_REDIS_INTERNAL_OUTAGE_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"
#include "udpgate/redis/redis_outage_log.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {
namespace redis {
namespace internal {

// Threads: one.
class OutageLog {
 public:
  static constexpr int64_t kNever = RedisOutageLog::kNever;

  // `subject` is "Redis ADDRESS", `name` that of the connection. `clock` must
  // outlive the log. `shared`: that of all connections, or null.
  OutageLog(const Clock* clock, LogSink sink,
            std::shared_ptr<RedisOutageLog> shared, absl::string_view subject,
            absl::string_view name)
      : prefix_(absl::StrCat(subject, " (", name, "): ")),
        sink_(std::move(sink)),
        shared_(std::move(shared)),
        number_(shared_ == nullptr ? 0 : shared_->Add(subject, name)),
        limiter_(clock, kInterval),
        error_limiter_(clock, kInterval) {}
  ~OutageLog() {
    if (shared_ != nullptr) shared_->Remove(number_);
  }
  OutageLog(const OutageLog&) = delete;
  OutageLog& operator=(const OutageLog&) = delete;

  // Logs once per outage, and again if the reason changes. `why` begins with
  // the prefix.
  void Lost(absl::string_view why, RedisProblem problem) {
    if (shared_ != nullptr) {
      shared_->Lost(number_, problem, absl::StripPrefix(why, prefix_));
      return;
    }
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
    if (shared_ != nullptr) {
      const bool was_refused = !error_logged_.empty();
      error_logged_.clear();
      if (was_refused) sink_(LogSeverity::kInfo, absl::StrCat(prefix_, what));
      shared_->Recovered(number_, what);
      return;
    }
    if (is_recovery_logged_) return;
    is_recovery_logged_ = true;
    lost_logged_.clear();
    error_logged_.clear();
    sink_(LogSeverity::kInfo, absl::StrCat(prefix_, what));
  }

  // Returns when to call it again.
  int64_t Flush() { return shared_ == nullptr ? kNever : shared_->Flush(); }

 private:
  static constexpr absl::Duration kInterval = absl::Seconds(2);

  const std::string prefix_;
  const LogSink sink_;
  const std::shared_ptr<RedisOutageLog> shared_;
  const size_t number_;
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
