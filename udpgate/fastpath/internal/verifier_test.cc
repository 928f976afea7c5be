// The running kernel accepts the program.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "udpgate/fastpath/internal/program.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

TEST(VerifierTest, AcceptsTheProgram) {
  std::string log;
  absl::StatusOr<std::unique_ptr<Program>> program = Program::Load(1000, &log);
  if (!program.ok()) std::cerr << log << "\n";
  UDPGATE_NEEDS_RIGHTS(program.status());
  EXPECT_TRUE(absl::StrContains(log, "processed ")) << log;
  // The last lines are the kernel's statistics.
  std::cout << log.substr(log.rfind("verification time")) << "\n";
}

TEST(ProgramLoadTest, RejectsZeroSessions) {
  EXPECT_EQ(Program::Load(0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ProgramLoadTest, NamesTheMissingCapabilities) {
  absl::Status status;
  // Capabilities belong to a thread (capabilities(7)).
  std::thread([&status] {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    ASSERT_EQ(::syscall(SYS_capset, &header, none), 0);
    status = Program::Load(1000).status();
  }).join();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(absl::StrContains(status.message(),
                                "the process needs CAP_BPF and CAP_NET_ADMIN"))
      << status;
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
