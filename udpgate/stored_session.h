// The text form of a `StoredSession`, for stores that keep text. One line:
//
//   1 TOKEN GATEWAY SINCE CLIENT LOCAL BACKEND RELAY LABEL TAG_KEY TAG_TEXT
//
// The first field is the version. TOKEN is 32 hex digits at a fixed place, so
// that a store can compare it without parsing the rest. SINCE is in
// milliseconds since 1970. Bytes other than printable ASCII, and `%`, are
// escaped as `%` and two hex digits; `-` is an empty field.
#ifndef UDPGATE_STORED_SESSION_H_
#define UDPGATE_STORED_SESSION_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"
#include "udpgate/session_store.h"

namespace udpgate {

// Of a whole record.
inline constexpr size_t kStoredSessionBytesMax = 400;
// Of `StoredSession::gateway_id` and of `GatewayLease::gateway_id`.
inline constexpr size_t kGatewayIdBytesMax = 64;
// Where the token begins, and its length.
inline constexpr size_t kSessionTokenOffset = 2;
inline constexpr size_t kSessionTokenDigits = 32;

// The 32 hex digits of a token: the run, then the session.
UDPGATE_EXPORT std::string SessionTokenText(const SessionToken& token);

// At most `kStoredSessionBytesMax` bytes. If the record is longer, the key of
// the tag is left out, then its text, then the label. The gateway id must have
// 1 to `kGatewayIdBytesMax` printable ASCII characters without spaces.
UDPGATE_EXPORT std::string EncodeStoredSession(const StoredSession& session);

// Accepts what `EncodeStoredSession` writes, and nothing that a `Proxy` cannot
// use: client, local address and backend must name one host and a port, the
// client and the local address must be of one family, and so must backend and
// relay, which may be empty. InvalidArgument names what is wrong; Unimplemented
// if the record has another version.
UDPGATE_EXPORT absl::StatusOr<StoredSession> DecodeStoredSession(
    absl::string_view text);

// OK if a `Proxy` can use the session, see `DecodeStoredSession`; for stores
// that keep other forms. InvalidArgument names what is wrong.
UDPGATE_EXPORT absl::Status ValidateStoredSession(const StoredSession& session);

}  // namespace udpgate

#endif  // UDPGATE_STORED_SESSION_H_
