// Reads single values of a takeover message. Nothing is trusted: a value of
// another type, or out of range, is refused.
#ifndef UDPGATE_TAKEOVER_INTERNAL_MESSAGE_FIELDS_H_
#define UDPGATE_TAKEOVER_INTERNAL_MESSAGE_FIELDS_H_

#include <cstdint>
#include <limits>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace takeover {
namespace internal {

// InvalidArgument: the other process sent a message that is wrong; `what` says
// how.
absl::Status InvalidMessage(absl::string_view what);

// An integer that `T` can hold. False for anything else; `out` is unchanged
// then.
template <typename T>
bool ReadInteger(const nlohmann::json& value, T* out) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<T>::max())) {
      return false;
    }
    *out = static_cast<T>(number);
    return true;
  }
  // MessagePack stores only negative numbers as signed ones.
  const int64_t number = value.get<int64_t>();
  if (std::is_unsigned_v<T> ||
      number < static_cast<int64_t>(std::numeric_limits<T>::min())) {
    return false;
  }
  *out = static_cast<T>(number);
  return true;
}

// An address as text; empty text is no address. False for anything else.
bool ReadAddress(const nlohmann::json& value, SocketAddress* out);
nlohmann::json WriteAddress(const SocketAddress& address);

// The unsigned number `name` of a message; InvalidArgument if it is missing or
// of another type.
absl::StatusOr<uint64_t> ReadNumber(const nlohmann::json& message,
                                    const char* name);

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_MESSAGE_FIELDS_H_
