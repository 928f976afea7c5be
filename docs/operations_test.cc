// Keeps docs/operations.md complete: every number and reason of
// udpgate/proxy_stats.h has a row in it.
#include <cstddef>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace test {
namespace {

std::string FileText(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The part of docs/operations.md from the line `heading` to the next one.
std::string Section(absl::string_view heading) {
  const std::string text = FileText("docs/operations.md");
  const size_t begin = text.find(absl::StrCat("\n", heading, "\n"));
  EXPECT_NE(begin, std::string::npos) << heading;
  if (begin == std::string::npos) return "";
  const size_t end = text.find("\n#", begin + 1);
  return text.substr(begin, end - begin);
}

// Whether a row of a table has `name` in its first cell.
bool HasRow(const std::string& section, absl::string_view name) {
  std::istringstream lines(section);
  std::string line;
  while (std::getline(lines, line)) {
    if (!absl::StartsWith(line, "| `")) continue;
    if (absl::StrContains(line.substr(0, line.find(" | ")),
                          absl::StrCat("`", name, "`"))) {
      return true;
    }
  }
  return false;
}

TEST(OperationsTest, SaysWhatToDoForEveryNumber) {
  const std::string section = Section("## The numbers");
#define UDPGATE_EXPECT_ROW(kind, name, help) \
  EXPECT_TRUE(HasRow(section, #name)) << #name;
  UDPGATE_PROXY_STATS(UDPGATE_EXPECT_ROW)
#undef UDPGATE_EXPECT_ROW
}

TEST(OperationsTest, SaysWhatToDoForEveryReason) {
  const std::string drops = Section("### Drops");
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    const absl::string_view name = DropReasonName(static_cast<DropReason>(i));
    EXPECT_TRUE(HasRow(drops, name)) << name;
  }
  const std::string ends = Section("### Ends of sessions");
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    const absl::string_view name = EndReasonName(static_cast<EndReason>(i));
    EXPECT_TRUE(HasRow(ends, name)) << name;
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate
