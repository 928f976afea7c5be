// SIGTERM and SIGINT as something to wait for, and the promise that they end
// the process within a second, whatever else hangs.
#ifndef UDPGATE_CLI_STOP_SIGNAL_H_
#define UDPGATE_CLI_STOP_SIGNAL_H_

#include <atomic>
#include <functional>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace udpgate {
namespace cli {

// From the first signal on, the process has `grace` to end by itself, start-up
// included; then `_exit(0)` ends it. Where a drain may take time, `grace`
// counts from its end instead: `BeginStop`, the drain's time-out or a second
// signal, whichever comes first.
//
//   StopSignal stop_signal(absl::Milliseconds(900), log);
//   ...                         // may already hang
//   stop_signal.SetDrainTimeout(absl::Minutes(5));
//   stop_signal.Wait();
//   while (IsBusy() && !stop_signal.AwaitStop(absl::Milliseconds(200))) {
//   }
//   stop_signal.BeginStop();
//   ...                         // ends what it began
//
// Construct it while the process has one thread and destroy it last: the
// threads that come later inherit the block of the two signals.
class StopSignal {
 public:
  // `on_overdue` is called right before `_exit` and must not block.
  StopSignal(absl::Duration grace, std::function<void()> on_overdue);
  // Calls the deadline off. The signals stay blocked.
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Returns when one of the signals has come, with its name, or after `Cancel`,
  // and then it is empty. Threads: any.
  absl::string_view Wait();

  // The same, for `timeout` at most; false where it is over. Threads: any.
  bool AwaitSignal(absl::Duration timeout);

  // Whether a signal has come. Threads: any.
  bool HasCome() const { return signal_number_ != 0; }

  // The process has no more reason to wait for a signal, which ends it without
  // a drain from now on. Threads: any.
  void Cancel();

  // How long a drain may take; 0, as at first: there is none. Concerns a first
  // signal that comes later. Threads: any.
  void SetDrainTimeout(absl::Duration timeout);

  // After `Wait`: returns after `timeout` or when the drain must end, and then
  // true. Threads: any.
  bool AwaitStop(absl::Duration timeout);

  // Ends the drain: from now on `grace` counts. Harmless when called twice.
  // Threads: any.
  void BeginStop();

 private:
  void Watch(absl::Duration grace, const std::function<void()>& on_overdue);
  // Returns when the drain is over; false where the process ends already.
  bool WatchDrain();

  int signal_fd_;
  // Events for the watching thread and from it; never read, so that each
  // stays raised.
  int finished_fd_;
  int received_fd_;
  int stopping_fd_;
  std::atomic<int> signal_number_{0};  // set before received_fd_ is raised
  std::atomic<int> drain_timeout_milliseconds_{0};
  std::thread watcher_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_STOP_SIGNAL_H_
