// Notifies the service manager, systemd (sd_notify(3)), and takes its sockets
// (sd_listen_fds(3)). Does nothing if the process was not started by one.
#ifndef UDPGATE_CLI_SYSTEM_SERVICE_MANAGER_H_
#define UDPGATE_CLI_SYSTEM_SERVICE_MANAGER_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace udpgate {
namespace cli {

// The sockets of a `.socket` unit, if any; the caller owns them. Once, while
// the process has one thread: it clears the variables that name them.
absl::StatusOr<std::vector<int>> TakeActivationSockets();

//   ServiceManager service_manager;
//   ...                                       // starts
//   service_manager.StartWatchdog([&](absl::Duration within) {
//     return proxy->IsAlive(within);
//   });
//   service_manager.NotifyReady("listening on 0.0.0.0:19132");
//   ...
//   service_manager.NotifyStopping("draining", absl::Minutes(5));
//
// Threads: one at a time. Reads the environment, which must not change.
class ServiceManager {
 public:
  ServiceManager();
  // Stops the watchdog.
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // Startup waits for something, for at most `time_max`: the service manager
  // waits that long even if its own limit is shorter.
  void NotifyWaiting(absl::string_view status, absl::Duration time_max);
  // `status` is what `systemctl status` shows, one line.
  void NotifyReady(absl::string_view status);
  // The same after a takeover from the unit's main process: this process
  // becomes the main process. Waits until the service manager knows it, for at
  // most a few seconds; the old process must not end earlier.
  void NotifyTakenOver(absl::string_view status);
  // Shutdown begins. `stop_time_max` is how long it may take; the service
  // manager waits that long even if its own limit is shorter.
  void NotifyStopping(absl::string_view status, absl::Duration stop_time_max);

  // If WatchdogSec= is set: calls `is_alive` twice in that time, on a thread of
  // its own, and reports each success. `is_alive` gets the time that it may
  // take. ResourceExhausted if no thread can be created.
  absl::Status StartWatchdog(
      std::function<bool(absl::Duration within)> is_alive);
  // Waits for a running call of `is_alive`. May be called twice.
  void StopWatchdog();

 private:
  void FeedWatchdog(absl::Duration interval,
                    const std::function<bool(absl::Duration)>& is_alive);

  int stopping_fd_;
  std::thread watchdog_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SYSTEM_SERVICE_MANAGER_H_
