// A datagram from another gateway, as if its seal were right.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/forward/internal/envelope.h"
#include "udpgate/forward/internal/plain_cipher.h"

namespace udpgate {
namespace test {
namespace {

using forward::internal::CanExpress;
using forward::internal::Envelope;
using forward::internal::EnvelopeHeader;
using forward::internal::EnvelopeKind;
using forward::internal::OpenEnvelope;
using forward::internal::PlainCipher;
using forward::internal::ReadHeader;
using forward::internal::SealEnvelope;

void Try(std::vector<char> datagram) {
  const absl::optional<EnvelopeHeader> header = ReadHeader(datagram);
  if (!header.has_value()) return;
  PlainCipher cipher(/*accepts_all=*/true);
  const absl::optional<Envelope> envelope =
      OpenEnvelope(*header, &cipher, absl::MakeSpan(datagram));
  if (!envelope.has_value()) return;
  Require(CanExpress(*envelope), "what is opened can be sealed");
  Require(envelope->kind == EnvelopeKind::kToOwner ||
              envelope->kind == EnvelopeKind::kToClient ||
              envelope->payload.empty(),
          "whether there is a session carries nothing");
  const absl::Span<const char> payload = envelope->payload;
  Require(payload.empty() || (payload.data() >= datagram.data() &&
                              payload.data() + payload.size() <=
                                  datagram.data() + datagram.size()),
          "the payload lies within the datagram");
  std::vector<char> again(datagram.size());
  const size_t bytes =
      SealEnvelope(*envelope, header->sent_seconds, header->sender_id,
                   header->counter, &cipher, absl::MakeSpan(again));
  Require(bytes == datagram.size(), "it takes as many bytes again");
  Require(std::memcmp(again.data(), datagram.data(), bytes - 16) == 0,
          "it is sealed to the same, but for the tag");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const char* const bytes = reinterpret_cast<const char*>(data);
  udpgate::test::Try(std::vector<char>(bytes, bytes + size));
  return 0;
}
