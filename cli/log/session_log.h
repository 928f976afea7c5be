// SESSION_LOG: session events in the log.
#ifndef UDPGATE_CLI_LOG_SESSION_LOG_H_
#define UDPGATE_CLI_LOG_SESSION_LOG_H_

#include <atomic>
#include <cstdint>

#include "cli/log/log_options.h"
#include "cli/log/logger.h"
#include "udpgate/clock.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace cli {

// Logs each event that `what` selects, with severity info, up to a number of
// lines per second. A later line, or the destructor, reports how many were
// suppressed. Threads: one, and any for `lines_left_out`.
class SessionLogger : public SessionObserver {
 public:
  // `logger` and `clock` must outlive it. `lines_per_second_max` 0: no limit.
  SessionLogger(SessionLog what, int64_t lines_per_second_max,
                const Clock* clock, Logger* logger);
  ~SessionLogger() override { ReportLeftOut(); }
  SessionLogger(const SessionLogger&) = delete;
  SessionLogger& operator=(const SessionLogger&) = delete;

  void Observe(const SessionEvent& event) override;

  // Suppressed lines, in total.
  uint64_t lines_left_out() const {
    return lines_left_out_.load(std::memory_order_relaxed);
  }

 private:
  // Whether one more line is allowed now.
  bool Admit();
  void ReportLeftOut();

  const SessionLog what_;
  const int64_t lines_per_second_max_;
  const Clock* const clock_;
  Logger* const logger_;
  int64_t second_begin_nanoseconds_;
  int64_t lines_in_second_ = 0;
  std::atomic<uint64_t> lines_left_out_{0};
  uint64_t lines_reported_ = 0;  // of the suppressed ones
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_LOG_SESSION_LOG_H_
