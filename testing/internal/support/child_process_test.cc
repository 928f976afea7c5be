#include "testing/internal/support/child_process.h"

#include <signal.h>

#include <cstdio>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

std::unique_ptr<ChildProcess> Shell(const std::string& script,
                                    ChildProcessOptions options = {}) {
  options.arguments = {"/bin/sh", "-c", script};
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Start(options);
  EXPECT_TRUE(child.ok()) << child.status();
  return *std::move(child);
}

TEST(ChildProcessTest, CapturesBothOutputsAndTheStatus) {
  std::unique_ptr<ChildProcess> child = Shell("echo one; echo two >&2; exit 3");
  absl::StatusOr<ExitResult> result = child->AwaitExit();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->exited_with(3));
  EXPECT_EQ(result->signal, 0);
  EXPECT_EQ(child->output(), "one\ntwo\n");
  EXPECT_FALSE(child->running());
}

TEST(ChildProcessTest, AwaitsOutput) {
  std::unique_ptr<ChildProcess> child =
      Shell("echo ready; read line; exec cat");
  EXPECT_TRUE(child->AwaitOutput("ready"));
  EXPECT_FALSE(child->AwaitOutput("never", absl::Milliseconds(1)));
  child->AwaitExit().IgnoreError();
  EXPECT_FALSE(child->AwaitOutput("never"));  // at once: it has ended
}

TEST(ChildProcessTest, TellsWhichSignalEndedIt) {
  std::unique_ptr<ChildProcess> child = Shell("exec sleep 1000");
  EXPECT_TRUE(child->running());
  EXPECT_EQ(child->AwaitExit(absl::Milliseconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  absl::StatusOr<ExitResult> result = child->SignalAndAwaitExit(SIGTERM);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->signal, SIGTERM);
  EXPECT_EQ(result->status, -1);
}

TEST(ChildProcessTest, DoesNotWaitForAProcessThatItLeavesBehind) {
  std::unique_ptr<ChildProcess> child =
      Shell("sleep 1000 & echo \"left $!.\"; exit 3");
  absl::StatusOr<ExitResult> result = child->AwaitExit();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->exited_with(3));
  int left = 0;
  const std::string output = child->output();
  ASSERT_EQ(std::sscanf(output.c_str(), "left %d.", &left), 1) << output;
  child.reset();
  EXPECT_EQ(::kill(left, SIGKILL), 0);
}

TEST(ChildProcessTest, HoldsTheOutput) {
  std::unique_ptr<ChildProcess> child =
      Shell("trap 'echo stuck; exit 0' TERM; echo ready; while :; do :; done");
  ASSERT_TRUE(child->AwaitOutput("ready"));
  child->HoldOutput();
  // The shell waits for room in the pipe.
  EXPECT_FALSE(
      child->SignalAndAwaitExit(SIGTERM, absl::Milliseconds(100)).ok());
  EXPECT_FALSE(child->AwaitOutput("stuck", absl::Milliseconds(1)));
}

TEST(ChildProcessTest, InheritsNothing) {
  TemporaryDirectory directory;
  ::setenv("UDPGATE_CHILD_PROCESS_TEST", "inherited", 1);
  ChildProcessOptions options;
  options.environment = {{"GIVEN", "value"}};
  options.working_directory = directory.path();
  options.open_files_soft_max = 50;
  options.open_files_hard_max = 60;
  std::unique_ptr<ChildProcess> child = Shell(
      "echo \"$GIVEN,$UDPGATE_CHILD_PROCESS_TEST,$PWD,$(ulimit -Sn),"
      "$(ulimit -Hn)\"",
      options);
  ASSERT_TRUE(child->AwaitExit().ok());
  EXPECT_EQ(child->output(), "value,," + directory.path() + ",50,60\n");
}

TEST(ChildProcessTest, AProgramThatDoesNotExistIsAnError) {
  ChildProcessOptions options;
  options.arguments = {"/no/such/program"};
  EXPECT_FALSE(ChildProcess::Start(options).ok());
  options.arguments = {"no-such-program"};
  EXPECT_FALSE(ChildProcess::Start(options).ok());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
