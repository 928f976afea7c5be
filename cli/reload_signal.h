// SIGHUP as a call.
#ifndef UDPGATE_CLI_RELOAD_SIGNAL_H_
#define UDPGATE_CLI_RELOAD_SIGNAL_H_

#include <functional>
#include <thread>

namespace udpgate {
namespace cli {

// Keeps SIGHUP from ending the process; it waits for a `ReloadSignal`. While
// the process has one thread.
void BlockReloadSignal();

// Calls back for each SIGHUP, from a thread of its own.
class ReloadSignal {
 public:
  explicit ReloadSignal(std::function<void()> on_signal);
  // Waits for the call under way.
  ~ReloadSignal();
  ReloadSignal(const ReloadSignal&) = delete;
  ReloadSignal& operator=(const ReloadSignal&) = delete;

 private:
  void Run(const std::function<void()>& on_signal);

  int signal_fd_;
  int finished_fd_;
  std::thread thread_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_RELOAD_SIGNAL_H_
