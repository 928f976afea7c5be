// The keys to read for a client, as templates:
//
//   udp_gate:backend:{client_ip} udp_gate:backend
#ifndef UDPGATE_REDIS_KEY_TEMPLATES_H_
#define UDPGATE_REDIS_KEY_TEMPLATES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"

namespace udpgate {

// One or several keys, separated by white space, in the order in which they are
// tried. Placeholders:
//   {client_ip}    the client's IP address: `1.2.3.4`, `2001:db8::7`
//   {client_net}   its network: `1.2.3.0/24`, `2001:db8::/64`
//   {client_port}  its UDP port
//   {listen_port}  the gateway's port that it sent to
//   {stun_ufrag}   the receiver's ufrag: what stands before the colon in the
//                  USERNAME of a STUN Binding request (RFC 8445 section 7.2.2),
//                  if it is of 4 to 256 ice-chars (RFC 8839 section 5.4)
//   {prefix:N}     the first N bytes of the first datagram, as 2N hexadecimal
//                  digits; N is 1 to `kPrefixBytesMax`
// `{{` and `}}` are braces. What a client sends fills in no other characters
// than letters, digits, `+` and `/`, so it cannot look like another part of the
// key.
//
// Threads: all const methods from any.
class UDPGATE_EXPORT KeyTemplates {
 public:
  static constexpr size_t kKeysMax = 8;
  static constexpr size_t kPrefixBytesMax = 64;
  // Of a key that is filled in. A longer one is skipped.
  static constexpr size_t kKeyBytesMax = 1024;

  // No keys.
  KeyTemplates() = default;

  // InvalidArgument says what is wrong, in one line.
  static absl::StatusOr<KeyTemplates> Parse(absl::string_view text);

  // There are no placeholders: the keys are the same for all clients.
  bool is_constant() const;

  // The keys for a client. A key with a placeholder that `request` cannot fill
  // is left out, so there may be none.
  std::vector<std::string> Fill(const ResolveRequest& request) const;

 private:
  enum class Kind : uint8_t {
    kText,
    kClientIp,
    kClientNet,
    kClientPort,
    kListenPort,
    kStunUfrag,
    kPrefix,
  };
  struct Part {
    Kind kind;
    std::string text;         // of kText
    size_t prefix_bytes = 0;  // of kPrefix
  };
  using Template = std::vector<Part>;

  static absl::StatusOr<Template> ParseKey(absl::string_view text);
  static absl::StatusOr<Part> ParsePlaceholder(absl::string_view name);
  // Returns false if the part cannot be filled.
  static bool AppendPart(const Part& part, const ResolveRequest& request,
                         std::string* key);

  std::vector<Template> keys_;
};

// For texts: `key "a"`, or `keys "a", "b"`, escaped.
UDPGATE_EXPORT std::string DescribeKeys(const std::vector<std::string>& keys);

}  // namespace udpgate

#endif  // UDPGATE_REDIS_KEY_TEMPLATES_H_
