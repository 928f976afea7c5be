#include "cli/system/signal_calls.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <future>

#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

// In a process of its own: a signal is a matter of the process.

void CountCalls() {
  BlockCalledSignals();
  kill(getpid(), SIGHUP);  // early: waits
  std::promise<void> first, second, other;
  int call_count = 0;
  {
    SignalCalls calls(
        {{SIGHUP, [&] { (++call_count == 1 ? first : second).set_value(); }},
         {SIGUSR2, [&] { other.set_value(); }}});
    first.get_future().wait();
    kill(getpid(), SIGUSR2);
    other.get_future().wait();
    kill(getpid(), SIGHUP);
    second.get_future().wait();
  }
  std::exit(call_count == 2 ? 7 : 1);
}

TEST(SignalCallsTest, EachSignalIsItsCallAndNoneIsLost) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(CountCalls(), ::testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
