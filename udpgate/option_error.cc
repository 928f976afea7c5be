#include "udpgate/option_error.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"

namespace udpgate {
namespace {

// absl::Status asks for a unique name of each kind of payload.
constexpr char kPayloadType[] = "udpgate/option";

}  // namespace

absl::Status IntegerRange::Check(int64_t value) const {
  if (value >= minimum && value <= maximum) return absl::OkStatus();
  return OptionError(
      absl::StatusCode::kInvalidArgument, option,
      absl::StrCat(" is ", value, "; allowed are ", minimum, " to ", maximum));
}

absl::Status DurationRange::Check(absl::Duration value) const {
  if (value >= minimum && value <= maximum) return absl::OkStatus();
  if (zero_is_never && value == absl::ZeroDuration()) return absl::OkStatus();
  return OptionError(
      absl::StatusCode::kInvalidArgument, option,
      absl::StrCat(" is ", absl::FormatDuration(value), "; allowed are ",
                   zero_is_never ? "0 and " : "", absl::FormatDuration(minimum),
                   " to ", absl::FormatDuration(maximum)));
}

absl::Status OptionError(absl::StatusCode code, absl::string_view option,
                         absl::string_view problem) {
  absl::Status status(code, absl::StrCat(option, problem));
  status.SetPayload(kPayloadType, absl::Cord(option));
  return status;
}

std::string OptionAtFault(const absl::Status& status) {
  const absl::optional<absl::Cord> option = status.GetPayload(kPayloadType);
  return option.has_value() ? std::string(*option) : std::string();
}

std::string OptionProblem(const absl::Status& status) {
  return std::string(status.message().substr(OptionAtFault(status).size()));
}

}  // namespace udpgate
