// The service manager, systemd: what it is told (sd_notify(3)) and the sockets
// that it gives (sd_listen_fds(3)). All of it does nothing where the process
// was not started by one.
#ifndef UDPGATE_CLI_SERVICE_MANAGER_H_
#define UDPGATE_CLI_SERVICE_MANAGER_H_

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

// The sockets of a `.socket` unit, the caller's from now on; none where there
// are none. Once, while the process has one thread: it clears the variables
// that name them.
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
// Threads: one at a time. Reads the environment, so nobody may change it.
class ServiceManager {
 public:
  ServiceManager();
  // Stops the watchdog.
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // The start waits for something, for `time_max` at most: the service manager
  // waits that long even if its own limit is shorter.
  void NotifyWaiting(absl::string_view status, absl::Duration time_max);
  // `status` is what `systemctl status` shows, one line.
  void NotifyReady(absl::string_view status);
  // Likewise, where this process has taken over from the unit's main process:
  // it is that from now on. Waits until the service manager knows it, for a few
  // seconds at most; the other process must not end before.
  void NotifyTakenOver(absl::string_view status);
  // The stop begins. `stop_time_max` is how long it may take; the service
  // manager waits that long even if its own limit is shorter.
  void NotifyStopping(absl::string_view status, absl::Duration stop_time_max);

  // Where WatchdogSec= is set: asks `is_alive` twice in that time, on a thread
  // of its own, and passes each "yes" on. `is_alive` gets the time that it may
  // take. ResourceExhausted where there is no thread.
  absl::Status StartWatchdog(
      std::function<bool(absl::Duration within)> is_alive);
  // Waits for a call of `is_alive`. Harmless when called twice.
  void StopWatchdog();

 private:
  void FeedWatchdog(absl::Duration interval,
                    const std::function<bool(absl::Duration)>& is_alive);

  int stopping_fd_;
  std::thread watchdog_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SERVICE_MANAGER_H_
