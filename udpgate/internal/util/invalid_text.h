// One form for the errors of all parsers.
#ifndef UDPGATE_INTERNAL_UTIL_INVALID_TEXT_H_
#define UDPGATE_INTERNAL_UTIL_INVALID_TEXT_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace internal {

// InvalidArgument: `"text" why`. One line, and bounded, since the
// text may come from anyone: quotes its first 80 bytes, escaped.
inline absl::Status InvalidText(absl::string_view text, absl::string_view why) {
  constexpr size_t kQuotedBytesMax = 80;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::CHexEscape(text.substr(0, kQuotedBytesMax)),
                   text.size() > kQuotedBytesMax ? "...\" " : "\" ", why));
}

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UTIL_INVALID_TEXT_H_
