// A seal that keeps nothing secret, for tests: the tag is a sum, or is not
// looked at.
#ifndef UDPGATE_FORWARD_INTERNAL_PLAIN_CIPHER_H_
#define UDPGATE_FORWARD_INTERNAL_PLAIN_CIPHER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "udpgate/forward/envelope_keys.h"

namespace udpgate {
namespace forward {
namespace internal {

class PlainCipher final : public EnvelopeCipher {
 public:
  explicit PlainCipher(bool accepts_all = false) : accepts_all_(accepts_all) {}

  bool Seal(uint64_t counter, absl::Span<const char> header, size_t text_bytes,
            absl::Span<char> buffer) override {
    const absl::Span<char> tag = buffer.subspan(text_bytes, kTagBytes);
    const uint64_t sum = Sum(counter, header, buffer.first(text_bytes));
    for (size_t i = 0; i < tag.size(); ++i) {
      tag[i] = static_cast<char>(sum >> (8 * (i % 8)));
    }
    return true;
  }
  bool Open(uint64_t counter, absl::Span<const char> header,
            absl::Span<char> sealed) override {
    const size_t text_bytes = sealed.size() - kTagBytes;
    const uint64_t sum = Sum(counter, header, sealed.first(text_bytes));
    for (size_t i = 0; i < kTagBytes && !accepts_all_; ++i) {
      if (sealed[text_bytes + i] != static_cast<char>(sum >> (8 * (i % 8)))) {
        return false;
      }
    }
    return true;
  }

 private:
  static uint64_t Sum(uint64_t counter, absl::Span<const char> header,
                      absl::Span<const char> text) {
    uint64_t sum = counter + 1;
    for (const absl::Span<const char> part : {header, text}) {
      for (const char byte : part) {
        sum = (sum ^ static_cast<uint8_t>(byte)) * uint64_t{0x100000001b3};
      }
    }
    return sum;
  }

  const bool accepts_all_;
};

// All senders have the same.
class PlainKeys final : public EnvelopeKeys {
 public:
  std::unique_ptr<EnvelopeCipher> CipherOf(uint64_t /*sender_id*/) override {
    return std::make_unique<PlainCipher>();
  }
};

}  // namespace internal
}  // namespace forward
}  // namespace udpgate

#endif  // UDPGATE_FORWARD_INTERNAL_PLAIN_CIPHER_H_
