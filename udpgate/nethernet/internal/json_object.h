#ifndef UDPGATE_NETHERNET_INTERNAL_JSON_OBJECT_H_
#define UDPGATE_NETHERNET_INTERNAL_JSON_OBJECT_H_

#include "absl/strings/string_view.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Whether `text` is one JSON object (RFC 8259 section 4). Threads: any.
bool IsJsonObject(absl::string_view text);

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JSON_OBJECT_H_
