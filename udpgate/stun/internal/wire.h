// The STUN message format (RFC 8489 sections 5 and 14).
#ifndef UDPGATE_STUN_INTERNAL_WIRE_H_
#define UDPGATE_STUN_INTERNAL_WIRE_H_

#include <cstddef>
#include <cstdint>

namespace udpgate {
namespace stun {
namespace internal {

inline constexpr size_t kHeaderBytes = 20;
inline constexpr size_t kAttributeHeaderBytes = 4;
inline constexpr size_t kLengthOffset = 2;
inline constexpr size_t kCookieOffset = 4;
inline constexpr size_t kTransactionIdOffset = 8;

inline constexpr uint16_t kBindingRequestType = 0x0001;
inline constexpr uint16_t kBindingIndicationType = 0x0011;
inline constexpr uint16_t kBindingResponseType = 0x0101;
inline constexpr uint16_t kBindingErrorType = 0x0111;
inline constexpr uint32_t kMagicCookie = 0x2112a442;

// Attributes (RFC 8489 section 18.3, RFC 8445 section 16.1).
inline constexpr uint16_t kUsername = 0x0006;
inline constexpr uint16_t kMessageIntegrity = 0x0008;
inline constexpr uint16_t kMessageIntegritySha256 = 0x001c;
inline constexpr uint16_t kPriority = 0x0024;
inline constexpr uint16_t kUseCandidate = 0x0025;
inline constexpr uint16_t kFingerprint = 0x8028;
inline constexpr uint16_t kIceControlling = 0x802a;

inline constexpr size_t kSha1Bytes = 20;
// MESSAGE-INTEGRITY-SHA256 may be truncated (RFC 8489 section 14.6).
inline constexpr size_t kSha256BytesMin = 16;
inline constexpr size_t kSha256Bytes = 32;

// The CRC-32 of a FINGERPRINT is combined with this (RFC 8489 section 14.7).
inline constexpr uint32_t kFingerprintMask = 0x5354554e;

inline uint16_t Read16(const char* bytes) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[0]) << 8 |
                               static_cast<uint8_t>(bytes[1]));
}
inline uint32_t Read32(const char* bytes) {
  return static_cast<uint32_t>(Read16(bytes)) << 16 | Read16(bytes + 2);
}
inline void Write16(uint16_t value, char* bytes) {
  bytes[0] = static_cast<char>(value >> 8);
  bytes[1] = static_cast<char>(value & 0xff);
}
inline void Write32(uint32_t value, char* bytes) {
  Write16(static_cast<uint16_t>(value >> 16), bytes);
  Write16(static_cast<uint16_t>(value & 0xffff), bytes + 2);
}

// The bytes of a value with its padding.
inline size_t Padded(size_t bytes) { return (bytes + 3) & ~size_t{3}; }

}  // namespace internal
}  // namespace stun
}  // namespace udpgate

#endif  // UDPGATE_STUN_INTERNAL_WIRE_H_
