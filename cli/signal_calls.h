// Signals as calls.
#ifndef UDPGATE_CLI_SIGNAL_CALLS_H_
#define UDPGATE_CLI_SIGNAL_CALLS_H_

#include <functional>
#include <map>
#include <thread>

namespace udpgate {
namespace cli {

// Keeps these signals from ending the process; they wait for a `SignalCalls`.
// While the process has one thread.
void BlockCalledSignals();  // SIGHUP and SIGUSR2

// Makes the call of each signal that comes, one after the other, from a thread
// of its own.
class SignalCalls {
 public:
  // By signal; those of BlockCalledSignals.
  explicit SignalCalls(std::map<int, std::function<void()>> calls);
  // Waits for the call under way.
  ~SignalCalls();
  SignalCalls(const SignalCalls&) = delete;
  SignalCalls& operator=(const SignalCalls&) = delete;

 private:
  void Run();

  const std::map<int, std::function<void()>> calls_;
  int signal_fd_;
  int finished_fd_;
  std::thread thread_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SIGNAL_CALLS_H_
