// The SHA functions of OpenSSL that work on a structure of the caller are
// deprecated. Those that replace them (EVP_MAC, EVP_MD_CTX) allocate memory for
// each message, even if the context is used again: OpenSSL 3.0 does so twice in
// an HMAC, and five times with EVP_MAC.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "udpgate/stun/internal/digests.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <cstring>

namespace udpgate {
namespace stun {
namespace internal {
namespace {

struct Sha1 {
  using Digest = Sha1Digest;
  Sha1() { SHA1_Init(&context); }
  void Add(const void* data, size_t size) { SHA1_Update(&context, data, size); }
  Digest Take() {
    Digest digest;
    SHA1_Final(digest.data(), &context);
    return digest;
  }
  SHA_CTX context;
};

struct Sha256 {
  using Digest = Sha256Digest;
  Sha256() { SHA256_Init(&context); }
  void Add(const void* data, size_t size) {
    SHA256_Update(&context, data, size);
  }
  Digest Take() {
    Digest digest;
    SHA256_Final(digest.data(), &context);
    return digest;
  }
  SHA256_CTX context;
};

// Of both functions.
constexpr size_t kBlockBytes = 64;

template <typename Sha>
typename Sha::Digest Hmac(absl::string_view key, absl::string_view message,
                          size_t covered_bytes, size_t end_bytes) {
  std::array<uint8_t, kBlockBytes> block{};
  if (key.size() > kBlockBytes) {
    Sha of_key;
    of_key.Add(key.data(), key.size());
    const typename Sha::Digest digest = of_key.Take();
    std::memcpy(block.data(), digest.data(), digest.size());
  } else if (!key.empty()) {
    std::memcpy(block.data(), key.data(), key.size());
  }
  for (uint8_t& byte : block) byte ^= 0x36;
  Sha inner;
  inner.Add(block.data(), block.size());
  std::array<char, kHeaderBytes> header;
  std::memcpy(header.data(), message.data(), header.size());
  Write16(static_cast<uint16_t>(end_bytes - kHeaderBytes),
          header.data() + kLengthOffset);
  inner.Add(header.data(), header.size());
  inner.Add(message.data() + kHeaderBytes, covered_bytes - kHeaderBytes);
  const typename Sha::Digest inner_digest = inner.Take();

  for (uint8_t& byte : block) byte ^= 0x36 ^ 0x5c;
  Sha outer;
  outer.Add(block.data(), block.size());
  outer.Add(inner_digest.data(), inner_digest.size());
  return outer.Take();
}

// The reflected polynomial of CRC-32 (ISO 3309, ITU-T V.42).
constexpr uint32_t kPolynomial = 0xedb88320;

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder =
          (remainder & 1) != 0 ? remainder >> 1 ^ kPolynomial : remainder >> 1;
    }
    table[byte] = remainder;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

}  // namespace

Sha1Digest HmacSha1(absl::string_view key, absl::string_view message,
                    size_t covered_bytes, size_t end_bytes) {
  return Hmac<Sha1>(key, message, covered_bytes, end_bytes);
}

Sha256Digest HmacSha256(absl::string_view key, absl::string_view message,
                        size_t covered_bytes, size_t end_bytes) {
  return Hmac<Sha256>(key, message, covered_bytes, end_bytes);
}

bool EqualDigests(const void* a, const void* b, size_t size) {
  return CRYPTO_memcmp(a, b, size) == 0;
}

uint32_t Fingerprint(absl::string_view covered) {
  uint32_t crc = 0xffffffff;
  for (const char c : covered) {
    crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  }
  return ~crc ^ kFingerprintMask;
}

}  // namespace internal
}  // namespace stun
}  // namespace udpgate
