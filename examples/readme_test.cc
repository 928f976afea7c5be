// Keeps README.md in step with what it describes: the settings of
// .env.example, the reasons of udpgate/proxy_stats.h, and the code it shows.
#include <cstddef>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
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

// The lines of `text` without their indentation.
std::vector<std::string> Lines(absl::string_view text) {
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    lines.emplace_back(absl::StripAsciiWhitespace(line));
  }
  return lines;
}

struct ExampleSetting {
  std::string variable;
  std::string value;
};

// The lines `NAME=value` and `# NAME=value` of .env.example.
std::vector<ExampleSetting> ExampleSettings() {
  std::vector<ExampleSetting> settings;
  for (const std::string& line : Lines(FileText(".env.example"))) {
    const std::string text(
        absl::StripAsciiWhitespace(absl::StripPrefix(line, "#")));
    const size_t name_end =
        text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (name_end == std::string::npos || name_end == 0) continue;
    if (text[name_end] != '=') continue;
    settings.push_back({text.substr(0, name_end), text.substr(name_end + 1)});
  }
  return settings;
}

// The rows of README's settings table, split into cells.
std::vector<std::vector<std::string>> SettingRows() {
  std::vector<std::vector<std::string>> rows;
  bool in_table = false;
  for (const std::string& line : Lines(FileText("README.md"))) {
    if (absl::StartsWith(line, "| Variable |")) in_table = true;
    if (line.empty()) in_table = false;
    if (in_table && absl::StartsWith(line, "| `")) {
      rows.push_back(absl::StrSplit(line, " | "));
    }
  }
  return rows;
}

TEST(ReadmeTest, SettingsTableHasEveryVariableOfTheExample) {
  std::set<std::string> in_example, in_readme;
  for (const ExampleSetting& setting : ExampleSettings()) {
    in_example.insert(absl::StrCat("| `", setting.variable, "`"));
  }
  for (const auto& row : SettingRows()) in_readme.insert(row[0]);
  EXPECT_EQ(in_readme, in_example);
  EXPECT_GT(in_readme.size(), 20u);
}

TEST(ReadmeTest, SettingsTableNamesFlagsAfterTheirVariables) {
  for (const auto& row : SettingRows()) {
    ASSERT_EQ(row.size(), 5u) << row[0];
    const std::string flag =
        row[0] == "| `REDIS_PASSWORD`" || row[0] == "| `ADMIN_TOKEN`"
            ? "none"
            : absl::StrCat("`--", absl::AsciiStrToLower(absl::StrReplaceAll(
                                      row[0].substr(3), {{"_", "-"}})));
    EXPECT_EQ(row[1], flag);
  }
}

TEST(ReadmeTest, SettingsTableHasTheDefaultsOfTheExample) {
  const auto rows = SettingRows();
  for (const ExampleSetting& setting : ExampleSettings()) {
    // Its default depends on the machine, and the example leaves it empty.
    if (setting.variable == "WORKER_COUNT") continue;
    for (const auto& row : rows) {
      if (row[0] != absl::StrCat("| `", setting.variable, "`")) continue;
      EXPECT_EQ(row[2], setting.value.empty()
                            ? "empty"
                            : absl::StrCat("`", setting.value, "`"))
          << setting.variable;
    }
  }
}

TEST(ReadmeTest, ReasonTablesAreThoseOfTheStatistics) {
  std::vector<std::string> drops, ends;
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    const auto reason = static_cast<DropReason>(i);
    drops.push_back(absl::StrCat("| `", DropReasonName(reason), "` | ",
                                 DropReasonHelp(reason), " |"));
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    const auto reason = static_cast<EndReason>(i);
    ends.push_back(absl::StrCat("| `", EndReasonName(reason), "` | ",
                                EndReasonHelp(reason), " |"));
  }
  const std::string readme = FileText("README.md");
  for (const auto& table : {drops, ends}) {
    const std::string expected =
        absl::StrCat("|---|---|\n", absl::StrJoin(table, "\n"), "\n\n");
    EXPECT_TRUE(absl::StrContains(readme, expected))
        << "README.md lacks this table:\n"
        << expected;
  }
}

TEST(ReadmeTest, CodeBlocksArePartOfTheFilesTheyName) {
  int block_count = 0;
  const std::vector<std::string> lines = Lines(FileText("README.md"));
  for (size_t i = 0; i + 1 < lines.size(); ++i) {
    if (lines[i] != "```cpp" && lines[i] != "```starlark") continue;
    const std::vector<std::string> heading = absl::StrSplit(lines[++i], ' ');
    ASSERT_EQ(heading.size(), 2u) << lines[i] << ": should name a file";
    std::vector<std::string> block;
    for (++i; i < lines.size() && lines[i] != "```"; ++i) {
      block.push_back(lines[i]);
    }
    const std::string file = absl::StrJoin(Lines(FileText(heading[1])), "\n");
    EXPECT_TRUE(absl::StrContains(file, absl::StrJoin(block, "\n")))
        << heading[1] << " does not contain:\n"
        << absl::StrJoin(block, "\n");
    ++block_count;
  }
  EXPECT_EQ(block_count, 3);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
