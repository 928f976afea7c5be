#include "testing/internal/ice/description.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace udpgate {
namespace test {

std::string ToSdp(const IceDescription& description, bool is_offer) {
  const SocketAddress first = description.candidates.empty()
                                  ? SocketAddress::Ipv4Any(9)
                                  : description.candidates.front();
  std::string sdp = absl::StrCat(
      "v=0\r\no=- 4962303333179871722 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n",
      "a=group:BUNDLE 0\r\na=msid-semantic: WMS\r\n",
      "a=identity:eyJpZHAiOnsiZG9tYWluIjoibWluZWNyYWZ0Lm5ldCJ9fQ==\r\n",
      "m=application ", first.port(), " UDP/DTLS/SCTP webrtc-datachannel\r\n",
      "c=IN IP", first.is_ipv6() ? 6 : 4, " ", first.IpToString(), "\r\n");
  uint32_t priority = 2122260223;
  int foundation = 1;
  for (const SocketAddress& candidate : description.candidates) {
    absl::StrAppend(&sdp, "a=candidate:", foundation++, " 1 udp ", priority,
                    " ", candidate.IpToString(), " ", candidate.port(),
                    " typ host generation 0\r\n");
    priority -= 1 << 8;
  }
  absl::StrAppend(&sdp, "a=end-of-candidates\r\n",
                  "a=ice-ufrag:", description.ufrag,
                  "\r\na=ice-pwd:", description.password,
                  "\r\na=fingerprint:sha-256 "
                  "8A:5F:11:C0:33:5B:60:7E:0B:64:19:1E:A4:27:0D:3C:93:AB:1F:02:"
                  "6E:5D:88:41:F3:D0:9A:7C:12:E6:4B:55\r\na=setup:",
                  is_offer ? "actpass" : "active",
                  "\r\na=mid:0\r\na=sctp-port:5000\r\n"
                  "a=max-message-size:262144\r\n");
  return sdp;
}

absl::StatusOr<IceDescription> FromSdp(absl::string_view sdp) {
  IceDescription found;
  for (absl::string_view line : absl::StrSplit(sdp, '\n')) {
    absl::ConsumeSuffix(&line, "\r");
    if (absl::ConsumePrefix(&line, "a=ice-ufrag:")) {
      found.ufrag = std::string(line);
    } else if (absl::ConsumePrefix(&line, "a=ice-pwd:")) {
      found.password = std::string(line);
    } else if (absl::ConsumePrefix(&line, "a=candidate:")) {
      const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
      uint32_t port = 0;
      if (words.size() < 8 || !absl::SimpleAtoi(words[5], &port)) continue;
      absl::StatusOr<SocketAddress> address =
          SocketAddress::FromIpAndPort(words[4], static_cast<uint16_t>(port));
      if (address.ok()) found.candidates.push_back(*address);
    }
  }
  if (found.ufrag.empty() || found.password.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("no ICE in: ", sdp));
  }
  return found;
}

}  // namespace test
}  // namespace udpgate
