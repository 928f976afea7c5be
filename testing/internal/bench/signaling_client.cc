#include "testing/internal/bench/signaling_client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstddef>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace bench {
namespace {

// As the game's WebRTC writes it, with the length of its identity.
std::string MakeOffer() {
  return absl::StrCat(
      "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
      "a=group:BUNDLE 0\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n"
      "a=identity:",
      std::string(1800, 'A'),
      "\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
      "c=IN IP4 0.0.0.0\r\n"
      "a=candidate:1 1 udp 2122260223 192.0.2.7 50001 typ host generation 0\r\n"
      "a=candidate:2 1 udp 2122194687 2001:db8::7 50002 typ host\r\n"
      "a=ice-ufrag:offer\r\na=ice-pwd:thePasswordOfTheOffer00\r\n"
      "a=fingerprint:sha-256 ",
      "8A:5F:11:C0:33:5B:60:7E:0B:64:19:1E:A4:27:0D:3C:93:AB:1F:02:6E:5D:88:41:"
      "F3:D0:9A:7C:12:E6:4B:55\r\n",
      "a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n"
      "a=max-message-size:262144\r\n");
}

// The rest of the line behind `prefix`.
std::string LineOf(absl::string_view sdp, absl::string_view prefix) {
  const size_t begin = sdp.find(prefix);
  if (begin == absl::string_view::npos) return "";
  const size_t end = sdp.find_first_of("\r\n", begin);
  return std::string(
      sdp.substr(begin + prefix.size(), end - begin - prefix.size()));
}

}  // namespace

absl::StatusOr<SignalingClient> SignalingClient::Connect(
    const SocketAddress& server) {
  absl::StatusOr<internal::UniqueFd> fd = test::TcpConnect(server);
  if (!fd.ok()) return fd.status();
  const int on = 1;
  ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return SignalingClient(*std::move(fd), server.ToString());
}

absl::Status SignalingClient::GetStatus() {
  return Exchange(
             absl::StrCat("GET /v1/join HTTP/1.1\r\nHost: ", host_, "\r\n\r\n"))
      .status();
}

absl::StatusOr<JoinAnswer> SignalingClient::Join(uint64_t network_id) {
  static const std::string* const offer = new std::string(MakeOffer());
  absl::StatusOr<std::string> body = Exchange(absl::StrCat(
      "POST /v1/join/", network_id, " HTTP/1.1\r\nHost: ", host_,
      "\r\nContent-Type: application/sdp\r\nContent-Length: ", offer->size(),
      "\r\n\r\n", *offer));
  if (!body.ok()) return body.status();
  return JoinAnswer{LineOf(*body, "a=ice-ufrag:"), LineOf(*body, "a=ice-pwd:")};
}

absl::StatusOr<std::string> SignalingClient::Exchange(
    absl::string_view request) {
  while (!request.empty()) {
    const ssize_t count =
        ::send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL);
    if (count <= 0) return absl::UnavailableError("the connection is closed");
    request.remove_prefix(static_cast<size_t>(count));
  }
  std::string text;
  char buffer[16384];
  size_t end = std::string::npos;
  size_t length = 0;
  while (end == std::string::npos || text.size() < end + 4 + length) {
    const ssize_t count = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (count <= 0) return absl::UnavailableError("no response");
    text.append(buffer, static_cast<size_t>(count));
    if (end == std::string::npos) {
      end = text.find("\r\n\r\n");
      const std::string head = absl::AsciiStrToLower(text.substr(0, end));
      if (end != std::string::npos &&
          !absl::SimpleAtoi(LineOf(head + "\r\n", "content-length: "),
                            &length)) {
        return absl::InternalError("no Content-Length");
      }
    }
  }
  if (!absl::StartsWith(text, "HTTP/1.1 200")) {
    return absl::InternalError(text.substr(0, text.find('\r')));
  }
  return text.substr(end + 4);
}

std::string FirstDatagramOf(const JoinAnswer& answer) {
  stun::BindingRequestOptions options;
  options.username = absl::StrCat(answer.ufrag, ":offer");
  options.password = answer.password;
  return stun::BuildBindingRequest(options);
}

}  // namespace bench
}  // namespace udpgate
