// STUN Binding requests, as ICE agents send them to check a path (RFC 8489, RFC
// 8445 section 7): what a gateway needs to find out whose they are, and whether
// the sender knows the password.
//
//   absl::optional<stun::BindingRequest> request =
//       stun::ParseBindingRequest(datagram);
//   if (request && stun::VerifyIntegrity(datagram, *request, password)) ...
//
// Nothing here allocates memory. Threads: any.
#ifndef UDPGATE_STUN_BINDING_REQUEST_H_
#define UDPGATE_STUN_BINDING_REQUEST_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/base/export.h"

namespace udpgate {
namespace stun {

// True if the datagram begins as a STUN message does: two bits of zero, and the
// magic cookie (RFC 8489 section 5). It may be cut off behind them.
UDPGATE_EXPORT bool IsStun(absl::Span<const char> datagram);
// The same for a Binding request. `ParseBindingRequest` may still refuse it.
UDPGATE_EXPORT bool IsBindingRequest(absl::Span<const char> datagram);
// The same for a Binding response, of success or error, or indication.
UDPGATE_EXPORT bool IsBindingReply(absl::Span<const char> datagram);

// True if the first byte is one of DTLS (20 to 63, RFC 7983 section 7).
UDPGATE_EXPORT bool IsDtls(absl::Span<const char> datagram);

// The views refer to the datagram.
struct UDPGATE_EXPORT BindingRequest {
  // Empty if the request has none.
  absl::string_view username;
  // The parts of the user name before and behind the first colon: the ufrag of
  // who receives the request, then that of who sends it (RFC 8445 section
  // 7.2.2). Both are empty if there is no colon.
  absl::string_view local_ufrag;
  absl::string_view remote_ufrag;
  // The priority that the sender gives its local candidate.
  absl::optional<uint32_t> priority;
  bool has_integrity_sha1 = false;
  bool has_integrity_sha256 = false;
  bool has_fingerprint = false;

  // Where the integrity attributes begin, and the bytes of the SHA-256 one's
  // value, for `VerifyIntegrity`.
  size_t integrity_sha1_offset = 0;
  size_t integrity_sha256_offset = 0;
  size_t integrity_sha256_bytes = 0;
};

// Returns nullopt if the datagram is no Binding request, or a malformed one:
// its length field or an attribute's is wrong, or the FINGERPRINT is wrong or
// not the last attribute. Of an attribute that is there twice the first one
// counts (RFC 8489 section 14). What follows MESSAGE-INTEGRITY is ignored,
// except for MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (section 14.5).
UDPGATE_EXPORT absl::optional<BindingRequest> ParseBindingRequest(
    absl::Span<const char> datagram);

// True if the request has MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 or both,
// and all that it has are right under this password (the short-term credential
// of RFC 8489 section 9.1). `request` is what `ParseBindingRequest` made of
// `datagram`. Takes below a microsecond.
UDPGATE_EXPORT bool VerifyIntegrity(absl::Span<const char> datagram,
                                    const BindingRequest& request,
                                    absl::string_view password);

}  // namespace stun
}  // namespace udpgate

#endif  // UDPGATE_STUN_BINDING_REQUEST_H_
