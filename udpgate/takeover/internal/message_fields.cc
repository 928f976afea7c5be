#include "udpgate/takeover/internal/message_fields.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace takeover {
namespace internal {

using nlohmann::json;

absl::Status InvalidMessage(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("invalid message of the other process: ", what));
}

bool ReadAddress(const json& value, SocketAddress* out) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  *out = SocketAddress();
  if (text.empty()) return true;
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  if (address.ok()) *out = *address;
  return address.ok();
}

json WriteAddress(const SocketAddress& address) {
  return address.is_valid() ? address.ToString() : std::string();
}

absl::StatusOr<uint64_t> ReadNumber(const json& message, const char* name) {
  uint64_t number = 0;
  const auto found = message.find(name);
  if (found == message.end() || !ReadInteger(*found, &number)) {
    return InvalidMessage(absl::StrCat("no number \"", name, "\""));
  }
  return number;
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
