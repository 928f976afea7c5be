// Ranges of options, and errors that carry the name of the option at fault as
// data, so that a program can report its own name for it.
//
//   absl::Status status = options.Validate();
//   OptionAtFault(status)   // "listener_count"
//   OptionProblem(status)   // " is 65; allowed are 1 to 64"
//   status.message()        // both
//
// Threads: any.
#ifndef UDPGATE_OPTION_ERROR_H_
#define UDPGATE_OPTION_ERROR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"

namespace udpgate {

// The allowed values of an integer option, both ends included, and its name.
struct UDPGATE_EXPORT IntegerRange {
  absl::string_view option;
  int64_t minimum;
  int64_t maximum;

  // InvalidArgument names the option, the value and what is allowed.
  absl::Status Check(int64_t value) const;
};

// The same for a time.
struct UDPGATE_EXPORT DurationRange {
  absl::string_view option;
  absl::Duration minimum;
  absl::Duration maximum;
  // Zero is allowed as well, and means never.
  bool zero_is_never = false;

  absl::Status Check(absl::Duration value) const;
};

// An error whose text is `option` followed by `problem`.
UDPGATE_EXPORT absl::Status OptionError(absl::StatusCode code,
                                        absl::string_view option,
                                        absl::string_view problem);

// The option that an error of the library is about; empty if it is about none,
// or if the error was rewritten on its way.
UDPGATE_EXPORT std::string OptionAtFault(const absl::Status& status);

// The text of an error behind the name of its option; all of it if it is about
// none.
UDPGATE_EXPORT std::string OptionProblem(const absl::Status& status);

}  // namespace udpgate

#endif  // UDPGATE_OPTION_ERROR_H_
