#include "udpgate/stun/request_builder.h"

#include "absl/strings/string_view.h"
#include "udpgate/stun/internal/digests.h"
#include "udpgate/stun/internal/wire.h"

namespace udpgate {
namespace stun {
namespace {

using internal::kAttributeHeaderBytes;
using internal::kHeaderBytes;

std::string InFourBytes(uint32_t value) {
  std::string bytes(4, '\0');
  internal::Write32(value, &bytes[0]);
  return bytes;
}

void SetLength(std::string* message) {
  internal::Write16(static_cast<uint16_t>(message->size() - kHeaderBytes),
                    &(*message)[internal::kLengthOffset]);
}

template <typename Digest>
std::string AsText(const Digest& digest, size_t size) {
  return std::string(reinterpret_cast<const char*>(digest.data()), size);
}

}  // namespace

void AppendAttribute(uint16_t type, const std::string& value,
                     std::string* message) {
  std::string header(kAttributeHeaderBytes, '\0');
  internal::Write16(type, &header[0]);
  internal::Write16(static_cast<uint16_t>(value.size()), &header[2]);
  message->append(header);
  message->append(value);
  message->append(internal::Padded(value.size()) - value.size(), '\0');
  SetLength(message);
}

void AppendIntegritySha1(const std::string& password, std::string* message) {
  const size_t begin = message->size();
  const auto digest =
      internal::HmacSha1(password, *message, begin,
                         begin + kAttributeHeaderBytes + internal::kSha1Bytes);
  AppendAttribute(internal::kMessageIntegrity, AsText(digest, digest.size()),
                  message);
}

void AppendIntegritySha256(const std::string& password, size_t value_bytes,
                           std::string* message) {
  const size_t begin = message->size();
  const auto digest = internal::HmacSha256(
      password, *message, begin, begin + kAttributeHeaderBytes + value_bytes);
  AppendAttribute(internal::kMessageIntegritySha256,
                  AsText(digest, value_bytes), message);
}

void AppendFingerprint(std::string* message) {
  const size_t begin = message->size();
  AppendAttribute(internal::kFingerprint, std::string(4, '\0'), message);
  const uint32_t value =
      internal::Fingerprint(absl::string_view(*message).substr(0, begin));
  internal::Write32(value, &(*message)[begin + kAttributeHeaderBytes]);
}

std::string BuildBindingRequest(const BindingRequestOptions& options) {
  std::string message(internal::kTransactionIdOffset, '\0');
  internal::Write16(internal::kBindingRequestType, &message[0]);
  internal::Write32(internal::kMagicCookie, &message[internal::kCookieOffset]);
  message.append(options.transaction_id);
  message.resize(kHeaderBytes, '\0');
  if (!options.username.empty()) {
    AppendAttribute(internal::kUsername, options.username, &message);
  }
  if (options.priority.has_value()) {
    AppendAttribute(internal::kPriority, InFourBytes(*options.priority),
                    &message);
  }
  AppendAttribute(internal::kIceControlling, std::string(8, '\x11'), &message);
  if (options.is_nominating) {
    AppendAttribute(internal::kUseCandidate, "", &message);
  }
  if (options.has_integrity_sha1) {
    AppendIntegritySha1(options.password, &message);
  }
  if (options.has_integrity_sha256) {
    AppendIntegritySha256(options.password, options.integrity_sha256_bytes,
                          &message);
  }
  if (options.has_fingerprint) AppendFingerprint(&message);
  return message;
}

}  // namespace stun
}  // namespace udpgate
