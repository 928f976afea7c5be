#include "udpgate/stun/binding_request.h"

#include "udpgate/stun/internal/digests.h"
#include "udpgate/stun/internal/wire.h"

namespace udpgate {
namespace stun {
namespace {

using internal::kAttributeHeaderBytes;
using internal::kHeaderBytes;
using internal::Padded;
using internal::Read16;
using internal::Read32;

// RFC 5389 section 15.3. RFC 8489 allows 508, but ICE ufrags may have 256
// characters each (RFC 8839 section 5.4).
constexpr size_t kUsernameBytesMax = 513;

constexpr uint8_t kDtlsFirst = 20;
constexpr uint8_t kDtlsLast = 63;

struct Attribute {
  uint16_t type;
  size_t offset;
  absl::string_view value;
};

absl::string_view AsText(absl::Span<const char> datagram) {
  return absl::string_view(datagram.data(), datagram.size());
}

void SetUsername(absl::string_view username, BindingRequest* request) {
  request->username = username;
  const size_t colon = username.find(':');
  if (colon == absl::string_view::npos) return;
  request->local_ufrag = username.substr(0, colon);
  request->remote_ufrag = username.substr(colon + 1);
}

// Takes the attributes of one message, in their order.
class AttributeReader {
 public:
  AttributeReader(absl::string_view message, BindingRequest* request)
      : message_(message), request_(request) {}

  // False if the message is malformed.
  bool Take(const Attribute& attribute) {
    if (request_->has_fingerprint) return false;  // it must be the last one
    switch (attribute.type) {
      case internal::kFingerprint:
        return TakeFingerprint(attribute);
      case internal::kMessageIntegrity:
        return TakeSha1(attribute);
      case internal::kMessageIntegritySha256:
        return TakeSha256(attribute);
      default:
        return HasIntegrity() || TakeProtected(attribute);
    }
  }

 private:
  bool HasIntegrity() const {
    return request_->has_integrity_sha1 || request_->has_integrity_sha256;
  }

  bool TakeFingerprint(const Attribute& attribute) {
    request_->has_fingerprint = true;
    return attribute.value.size() == sizeof(uint32_t) &&
           Read32(attribute.value.data()) ==
               internal::Fingerprint(message_.substr(0, attribute.offset));
  }

  bool TakeSha1(const Attribute& attribute) {
    if (HasIntegrity()) return true;
    request_->has_integrity_sha1 = true;
    request_->integrity_sha1_offset = attribute.offset;
    return attribute.value.size() == internal::kSha1Bytes;
  }

  bool TakeSha256(const Attribute& attribute) {
    if (request_->has_integrity_sha256) return true;
    const size_t size = attribute.value.size();
    request_->has_integrity_sha256 = true;
    request_->integrity_sha256_offset = attribute.offset;
    request_->integrity_sha256_bytes = size;
    return size >= internal::kSha256BytesMin &&
           size <= internal::kSha256Bytes && size % 4 == 0;
  }

  bool TakeProtected(const Attribute& attribute) {
    if (attribute.type == internal::kUsername) {
      if (has_username_) return true;
      has_username_ = true;
      SetUsername(attribute.value, request_);
      return attribute.value.size() <= kUsernameBytesMax;
    }
    if (attribute.type == internal::kPriority) {
      if (request_->priority.has_value()) return true;
      if (attribute.value.size() != sizeof(uint32_t)) return false;
      request_->priority = Read32(attribute.value.data());
    }
    return true;
  }

  const absl::string_view message_;
  BindingRequest* const request_;
  bool has_username_ = false;
};

}  // namespace

bool IsStun(absl::Span<const char> datagram) {
  return datagram.size() >= internal::kTransactionIdOffset &&
         (static_cast<uint8_t>(datagram[0]) & 0xc0) == 0 &&
         Read32(datagram.data() + internal::kCookieOffset) ==
             internal::kMagicCookie;
}

bool IsBindingRequest(absl::Span<const char> datagram) {
  return IsStun(datagram) &&
         Read16(datagram.data()) == internal::kBindingRequestType;
}

bool IsBindingReply(absl::Span<const char> datagram) {
  if (!IsStun(datagram)) return false;
  const uint16_t type = Read16(datagram.data());
  return type == internal::kBindingIndicationType ||
         type == internal::kBindingResponseType ||
         type == internal::kBindingErrorType;
}

bool IsDtls(absl::Span<const char> datagram) {
  if (datagram.empty()) return false;
  const uint8_t first = static_cast<uint8_t>(datagram[0]);
  return first >= kDtlsFirst && first <= kDtlsLast;
}

absl::optional<BindingRequest> ParseBindingRequest(
    absl::Span<const char> datagram) {
  const absl::string_view message = AsText(datagram);
  if (message.size() < kHeaderBytes || !IsBindingRequest(datagram) ||
      message.size() % 4 != 0 ||
      Read16(message.data() + internal::kLengthOffset) !=
          message.size() - kHeaderBytes) {
    return absl::nullopt;
  }
  BindingRequest request;
  AttributeReader reader(message, &request);
  size_t offset = kHeaderBytes;
  while (offset < message.size()) {
    // Both are multiples of four, so there is room for the header.
    const size_t value_bytes = Read16(message.data() + offset + 2);
    const size_t left = message.size() - offset - kAttributeHeaderBytes;
    if (value_bytes > left) return absl::nullopt;
    const Attribute attribute = {
        Read16(message.data() + offset), offset,
        message.substr(offset + kAttributeHeaderBytes, value_bytes)};
    if (!reader.Take(attribute)) return absl::nullopt;
    offset += kAttributeHeaderBytes + Padded(value_bytes);
  }
  return request;
}

bool VerifyIntegrity(absl::Span<const char> datagram,
                     const BindingRequest& request,
                     absl::string_view password) {
  const absl::string_view message = AsText(datagram);
  if (!request.has_integrity_sha1 && !request.has_integrity_sha256) {
    return false;
  }
  if (request.has_integrity_sha1) {
    const size_t begin = request.integrity_sha1_offset;
    const size_t value = begin + kAttributeHeaderBytes;
    if (!internal::EqualDigests(internal::HmacSha1(password, message, begin,
                                                   value + internal::kSha1Bytes)
                                    .data(),
                                message.data() + value, internal::kSha1Bytes)) {
      return false;
    }
  }
  if (request.has_integrity_sha256) {
    const size_t begin = request.integrity_sha256_offset;
    const size_t value = begin + kAttributeHeaderBytes;
    const size_t size = request.integrity_sha256_bytes;
    if (!internal::EqualDigests(
            internal::HmacSha256(password, message, begin, value + size).data(),
            message.data() + value, size)) {
      return false;
    }
  }
  return true;
}

}  // namespace stun
}  // namespace udpgate
