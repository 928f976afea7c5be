// How the envelopes between gateways are sealed: authenticated encryption with
// a key for each sender.
//
// `OpenSslEnvelopeKeys` (//udpgate/forward:openssl) derives the keys from a
// secret that all gateways of a fleet share.
#ifndef UDPGATE_FORWARD_ENVELOPE_KEYS_H_
#define UDPGATE_FORWARD_ENVELOPE_KEYS_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "udpgate/base/export.h"

namespace udpgate {
namespace forward {

// The key of one sender. Threads: one at a time.
class UDPGATE_EXPORT EnvelopeCipher {
 public:
  // What a seal adds to the text.
  static constexpr size_t kTagBytes = 16;

  virtual ~EnvelopeCipher() = default;

  // Encrypts the first `text_bytes` of `buffer` in place, and writes a tag
  // behind them, which covers `header`, too. The buffer has room for it. No
  // counter may be used twice. False if the library fails.
  virtual bool Seal(uint64_t counter, absl::Span<const char> header,
                    size_t text_bytes, absl::Span<char> buffer) = 0;
  // Decrypts `sealed`, text and tag, in place. False if it was not sealed with
  // this key, counter and header; its content is undefined then.
  virtual bool Open(uint64_t counter, absl::Span<const char> header,
                    absl::Span<char> sealed) = 0;
};

// Threads: any.
class UDPGATE_EXPORT EnvelopeKeys {
 public:
  virtual ~EnvelopeKeys() = default;

  // The cipher of a sender. Senders are told apart by random numbers, so that
  // no two share a key. Takes microseconds. Null if the library fails.
  virtual std::unique_ptr<EnvelopeCipher> CipherOf(uint64_t sender_id) = 0;
};

}  // namespace forward
}  // namespace udpgate

#endif  // UDPGATE_FORWARD_ENVELOPE_KEYS_H_
