#include "cli/settings/table_builder.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "cli/settings/parsers.h"

namespace udpgate {
namespace cli {
namespace {

std::string AllowedIntegers(const IntegerRange& range) {
  return absl::StrCat("an integer from ", range.minimum, " to ", range.maximum);
}

// The whole units of a range. A range from 10 ms begins with 1 second.
IntegerRange InUnits(const DurationRange& range, absl::Duration unit) {
  const int64_t least = (range.minimum + unit - absl::Nanoseconds(1)) / unit;
  return {range.option, range.zero_is_never ? 0 : least, range.maximum / unit};
}

}  // namespace

ApplyText InLimitsAsCidrs(CidrList ProxyLimits::*member) {
  return [member](absl::string_view value, Settings* settings) {
    absl::StatusOr<CidrList> cidrs = ParseCidrList(value);
    if (!cidrs.ok()) return false;
    settings->proxy.limits.*member = *std::move(cidrs);
    return true;
  };
}

ApplyText InSettingsAsCidrs(CidrList Settings::*member) {
  return [member](absl::string_view value, Settings* settings) {
    absl::StatusOr<CidrList> cidrs = ParseCidrList(value);
    if (!cidrs.ok()) return false;
    settings->*member = *std::move(cidrs);
    return true;
  };
}

Setting& TableBuilder::Add(std::string variable, std::string default_text,
                           std::string help, std::string allowed,
                           ApplyText apply) {
  Setting setting;
  setting.variable = std::move(variable);
  setting.group = group_;
  setting.is_live = is_live_;
  setting.default_text = std::move(default_text);
  setting.help = std::move(help);
  setting.allowed = std::move(allowed);
  setting.apply = std::move(apply);
  table_.push_back(std::move(setting));
  return table_.back();
}

Setting& TableBuilder::AddInteger(std::string variable,
                                  std::string default_text,
                                  const IntegerRange& range, std::string help,
                                  SetInteger set) {
  auto apply = [range, set = std::move(set)](absl::string_view value,
                                             Settings* settings) {
    int64_t parsed;
    if (!ParseInteger(value, range.minimum, range.maximum, &parsed)) {
      return false;
    }
    set(parsed, settings);
    return true;
  };
  Setting& setting =
      Add(std::move(variable), std::move(default_text), std::move(help),
          AllowedIntegers(range), std::move(apply));
  setting.option = std::string(range.option);
  return setting;
}

Setting& TableBuilder::AddByteCount(std::string variable,
                                    std::string default_text,
                                    const IntegerRange& range, std::string help,
                                    SetInteger set) {
  auto apply = [range, set = std::move(set)](absl::string_view value,
                                             Settings* settings) {
    int64_t parsed;
    if (!ParseByteCount(value, range.minimum, range.maximum, &parsed)) {
      return false;
    }
    set(parsed, settings);
    return true;
  };
  Setting& setting = Add(
      std::move(variable), std::move(default_text), std::move(help),
      absl::StrCat(AllowedIntegers(range), ", or followed by KiB, MiB or GiB"),
      std::move(apply));
  setting.option = std::string(range.option);
  setting.unit = "bytes";
  return setting;
}

Setting& TableBuilder::AddSeconds(std::string variable,
                                  std::string default_text,
                                  const DurationRange& range, std::string help,
                                  SetDuration set) {
  return AddDuration(std::move(variable), std::move(default_text), range,
                     absl::Seconds(1), "seconds", std::move(help),
                     std::move(set));
}

Setting& TableBuilder::AddMilliseconds(std::string variable,
                                       std::string default_text,
                                       const DurationRange& range,
                                       std::string help, SetDuration set) {
  return AddDuration(std::move(variable), std::move(default_text), range,
                     absl::Milliseconds(1), "milliseconds", std::move(help),
                     std::move(set));
}

Setting& TableBuilder::AddText(std::string variable, std::string default_text,
                               size_t bytes_max, std::string help,
                               std::string Settings::*member) {
  auto apply = [bytes_max, member](absl::string_view value,
                                   Settings* settings) {
    if (value.size() > bytes_max) return false;
    settings->*member = std::string(value);
    return true;
  };
  return Add(std::move(variable), std::move(default_text), std::move(help),
             absl::StrCat("at most ", bytes_max, " bytes"), std::move(apply));
}

Setting& TableBuilder::AddDuration(std::string variable,
                                   std::string default_text,
                                   const DurationRange& range,
                                   absl::Duration unit, std::string unit_name,
                                   std::string help, SetDuration set) {
  auto set_units = [unit, set = std::move(set)](int64_t value,
                                                Settings* settings) {
    set(value * unit, settings);
  };
  Setting& setting =
      AddInteger(std::move(variable), std::move(default_text),
                 InUnits(range, unit), std::move(help), std::move(set_units));
  setting.unit = std::move(unit_name);
  return setting;
}

}  // namespace cli
}  // namespace udpgate
