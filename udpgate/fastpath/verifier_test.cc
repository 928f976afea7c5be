// The running kernel accepts the program.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/fastpath/program.h"

namespace udpgate {
namespace fastpath {
namespace {

TEST(Verifier, AcceptsTheProgram) {
  std::string log;
  absl::StatusOr<std::unique_ptr<Program>> program = Program::Load(1000, &log);
  if (!program.ok()) std::cerr << log << "\n";
  UDPGATE_NEEDS_RIGHTS(program.status());
  EXPECT_TRUE(absl::StrContains(log, "processed ")) << log;
  // The last lines are the kernel's statistics.
  std::cout << log.substr(log.rfind("verification time")) << "\n";
}

TEST(Verifier, RefusesATableOfNoSession) {
  EXPECT_EQ(Program::Load(0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
