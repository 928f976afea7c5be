#include "cli/system/new_process.h"

#include <stdlib.h>

#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(NewProcessTest, KeepsTheFlags) {
  EXPECT_THAT(NewProcessArguments({"--proxy-addr", ":1", "--"}, "/s"),
              ElementsAre("--takeover", "/s", "--proxy-addr", ":1", "--"));
  // The new process can be replaced in turn.
  EXPECT_THAT(NewProcessArguments({"--takeover", "/old", "--check"}, "/s"),
              ElementsAre("--takeover", "/s", "--check"));
  EXPECT_THAT(
      NewProcessArguments({"--takeover=/old", "--takeover-socket=/x"}, "/s"),
      ElementsAre("--takeover", "/s", "--takeover-socket=/x"));
}

TEST(NewProcessTest, KeepsTheEnvironmentWithoutWhatIsForThisProcess) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/environment";
  setenv("WATCHDOG_PID", "1", 1);
  setenv("WATCHDOG_USEC", "2", 1);
  setenv("LISTEN_FDS", "3", 1);
  const absl::StatusOr<pid_t> process = StartNewProcess(
      "sh",
      {"-c", absl::StrCat("env > ", path, ".new; mv ", path, ".new ", path)});
  ASSERT_TRUE(process.ok()) << process.status();
  ASSERT_TRUE(test::AwaitTrue([&] { return !ReadFile(path).empty(); }));
  const std::string environment = ReadFile(path);
  EXPECT_THAT(environment, HasSubstr("WATCHDOG_USEC=2\n"));
  EXPECT_FALSE(absl::StrContains(environment, "WATCHDOG_PID")) << environment;
  EXPECT_FALSE(absl::StrContains(environment, "LISTEN_FDS")) << environment;
}

TEST(NewProcessTest, NamesAMissingProgram) {
  const absl::Status status = StartNewProcess("/no/such/program", {}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/program"));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
