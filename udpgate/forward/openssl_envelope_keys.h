// Seals envelopes with AES-256-GCM (NIST SP 800-38D). The keys are derived from
// a shared secret by HKDF-SHA256 (RFC 5869).
//
//   auto keys = udpgate::forward::OpenSslEnvelopeKeys::FromFile(path);
//   if (!keys.ok()) return keys.status();
#ifndef UDPGATE_FORWARD_OPENSSL_ENVELOPE_KEYS_H_
#define UDPGATE_FORWARD_OPENSSL_ENVELOPE_KEYS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"
#include "udpgate/forward/envelope_keys.h"

namespace udpgate {
namespace forward {

// Threads: any.
class UDPGATE_EXPORT OpenSslEnvelopeKeys final : public EnvelopeKeys {
 public:
  // What a secret must have at least, so that nobody can guess it: 32 random
  // characters, for example of `openssl rand -base64 32`.
  static constexpr size_t kSecretBytesMin = 32;
  static constexpr size_t kSecretBytesMax = 1024;

  // InvalidArgument if the secret is too short or too long. No error shows any
  // of it.
  static absl::StatusOr<std::shared_ptr<EnvelopeKeys>> FromSecret(
      absl::string_view secret);
  // The secret is the content of a file, without white space at its ends.
  // NotFound or PermissionDenied if it cannot be read; and as above.
  static absl::StatusOr<std::shared_ptr<EnvelopeKeys>> FromFile(
      const std::string& path);

  // Erases the secret.
  ~OpenSslEnvelopeKeys() override;

  std::unique_ptr<EnvelopeCipher> CipherOf(uint64_t sender_id) override;

 private:
  explicit OpenSslEnvelopeKeys(absl::string_view secret) : secret_(secret) {}

  std::string secret_;
};

}  // namespace forward
}  // namespace udpgate

#endif  // UDPGATE_FORWARD_OPENSSL_ENVELOPE_KEYS_H_
