// STANDBY: serves while this machine has the addresses, and waits otherwise.
#ifndef UDPGATE_CLI_STANDBY_SWITCH_H_
#define UDPGATE_CLI_STANDBY_SWITCH_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "cli/log/logger.h"
#include "udpgate/clock.h"
#include "udpgate/host_metric.h"

namespace udpgate {
namespace cli {

struct StandbySwitchOptions {
  // Called on the thread of the switch. `promote` may return before clients are
  // served; `is_standby` tells when they are.
  std::function<void()> promote;
  std::function<void()> demote;
  std::function<bool()> is_standby;
  // Called after either, once that is what holds. May be null.
  std::function<void()> on_change;
  // For the log: the addresses.
  std::string addresses;
  // The log says so if a promotion takes longer.
  absl::Duration promotion_warning = absl::Seconds(2);
  const Clock* clock = Clock::Monotonic();
};

// Threads: any; one of its own.
class StandbySwitch {
 public:
  struct Stats {
    uint64_t promotions = 0;
    uint64_t demotions = 0;
    // Of the last promotion: from the address until clients were served.
    absl::Duration promotion_time;
  };

  // `logger` must outlive it.
  StandbySwitch(StandbySwitchOptions options, Logger* logger);
  // Returns after a running call has returned. Promotes and demotes nothing.
  ~StandbySwitch();
  StandbySwitch(const StandbySwitch&) = delete;
  StandbySwitch& operator=(const StandbySwitch&) = delete;

  // Whether the addresses are here, which was noticed at this moment of the
  // clock. Does not wait. Of several reports that come while one is handled,
  // the last one counts.
  void SetAddresses(bool are_here, int64_t noticed_nanoseconds);

  Stats GetStats() const;

 private:
  struct Report {
    bool are_here;
    int64_t noticed_nanoseconds;
  };

  void Run();
  void Handle(const Report& report);
  // The promotion in progress: looks whether it is complete.
  void Look();

  const StandbySwitchOptions options_;
  Logger* const logger_;

  // Of the thread.
  absl::optional<bool> are_here_;
  absl::optional<int64_t>
      promoted_from_nanoseconds_;  // until clients are served
  bool has_warned_ = false;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  absl::optional<Report> report_;
  bool is_stopping_ = false;
  Stats stats_;

  std::thread thread_;
};

// For /metrics.
std::vector<HostMetric> StandbyMetrics(const StandbySwitch::Stats& stats);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_STANDBY_SWITCH_H_
