#include "testing/internal/e2e/program.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {

Outcome RunToEnd(GateProcessOptions options) {
  GateProcess gate(GateBinary(), std::move(options));
  Outcome outcome;
  if (absl::Status launched = gate.Launch(); !launched.ok()) {
    outcome.output = std::string(launched.message());
    return outcome;
  }
  absl::StatusOr<ExitResult> result = gate.AwaitExit();
  if (result.ok()) outcome.status = result->status;
  outcome.output = gate.log();
  return outcome;
}

Outcome RunWithFlags(std::vector<std::string> flags) {
  GateProcessOptions options;
  options.flags = std::move(flags);
  return RunToEnd(std::move(options));
}

bool IsInstalled(absl::string_view program) {
  for (const absl::string_view directory : absl::StrSplit(kProgramPath, ':')) {
    if (::access(absl::StrCat(directory, "/", program).c_str(), X_OK) == 0) {
      return true;
    }
  }
  return false;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

int LineCount(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace test
}  // namespace udpgate
