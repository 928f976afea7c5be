// Records of sessions in a store, which whoever may write there can forge.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace test {
namespace {

// A field of text that did not fit is left out.
bool IsSameOrLeftOut(absl::string_view text, absl::string_view again) {
  return text == again || again.empty();
}

void RequireIsReadAsWritten(const StoredSession& session) {
  const std::string text = EncodeStoredSession(session);
  Require(text.size() <= kStoredSessionBytesMax, "a record is short");
  Require(absl::string_view(text).substr(kSessionTokenOffset,
                                         kSessionTokenDigits) ==
              SessionTokenText(session.token),
          "the token has its place");
  const absl::StatusOr<StoredSession> again = DecodeStoredSession(text);
  Require(again.ok(), "what is valid is read after it is written");
  Require(again->client == session.client && again->local == session.local &&
              again->backend == session.backend &&
              again->relay == session.relay && again->token == session.token &&
              again->since == session.since &&
              again->gateway_id == session.gateway_id,
          "a record is read as it is written");
  Require(IsSameOrLeftOut(session.label, again->label) &&
              IsSameOrLeftOut(session.tag_key, again->tag_key) &&
              IsSameOrLeftOut(session.tag_text, again->tag_text),
          "a text is read as it is written, or left out");
}

void TryText(absl::string_view text) {
  const absl::StatusOr<StoredSession> session = DecodeStoredSession(text);
  if (session.ok()) {
    Require(text.size() <= kStoredSessionBytesMax, "a long record is refused");
    Require(ValidateStoredSession(*session).ok(), "what is read is valid");
    RequireIsReadAsWritten(*session);
  } else if (absl::IsUnimplemented(session.status())) {
    RequireOneShortLine(absl::InvalidArgumentError(session.status().message()));
  } else {
    RequireOneShortLine(session.status());
  }
}

// The texts of a session come from others, too.
void TryTexts(absl::string_view text) {
  StoredSession session;
  session.client = session.local = session.backend =
      SocketAddress::Ipv4Loopback(1);
  session.gateway_id = "g";
  session.since = absl::UnixEpoch();
  for (std::string* field : {&session.label, &session.tag_key,
                             &session.tag_text, &session.gateway_id}) {
    const std::string before = *field;
    *field = std::string(text);
    const absl::Status status = ValidateStoredSession(session);
    if (status.ok()) {
      RequireIsReadAsWritten(session);
    } else {
      RequireOneShortLine(status);
      *field = before;
    }
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text = udpgate::test::AsText(data, size);
  udpgate::test::TryText(text);
  udpgate::test::TryTexts(text);
  return 0;
}
