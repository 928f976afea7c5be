// SESSION_LOG: what the log says of sessions.
#ifndef UDPGATE_CLI_SESSION_LOG_H_
#define UDPGATE_CLI_SESSION_LOG_H_

#include <atomic>
#include <cstdint>

#include "cli/logger.h"
#include "cli/settings.h"
#include "udpgate/clock.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace cli {

// Writes a line for each event that `what` names, of severity info, and no more
// than so many in a second; a later line, or one at the end, says how many were
// left out. Threads: one, and any for `lines_left_out`.
class SessionLogger : public SessionObserver {
 public:
  // `logger` and `clock` must outlive it. `lines_per_second_max` 0: any number.
  SessionLogger(SessionLog what, int64_t lines_per_second_max,
                const Clock* clock, Logger* logger);
  ~SessionLogger() override { ReportLeftOut(); }
  SessionLogger(const SessionLogger&) = delete;
  SessionLogger& operator=(const SessionLogger&) = delete;

  void Observe(const SessionEvent& event) override;

  // Lines beyond the limit, since the beginning.
  uint64_t lines_left_out() const {
    return lines_left_out_.load(std::memory_order_relaxed);
  }

 private:
  // Whether there may be one more line now.
  bool Admit();
  void ReportLeftOut();

  const SessionLog what_;
  const int64_t lines_per_second_max_;
  const Clock* const clock_;
  Logger* const logger_;
  int64_t second_begin_nanoseconds_;
  int64_t lines_in_second_ = 0;
  std::atomic<uint64_t> lines_left_out_{0};
  uint64_t lines_reported_ = 0;  // of those that were left out
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SESSION_LOG_H_
