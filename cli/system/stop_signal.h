// Waits for SIGTERM and SIGINT, and guarantees that they end the process within
// a time limit, even if something hangs.
#ifndef UDPGATE_CLI_SYSTEM_STOP_SIGNAL_H_
#define UDPGATE_CLI_SYSTEM_STOP_SIGNAL_H_

#include <atomic>
#include <functional>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace udpgate {
namespace cli {

// After the first signal the process has `grace` to end by itself, even during
// startup; then `_exit(0)` ends it. With a drain, `grace` begins when the drain
// ends: with `BeginStop`, the drain's timeout or a second signal, whichever
// comes first.
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
// Construct it while the process has one thread and destroy it last: later
// threads inherit the blocked signals.
class StopSignal {
 public:
  // `on_overdue` is called right before `_exit` and must not block.
  StopSignal(absl::Duration grace, std::function<void()> on_overdue);
  // Cancels the deadline. The signals stay blocked.
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Returns the name of the signal when one has arrived; empty after `Cancel`.
  // Threads: any.
  absl::string_view Wait();

  // The same, for at most `timeout`; false if that is over. Threads: any.
  bool AwaitSignal(absl::Duration timeout);

  // Whether a signal has arrived. Threads: any.
  bool HasCome() const { return signal_number_ != 0; }

  // Makes `Wait` return. From now on a signal ends the process without a drain.
  // Threads: any.
  void Cancel();

  // How long a drain may take; 0, the initial value: no drain. Applies to a
  // first signal that arrives later. Threads: any.
  void SetDrainTimeout(absl::Duration timeout);

  // After `Wait`: returns true when the drain must end, and false after
  // `timeout`. Threads: any.
  bool AwaitStop(absl::Duration timeout);

  // Ends the drain: `grace` begins now. May be called twice.
  // Threads: any.
  void BeginStop();

 private:
  void Watch(absl::Duration grace, const std::function<void()>& on_overdue);
  // Returns when the drain is over; false if the process is ending already.
  bool WatchDrain();

  int signal_fd_;
  // Events for the watching thread and from it; never read, so that each stays
  // raised.
  int finished_fd_;
  int received_fd_;
  int stopping_fd_;
  std::atomic<int> signal_number_{0};  // set before received_fd_ is raised
  std::atomic<int> drain_timeout_milliseconds_{0};
  std::thread watcher_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SYSTEM_STOP_SIGNAL_H_
