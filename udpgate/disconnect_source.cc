#include "udpgate/disconnect_source.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace udpgate {

DisconnectTarget DisconnectTarget::ForClient(const SocketAddress& client) {
  DisconnectTarget target(Kind::kClient);
  target.client_ = client;
  return target;
}

DisconnectTarget DisconnectTarget::ForRelayPort(uint16_t port) {
  DisconnectTarget target(Kind::kRelayPort);
  target.relay_port_ = port;
  return target;
}

absl::StatusOr<DisconnectTarget> DisconnectTarget::Parse(
    absl::string_view payload) {
  const absl::string_view text = absl::StripAsciiWhitespace(payload);
  const bool is_number =
      !text.empty() && text.size() <= 5 &&
      std::all_of(text.begin(), text.end(), [](char c) {
        return absl::ascii_isdigit(static_cast<unsigned char>(c));
      });
  if (is_number) {
    int port = 0;
    if (absl::SimpleAtoi(text, &port) && port >= 1 && port <= 65535) {
      return ForRelayPort(static_cast<uint16_t>(port));
    }
  } else if (absl::StatusOr<SocketAddress> client = SocketAddress::Parse(text);
             client.ok() && client->port() != 0) {
    return ForClient(*client);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", absl::CHexEscape(text.substr(0, 80)),
      "\" names no session: allowed are a client's address, 1.2.3.4:port or "
      "[v6]:port, and a relay port, 1 to 65535"));
}

std::string DisconnectTarget::ToString() const {
  return kind_ == Kind::kClient ? client_.ToString()
                                : absl::StrCat(relay_port_);
}

}  // namespace udpgate
