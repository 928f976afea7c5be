#include "cli/settings/table.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "cli/settings/table_builder.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace cli {
namespace {

std::vector<Setting> BuildTable() {
  TableBuilder table;
  AddTrafficSettings(&table);
  AddProgramSettings(&table);
  return table.Build();
}

}  // namespace

std::string Setting::flag() const {
  return absl::StrCat(
      "--", absl::StrReplaceAll(absl::AsciiStrToLower(variable), {{"_", "-"}}));
}

absl::Span<const Setting> SettingTable() {
  static const auto* const kTable = new std::vector<Setting>(BuildTable());
  return *kTable;
}

const Setting* FindSetting(absl::string_view variable) {
  for (const Setting& setting : SettingTable()) {
    if (setting.variable == variable) return &setting;
  }
  return nullptr;
}

absl::Status NameSetting(const absl::Status& status) {
  const std::string option = OptionAtFault(status);
  if (option.empty()) return status;
  for (const Setting& setting : SettingTable()) {
    if (setting.option != option) continue;
    return absl::Status(status.code(),
                        absl::StrCat(setting.variable, OptionProblem(status)));
  }
  return status;
}

}  // namespace cli
}  // namespace udpgate
