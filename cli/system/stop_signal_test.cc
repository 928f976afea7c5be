#include "cli/system/stop_signal.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

// Each runs in a process of its own: a signal is a matter of the process.

void WaitForSignal(int signal_number, const char* name) {
  StopSignal stop_signal(absl::Minutes(1), [] {});
  kill(getpid(), signal_number);
  if (stop_signal.Wait() != name) std::exit(1);
  if (stop_signal.Wait() != name) std::exit(2);  // it stays so
}

TEST(StopSignalDeathTest, WaitsForEitherSignal) {
  EXPECT_EXIT(
      {
        WaitForSignal(SIGTERM, "SIGTERM");
        std::exit(7);
      },
      ::testing::ExitedWithCode(7), "");
  EXPECT_EXIT(
      {
        WaitForSignal(SIGINT, "SIGINT");
        std::exit(7);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(StopSignalDeathTest, EndsAProcessThatHangs) {
  EXPECT_EXIT(
      {
        StopSignal stop_signal(absl::Milliseconds(20),
                               [] { std::fputs("overdue\n", stderr); });
        kill(getpid(), SIGTERM);
        kill(getpid(), SIGTERM);
        while (true) pause();
      },
      ::testing::ExitedWithCode(0), "overdue");
}

TEST(StopSignalDeathTest, WithoutSignalItEndsAtOnce) {
  EXPECT_EXIT(
      {
        {
          StopSignal stop_signal(absl::Milliseconds(1), [] { abort(); });
        }
        std::exit(7);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(StopSignalDeathTest, ProcessThatEndsInTimeIsLeftAlone) {
  EXPECT_EXIT(
      {
        {
          StopSignal stop_signal(absl::Minutes(1), [] { abort(); });
          kill(getpid(), SIGTERM);
          stop_signal.Wait();
        }
        std::exit(7);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(StopSignalDeathTest, ADrainHasItsTimeAndThenTheGrace) {
  EXPECT_EXIT(
      {
        // Long enough for a busy machine to see the one before the other.
        StopSignal stop_signal(absl::Milliseconds(300),
                               [] { std::fputs("overdue", stderr); });
        stop_signal.SetDrainTimeout(absl::Milliseconds(500));
        kill(getpid(), SIGTERM);
        stop_signal.Wait();
        if (stop_signal.AwaitStop(absl::ZeroDuration())) std::exit(1);
        if (!stop_signal.AwaitStop(absl::Minutes(1))) std::exit(2);
        std::fputs("stopping, ", stderr);
        while (true) pause();
      },
      ::testing::ExitedWithCode(0), "stopping, overdue");
}

TEST(StopSignalDeathTest, ASecondSignalEndsTheDrain) {
  EXPECT_EXIT(
      {
        StopSignal stop_signal(absl::Minutes(1), [] { abort(); });
        stop_signal.SetDrainTimeout(absl::Hours(24));
        kill(getpid(), SIGTERM);
        stop_signal.Wait();
        if (stop_signal.AwaitStop(absl::ZeroDuration())) std::exit(1);
        kill(getpid(), SIGINT);
        if (!stop_signal.AwaitStop(absl::Minutes(1))) std::exit(2);
        std::exit(stop_signal.Wait() == "SIGTERM" ? 7 : 3);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(StopSignalDeathTest, ACancelledWaitEndsWithoutASignal) {
  EXPECT_EXIT(
      {
        StopSignal stop_signal(absl::Minutes(1), [] { abort(); });
        if (stop_signal.HasCome()) std::exit(1);
        stop_signal.Cancel();
        if (!stop_signal.Wait().empty()) std::exit(2);
        if (stop_signal.HasCome()) std::exit(3);
        kill(getpid(), SIGTERM);
        // It ends without a drain.
        std::exit(stop_signal.AwaitStop(absl::Minutes(1)) ? 7 : 4);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(StopSignalDeathTest, TheGraceCountsFromTheStop) {
  EXPECT_EXIT(
      {
        StopSignal stop_signal(absl::Milliseconds(1),
                               [] { std::fputs("overdue", stderr); });
        stop_signal.SetDrainTimeout(absl::Hours(24));
        kill(getpid(), SIGTERM);
        stop_signal.Wait();
        stop_signal.BeginStop();
        stop_signal.BeginStop();
        while (true) pause();
      },
      ::testing::ExitedWithCode(0), "overdue");
}

TEST(StopSignalDeathTest, ProcessMayEndWhileItDrains) {
  EXPECT_EXIT(
      {
        {
          StopSignal stop_signal(absl::ZeroDuration(), [] { abort(); });
          stop_signal.SetDrainTimeout(absl::Hours(24));
          kill(getpid(), SIGTERM);
          stop_signal.Wait();
        }
        std::exit(7);
      },
      ::testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
