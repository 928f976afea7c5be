// The checksums of STUN messages. Nothing here allocates memory.
//
// Threads: any.
#ifndef UDPGATE_STUN_INTERNAL_DIGESTS_H_
#define UDPGATE_STUN_INTERNAL_DIGESTS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "udpgate/stun/internal/wire.h"

namespace udpgate {
namespace stun {
namespace internal {

using Sha1Digest = std::array<uint8_t, kSha1Bytes>;
using Sha256Digest = std::array<uint8_t, kSha256Bytes>;

// The HMAC (RFC 2104) of the first `covered_bytes` of a message, whose length
// field is read as if the message ended after `end_bytes`: with the integrity
// attribute itself (RFC 8489 section 14.5). `covered_bytes` is at least
// `kHeaderBytes`.
Sha1Digest HmacSha1(absl::string_view key, absl::string_view message,
                    size_t covered_bytes, size_t end_bytes);
Sha256Digest HmacSha256(absl::string_view key, absl::string_view message,
                        size_t covered_bytes, size_t end_bytes);

// True if the first `size` bytes are the same. Takes the same time whichever
// byte differs.
bool EqualDigests(const void* a, const void* b, size_t size);

// The value of a FINGERPRINT after these bytes (RFC 8489 section 14.7); the
// length field counts the attribute already.
uint32_t Fingerprint(absl::string_view covered);

}  // namespace internal
}  // namespace stun
}  // namespace udpgate

#endif  // UDPGATE_STUN_INTERNAL_DIGESTS_H_
