// Builds STUN Binding requests as an ICE agent does, for tests and benchmarks.
//
//   stun::BindingRequestOptions options;
//   options.username = "answerUfrag:offerUfrag";
//   options.password = "the answer's ice-pwd";
//   client.Send(gateway, stun::BuildBindingRequest(options));
#ifndef UDPGATE_STUN_REQUEST_BUILDER_H_
#define UDPGATE_STUN_REQUEST_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/types/optional.h"

namespace udpgate {
namespace stun {

struct BindingRequestOptions {
  // Empty: no USERNAME.
  std::string username;
  // Of the integrity attributes.
  std::string password;
  // Exactly 12 bytes.
  std::string transaction_id = "transaction1";
  // RFC 8445 section 5.1.2: type preference 110 (peer-reflexive).
  absl::optional<uint32_t> priority = 0x6e0001ff;
  bool is_nominating = false;  // USE-CANDIDATE
  bool has_integrity_sha1 = true;
  bool has_integrity_sha256 = false;
  // 16 to 32, a multiple of 4.
  size_t integrity_sha256_bytes = 32;
  bool has_fingerprint = true;
};

std::string BuildBindingRequest(const BindingRequestOptions& options);

// For malformed requests: appends an attribute with its padding, and sets the
// length field of the message.
void AppendAttribute(uint16_t type, const std::string& value,
                     std::string* message);
// Appends a right MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 or FINGERPRINT.
void AppendIntegritySha1(const std::string& password, std::string* message);
void AppendIntegritySha256(const std::string& password, size_t value_bytes,
                           std::string* message);
void AppendFingerprint(std::string* message);

}  // namespace stun
}  // namespace udpgate

#endif  // UDPGATE_STUN_REQUEST_BUILDER_H_
