// A datagram of a client without a session, as a STUN Binding request.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/stun/binding_request.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace test {
namespace {

using stun::BindingRequest;
using stun::ParseBindingRequest;

// The password of the corpus.
constexpr char kPassword[] = "VOkJxbRl1RmTxUk/WvJxBt";

bool IsWithin(absl::string_view part, absl::Span<const char> datagram) {
  return part.empty() ||
         (part.data() >= datagram.data() &&
          part.data() + part.size() <= datagram.data() + datagram.size());
}

void RequireIsSound(absl::Span<const char> datagram,
                    const BindingRequest& request) {
  Require(stun::IsBindingRequest(datagram) && !stun::IsDtls(datagram),
          "what parses is a Binding request");
  Require(datagram.size() >= 20 && datagram.size() % 4 == 0,
          "a message has a header, and a multiple of four bytes");
  Require(IsWithin(request.username, datagram) &&
              IsWithin(request.local_ufrag, request.username) &&
              IsWithin(request.remote_ufrag, request.username),
          "the user name lies within the datagram");
  Require(request.username.size() <= 513, "a user name is bounded");
  const bool has_colon = request.username.find(':') != absl::string_view::npos;
  Require(request.local_ufrag.size() + request.remote_ufrag.size() +
                  (has_colon ? 1 : 0) ==
              (has_colon ? request.username.size() : 0),
          "the user name is split at a colon");
}

void RequireIntegrityIsBound(absl::Span<const char> datagram,
                             const BindingRequest& request) {
  const bool is_right = stun::VerifyIntegrity(datagram, request, kPassword);
  Require(
      !is_right || request.has_integrity_sha1 || request.has_integrity_sha256,
      "only integrity is proof");
  Require(!is_right || !stun::VerifyIntegrity(datagram, request, "another"),
          "a request is right under one password");
  if (!is_right) return;
  // The transaction is protected.
  std::string changed(datagram.data(), datagram.size());
  changed[8] = static_cast<char>(changed[8] ^ 1);
  Require(!stun::VerifyIntegrity(changed, request, kPassword),
          "integrity covers the transaction");
}

void Try(absl::Span<const char> datagram) {
  const absl::optional<BindingRequest> request = ParseBindingRequest(datagram);
  if (!request.has_value()) return;
  RequireIsSound(datagram, *request);
  RequireIntegrityIsBound(datagram, *request);
  if (request->has_integrity_sha1 || request->has_integrity_sha256 ||
      request->has_fingerprint || datagram.size() > 60000) {
    return;
  }
  // A request that nothing protects can be protected, and means the same.
  std::string with_integrity(datagram.data(), datagram.size());
  stun::AppendIntegritySha1(kPassword, &with_integrity);
  stun::AppendFingerprint(&with_integrity);
  const absl::optional<BindingRequest> again =
      ParseBindingRequest(with_integrity);
  Require(again.has_value() && again->username == request->username &&
              again->priority == request->priority &&
              stun::VerifyIntegrity(with_integrity, *again, kPassword),
          "a request with integrity appended parses to the same");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
