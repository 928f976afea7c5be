// Calls a function for each signal.
#ifndef UDPGATE_CLI_SYSTEM_SIGNAL_CALLS_H_
#define UDPGATE_CLI_SYSTEM_SIGNAL_CALLS_H_

#include <functional>
#include <map>
#include <thread>

namespace udpgate {
namespace cli {

// Blocks these signals until a `SignalCalls` handles them. Call it while the
// process has one thread.
void BlockCalledSignals();  // SIGHUP and SIGUSR2

// Calls the function of each signal that arrives, one after the other, on a
// thread of its own.
class SignalCalls {
 public:
  // By signal; only those of BlockCalledSignals.
  explicit SignalCalls(std::map<int, std::function<void()>> calls);
  // Waits for a running call.
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

#endif  // UDPGATE_CLI_SYSTEM_SIGNAL_CALLS_H_
