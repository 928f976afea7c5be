// A session description, as the offer of a player and as the answer of a
// backend.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/nethernet/internal/sdp.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

using nethernet::internal::Answer;
using nethernet::internal::ChooseMedia;
using nethernet::internal::ParseAnswer;
using nethernet::internal::RewriteAnswer;
using nethernet::internal::StripCandidates;

// Lines that name no address that the gateway replaces.
std::vector<std::string> OtherLines(absl::string_view sdp) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(sdp, '\n')) {
    const std::string lower = absl::AsciiStrToLower(line);
    if (lower.empty() || absl::StrContains(lower, "candidate") ||
        absl::StrContains(lower, "rtcp") || absl::StartsWith(line, "c=") ||
        absl::StartsWith(line, "m=")) {
      continue;
    }
    lines.emplace_back(absl::StripSuffix(line, "\r"));
  }
  return lines;
}

void TryOffer(absl::string_view sdp) {
  const absl::StatusOr<std::string> stripped = StripCandidates(sdp);
  if (!stripped.ok()) return RequireOneShortLine(stripped.status());
  for (const absl::string_view line : absl::StrSplit(*stripped, '\n')) {
    Require(!absl::StartsWith(line, "a=candidate:") &&
                absl::StripSuffix(line, "\r") != "a=end-of-candidates",
            "an offer has no candidates afterwards");
  }
  Require(OtherLines(*stripped) == OtherLines(sdp),
          "an offer keeps its other lines");
  const absl::StatusOr<std::string> again = StripCandidates(*stripped);
  Require(again.ok() && *again == *stripped,
          "an offer without candidates stays as it is");
}

void TryAnswer(absl::string_view sdp) {
  const absl::StatusOr<Answer> answer = ParseAnswer(sdp);
  if (!answer.ok()) return RequireOneShortLine(answer.status());
  Require(answer->ufrag.size() >= 4 && answer->ufrag.size() <= 256 &&
              answer->password.size() >= 22 && answer->password.size() <= 256,
          "credentials have the lengths of the RFC");
  const SocketAddress backend = SocketAddress::Ipv4Loopback(19132);
  const SocketAddress media = ChooseMedia(*answer, backend);
  Require(media.WithPort(0) == backend.WithPort(0) && media.port() != 0,
          "media goes to the backend that answered");
  const std::vector<SocketAddress> gateway = {
      SocketAddress::Ipv4Loopback(19133), SocketAddress::Ipv6Loopback(19134)};
  const std::string rewritten = RewriteAnswer(sdp, gateway);
  Require(OtherLines(rewritten) == OtherLines(sdp),
          "an answer keeps its other lines");
  const absl::StatusOr<Answer> again = ParseAnswer(rewritten);
  if (!again.ok()) {
    // Each section may get two candidates in the place of one line.
    Require(absl::StrContains(again.status().message(), "longer") ||
                absl::StrContains(again.status().message(), "at most"),
            "an answer can be read afterwards");
    return;
  }
  Require(again->ufrag == answer->ufrag && again->password == answer->password,
          "an answer keeps its credentials");
  Require(again->candidates == gateway,
          "an answer has the gateway's candidates alone");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view sdp = udpgate::test::AsText(data, size);
  udpgate::test::TryOffer(sdp);
  udpgate::test::TryAnswer(sdp);
  return 0;
}
