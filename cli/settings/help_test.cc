// The texts that list all settings: --help and .env.example.
#include "cli/settings/help.h"

#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cli/settings/dotenv.h"
#include "cli/settings/table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(HelpTextTest, ShowsEverySettingWithItsDefaultUnitAndGroup) {
  const std::string help = HelpText();
  // Line breaks are no matter here.
  const std::string flat = absl::StrJoin(
      absl::StrSplit(help, absl::ByAnyChar(" \n"), absl::SkipEmpty()), " ");
  for (const Setting& setting : SettingTable()) {
    SCOPED_TRACE(setting.variable);
    EXPECT_THAT(help, HasSubstr(absl::StrCat("\n", setting.group, "\n")));
    std::string default_text = setting.default_text;
    if (default_text.empty()) default_text = setting.default_note;
    if (default_text.empty()) default_text = "none";
    const std::string unit =
        setting.unit.empty() ? "" : absl::StrCat("Unit: ", setting.unit, ". ");
    EXPECT_THAT(flat, HasSubstr(absl::StrCat(
                          setting.is_secret ? "(no flag)" : setting.flag(), " ",
                          setting.variable, " ", setting.help,
                          " Default: ", default_text, ". ", unit,
                          "Allowed: ", setting.allowed, ".")));
  }
  EXPECT_THAT(help,
              AllOf(HasSubstr("--check"), HasSubstr("--version"),
                    HasSubstr("--help"), HasSubstr("CPUs - 1, at least 1")));
}

TEST(HelpTextTest, FitsATerminal) {
  for (const absl::string_view line : absl::StrSplit(HelpText(), '\n')) {
    EXPECT_LE(line.size(), 80u) << line;
  }
}

// `.env.example` cannot rot: it has each variable once, with its default.
TEST(DotenvExampleTest, HasEveryVariableWithItsDefault) {
  const auto entries = LoadDotenv(".env.example");
  ASSERT_TRUE(entries.ok()) << entries.status();
  std::set<std::string> seen;
  for (const DotenvEntry& entry : *entries) {
    EXPECT_TRUE(seen.insert(entry.name).second) << entry.name << " comes twice";
    const Setting* setting = FindSetting(entry.name);
    ASSERT_NE(setting, nullptr) << entry.name;
    EXPECT_EQ(entry.value, setting->default_text) << entry.name;
  }
  for (const Setting& setting : SettingTable()) {
    EXPECT_EQ(seen.count(setting.variable), 1u) << setting.variable;
  }
}

TEST(DotenvExampleTest, ExplainsEveryVariable) {
  std::ifstream file(".env.example");
  std::string line;
  std::string previous;
  int variables = 0;
  while (std::getline(file, line)) {
    if (!line.empty() && line[0] != '#') {
      EXPECT_EQ(previous.substr(0, 2), "# ") << "no comment above: " << line;
      ++variables;
    }
    previous = line;
  }
  EXPECT_EQ(variables, static_cast<int>(SettingTable().size()));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
