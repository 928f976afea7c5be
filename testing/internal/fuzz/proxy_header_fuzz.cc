// The first bytes of a connection as a header of the PROXY protocol.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/http/proxy_header.h"

namespace udpgate {
namespace test {
namespace {

using http::ProxyHeader;
using State = ProxyHeader::State;

void RequireIsSound(const ProxyHeader& header, absl::string_view bytes) {
  const bool is_complete = header.state == State::kComplete;
  Require(is_complete == (header.size > 0), "only a complete header has bytes");
  Require(header.size <= bytes.size(), "a header was received");
  Require(header.size <= (bytes[0] == 'P' ? ProxyHeader::kVersion1BytesMax
                                          : ProxyHeader::kVersion2BytesMax),
          "a header is bounded");
  Require(header.source.is_valid() == header.destination.is_valid() &&
              (is_complete || !header.source.is_valid()),
          "a complete header has two addresses or none");
  Require((header.state == State::kRefused) == !header.error.empty(),
          "a refusal says why");
  for (const char c : header.error) {
    Require(absl::ascii_isprint(static_cast<unsigned char>(c)),
            "an error text is one printable line");
  }
  if (header.source.is_valid()) {
    Require(header.source.is_unicast() && header.destination.is_unicast(),
            "an address names a host");
  }
}

void RequireSurvives(const std::string& bytes, const ProxyHeader& header) {
  const ProxyHeader again = ProxyHeader::Parse(bytes);
  Require(again.state == State::kComplete && again.size == bytes.size() &&
              again.source == header.source &&
              again.destination == header.destination,
          "what is written reads as the same");
}

void Try(absl::string_view bytes) {
  if (bytes.empty()) return;
  const ProxyHeader header = ProxyHeader::Parse(bytes);
  RequireIsSound(header, bytes);
  const size_t decided_at =
      header.state == State::kComplete ? header.size : bytes.size();
  for (size_t size = 0; size < decided_at; ++size) {
    const ProxyHeader part = ProxyHeader::Parse(bytes.substr(0, size));
    Require(part.state == State::kIncomplete ||
                (part.state == header.state && part.error == header.error &&
                 part.state != State::kComplete),
            "further bytes do not change a decision");
  }
  if (header.state == State::kIncomplete) {
    Require(bytes.size() < ProxyHeader::kVersion2BytesMax,
            "the decision is bounded");
  }
  if (header.state == State::kComplete) {
    RequireSurvives(ProxyHeader::WriteV1(header.source, header.destination),
                    header);
    RequireSurvives(ProxyHeader::WriteV2(header.source, header.destination),
                    header);
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
