// Runs the program until it ends by itself, and reads what it shows of itself;
// what other programs there are.
#ifndef UDPGATE_TESTING_INTERNAL_E2E_PROGRAM_H_
#define UDPGATE_TESTING_INTERNAL_E2E_PROGRAM_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "testing/internal/support/gate_process.h"

namespace udpgate {
namespace test {

struct Outcome {
  int status = -1;
  std::string output;
};

// With the binary of `GateBinary()`. Status -1 if it cannot be started or does
// not end in time.
Outcome RunToEnd(GateProcessOptions options);
Outcome RunWithFlags(std::vector<std::string> flags);

// Where programs of Debian's packages are.
inline constexpr char kProgramPath[] = "/usr/sbin:/usr/bin:/sbin:/bin";
bool IsInstalled(absl::string_view program);

std::string ReadFile(const std::string& path);
int LineCount(const std::string& text);

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_PROGRAM_H_
