// Builds the rows of the settings table. Internal to this folder: table.h has
// the table.
#ifndef UDPGATE_CLI_SETTINGS_TABLE_BUILDER_H_
#define UDPGATE_CLI_SETTINGS_TABLE_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cli/settings/settings.h"
#include "cli/settings/table.h"
#include "udpgate/cidr.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace cli {

// Of the settings that name a file.
inline constexpr size_t kPathBytesMax = 1024;

// What every list of prefixes allows.
inline constexpr char kAllowedCidrs[] =
    "up to 1024 IP addresses or prefixes such as 10.0.0.0/8 and 2001:db8::/32, "
    "separated by commas, with no bits set after the prefix";

using SetInteger = std::function<void(int64_t value, Settings* settings)>;
using SetDuration = std::function<void(absl::Duration value, Settings*)>;
using ApplyText = std::function<bool(absl::string_view value, Settings*)>;

// The field that a row sets.
template <typename Integer>
SetInteger InProxy(Integer ProxyOptions::*member) {
  return [member](int64_t value, Settings* settings) {
    settings->proxy.*member = static_cast<Integer>(value);
  };
}

template <typename Integer>
SetInteger InLimits(Integer ProxyLimits::*member) {
  return [member](int64_t value, Settings* settings) {
    settings->proxy.limits.*member = static_cast<Integer>(value);
  };
}

inline SetDuration InLimits(absl::Duration ProxyLimits::*member) {
  return [member](absl::Duration value, Settings* settings) {
    settings->proxy.limits.*member = value;
  };
}

template <typename Integer>
SetInteger InSettings(Integer Settings::*member) {
  return [member](int64_t value, Settings* settings) {
    settings->*member = static_cast<Integer>(value);
  };
}

inline SetDuration InSettings(absl::Duration Settings::*member) {
  return [member](absl::Duration value, Settings* settings) {
    settings->*member = value;
  };
}

inline SetDuration InProxy(absl::Duration ProxyOptions::*member) {
  return [member](absl::Duration value, Settings* settings) {
    settings->proxy.*member = value;
  };
}

ApplyText InLimitsAsCidrs(CidrList ProxyLimits::*member);
ApplyText InSettingsAsCidrs(CidrList Settings::*member);

// Builds the table group by group.
class TableBuilder {
 public:
  // The settings that follow; `is_live` applies to all of them.
  void Group(std::string group, bool is_live = false) {
    group_ = std::move(group);
    is_live_ = is_live;
  }

  Setting& Add(std::string variable, std::string default_text, std::string help,
               std::string allowed, ApplyText apply);
  Setting& AddInteger(std::string variable, std::string default_text,
                      const IntegerRange& range, std::string help,
                      SetInteger set);
  // An integer, or an integer followed by KiB, MiB or GiB.
  Setting& AddByteCount(std::string variable, std::string default_text,
                        const IntegerRange& range, std::string help,
                        SetInteger set);
  Setting& AddSeconds(std::string variable, std::string default_text,
                      const DurationRange& range, std::string help,
                      SetDuration set);
  Setting& AddMilliseconds(std::string variable, std::string default_text,
                           const DurationRange& range, std::string help,
                           SetDuration set);
  Setting& AddText(std::string variable, std::string default_text,
                   size_t bytes_max, std::string help,
                   std::string Settings::*member);

  std::vector<Setting> Build() { return std::move(table_); }

 private:
  // An integer, in units.
  Setting& AddDuration(std::string variable, std::string default_text,
                       const DurationRange& range, absl::Duration unit,
                       std::string unit_name, std::string help,
                       SetDuration set);

  std::string group_;
  bool is_live_ = false;
  std::vector<Setting> table_;
};

// The groups, in their order in the table.
void AddTrafficSettings(TableBuilder* table);
void AddProgramSettings(TableBuilder* table);
// Part of AddProgramSettings.
void AddFleetSettings(TableBuilder* table);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_TABLE_BUILDER_H_
