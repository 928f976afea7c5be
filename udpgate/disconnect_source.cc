#include "udpgate/disconnect_source.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "udpgate/dns/host_port.h"

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

DisconnectTarget DisconnectTarget::ForRelay(const SocketAddress& relay) {
  DisconnectTarget target(Kind::kRelay);
  target.address_ = relay;
  return target;
}

DisconnectTarget DisconnectTarget::ForClientIp(const SocketAddress& ip) {
  DisconnectTarget target(Kind::kClientIp);
  target.address_ = ip.WithPort(0);
  return target;
}

DisconnectTarget DisconnectTarget::ForBackend(const SocketAddress& backend) {
  DisconnectTarget target(Kind::kBackend);
  target.address_ = backend;
  return target;
}

DisconnectTarget DisconnectTarget::ForBackendText(absl::string_view text) {
  DisconnectTarget target(Kind::kBackendText);
  target.text_ = std::string(text);
  return target;
}

absl::StatusOr<DisconnectTarget> DisconnectTarget::Parse(
    absl::string_view payload) {
  const absl::string_view text = absl::StripAsciiWhitespace(payload);
  const size_t space = text.find_first_of(" \t");
  if (space != absl::string_view::npos) {
    const absl::string_view word = text.substr(0, space);
    const absl::string_view rest =
        absl::StripLeadingAsciiWhitespace(text.substr(space));
    if (word == "ip") {
      const absl::StatusOr<SocketAddress> ip =
          SocketAddress::FromIpAndPort(rest, 0);
      if (ip.ok()) return ForClientIp(*ip);
    } else if (word == "backend" || word == "relay") {
      const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(rest);
      if (address.ok() && address->port() != 0) {
        return word == "relay" ? ForRelay(*address) : ForBackend(*address);
      }
      // What is like an address and is none must not pass for a name.
      if (word == "backend" && !address.ok() && HostPort::Parse(rest).ok()) {
        return ForBackendText(rest);
      }
    }
  }
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
      "[v6]:port, a relay port, 1 to 65535, and \"ip 1.2.3.4\", \"backend "
      "host:port\", \"relay 1.2.3.4:port\""));
}

std::string DisconnectTarget::ToString() const {
  switch (kind_) {
    case Kind::kClient:
      return client_.ToString();
    case Kind::kRelayPort:
      return absl::StrCat(relay_port_);
    case Kind::kRelay:
      return absl::StrCat("relay ", address_.ToString());
    case Kind::kClientIp:
      return absl::StrCat("ip ", address_.IpToString());
    case Kind::kBackend:
      return absl::StrCat("backend ", address_.ToString());
    case Kind::kBackendText:
      return absl::StrCat("backend ", text_);
  }
  return "";
}

}  // namespace udpgate
