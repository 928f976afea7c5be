#include "udpgate/socket_address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/internal/util/invalid_text.h"

namespace udpgate {
namespace {

using internal::InvalidText;

constexpr uint8_t kIpv4MappedPrefix[12] = {0, 0, 0, 0, 0,    0,
                                           0, 0, 0, 0, 0xff, 0xff};

// Digits only: absl::SimpleAtoi alone takes a sign and white space, too.
bool ParseNumber(absl::string_view text, uint32_t* value) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= '0' && c <= '9'; }) &&
         absl::SimpleAtoi(text, value);
}

bool ParsePort(absl::string_view text, uint16_t* port) {
  uint32_t value;
  if (text.size() > 5 || !ParseNumber(text, &value) || value > 65535) {
    return false;
  }
  *port = static_cast<uint16_t>(value);
  return true;
}

// The kernel reports and heeds a scope for these alone (ipv6(7)). With any
// other address it would only make one address look like two.
bool HasScope(const in6_addr& ip) {
  return IN6_IS_ADDR_LINKLOCAL(&ip) || IN6_IS_ADDR_MC_LINKLOCAL(&ip);
}

SocketAddress FromIpv4(const in_addr& ip, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = ip;
  address.sin_port = htons(port);
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

SocketAddress FromIpv6(const in6_addr& ip, uint32_t scope_id, uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = ip;
  address.sin6_scope_id = scope_id;
  address.sin6_port = htons(port);
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

}  // namespace

absl::StatusOr<SocketAddress> SocketAddress::Parse(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) {
    return InvalidText(text, "is not ip:port (there is no port)");
  }
  absl::string_view ip = text.substr(0, colon);
  uint16_t port;
  if (!ParsePort(text.substr(colon + 1), &port)) {
    return InvalidText(text, "is not ip:port (the port must be 0 to 65535)");
  }
  const bool in_brackets =
      absl::ConsumePrefix(&ip, "[") && absl::ConsumeSuffix(&ip, "]");
  if (in_brackets != absl::StrContains(ip, ':')) {
    return InvalidText(text, "is neither 1.2.3.4:port nor [v6]:port");
  }
  absl::StatusOr<SocketAddress> address = FromIpAndPort(ip, port);
  if (!address.ok()) {
    return InvalidText(text, "is neither 1.2.3.4:port nor [v6]:port");
  }
  return address;
}

absl::StatusOr<SocketAddress> SocketAddress::FromIpAndPort(absl::string_view ip,
                                                           uint16_t port) {
  const size_t percent = ip.find('%');
  const std::string without_scope(ip.substr(0, percent));
  in_addr ipv4;
  // inet_pton(3) reads a C string: a NUL inside would hide what follows.
  if (absl::StrContains(ip, absl::string_view("\0", 1))) {
    return InvalidText(ip, "is not an IP address");
  }
  if (percent == absl::string_view::npos &&
      inet_pton(AF_INET, without_scope.c_str(), &ipv4) == 1) {
    return FromIpv4(ipv4, port);
  }
  in6_addr ipv6;
  if (inet_pton(AF_INET6, without_scope.c_str(), &ipv6) != 1) {
    return InvalidText(ip, "is not an IP address");
  }
  uint32_t scope_id = 0;
  if (percent != absl::string_view::npos) {
    const std::string scope(ip.substr(percent + 1));
    // The kernel would look no further than a colon (an alias of old, eth0:1).
    const bool is_name = !absl::StrContains(scope, ':');
    scope_id = is_name ? if_nametoindex(scope.c_str()) : 0;
    if (scope_id == 0 && !ParseNumber(scope, &scope_id)) {
      return InvalidText(ip, "names no interface after %");
    }
  }
  return FromIpv6(ipv6, scope_id, port);
}

SocketAddress SocketAddress::FromSockaddr(const sockaddr* address,
                                          socklen_t size) {
  SocketAddress result;
  // Less than that holds no address, and perhaps not even a family: a peer
  // without a name has a size of 0 (unix(7)).
  if (size < sizeof(sockaddr_in)) return result;
  if (address->sa_family == AF_INET) {
    const auto* ipv4 = reinterpret_cast<const sockaddr_in*>(address);
    result.family_ = AF_INET;
    result.port_ = ntohs(ipv4->sin_port);
    std::memcpy(result.ip_.data(), &ipv4->sin_addr, 4);
  } else if (address->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    const auto* ipv6 = reinterpret_cast<const sockaddr_in6*>(address);
    result.port_ = ntohs(ipv6->sin6_port);
    if (std::memcmp(&ipv6->sin6_addr, kIpv4MappedPrefix, 12) == 0) {
      result.family_ = AF_INET;
      std::memcpy(result.ip_.data(), ipv6->sin6_addr.s6_addr + 12, 4);
    } else {
      result.family_ = AF_INET6;
      if (HasScope(ipv6->sin6_addr)) result.scope_id_ = ipv6->sin6_scope_id;
      std::memcpy(result.ip_.data(), &ipv6->sin6_addr, 16);
    }
  }
  return result;
}

SocketAddress SocketAddress::Ipv4Loopback(uint16_t port) {
  return FromIpv4({htonl(INADDR_LOOPBACK)}, port);
}

SocketAddress SocketAddress::Ipv4Any(uint16_t port) {
  return FromIpv4({htonl(INADDR_ANY)}, port);
}

SocketAddress SocketAddress::Ipv6Loopback(uint16_t port) {
  return FromIpv6(in6addr_loopback, 0, port);
}

SocketAddress SocketAddress::Ipv6Any(uint16_t port) {
  return FromIpv6(in6addr_any, 0, port);
}

SocketAddress SocketAddress::WithPort(uint16_t port) const {
  SocketAddress copy = *this;
  copy.port_ = port;
  return copy;
}

bool SocketAddress::is_any() const {
  return is_valid() && ip_ == std::array<uint8_t, 16>{};
}

bool SocketAddress::is_loopback() const {
  if (is_ipv4()) return ip_[0] == 127;
  return is_ipv6() && ip_ == Ipv6Loopback(0).ip_;
}

bool SocketAddress::is_multicast() const {
  if (is_ipv4()) return (ip_[0] & 0xf0) == 0xe0;
  return is_ipv6() && ip_[0] == 0xff;
}

bool SocketAddress::is_unicast() const {
  const bool is_broadcast =
      is_ipv4() && std::all_of(ip_.begin(), ip_.begin() + 4,
                               [](uint8_t byte) { return byte == 255; });
  return is_valid() && !is_any() && !is_multicast() && !is_broadcast;
}

socklen_t SocketAddress::ToSockaddr(int socket_family,
                                    sockaddr_storage* out) const {
  if (socket_family == AF_INET && is_ipv4()) {
    auto* ipv4 = reinterpret_cast<sockaddr_in*>(out);
    *ipv4 = {};
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = htons(port_);
    std::memcpy(&ipv4->sin_addr, ip_.data(), 4);
    return sizeof(sockaddr_in);
  }
  if (socket_family != AF_INET6 || !is_valid()) return 0;
  auto* ipv6 = reinterpret_cast<sockaddr_in6*>(out);
  *ipv6 = {};
  ipv6->sin6_family = AF_INET6;
  ipv6->sin6_port = htons(port_);
  ipv6->sin6_scope_id = scope_id_;
  if (is_ipv4()) {
    std::memcpy(ipv6->sin6_addr.s6_addr, kIpv4MappedPrefix, 12);
    std::memcpy(ipv6->sin6_addr.s6_addr + 12, ip_.data(), 4);
  } else {
    std::memcpy(&ipv6->sin6_addr, ip_.data(), 16);
  }
  return sizeof(sockaddr_in6);
}

std::string SocketAddress::ToString() const {
  if (is_ipv4()) return absl::StrCat(IpToString(), ":", port_);
  if (is_ipv6()) return absl::StrCat("[", IpToString(), "]:", port_);
  return "(none)";
}

std::string SocketAddress::IpToString() const {
  if (!is_valid()) return "(none)";
  char text[INET6_ADDRSTRLEN];
  inet_ntop(family_, ip_.data(), text, sizeof(text));
  if (scope_id_ == 0) return text;
  char interface[IF_NAMESIZE];
  if (if_indextoname(scope_id_, interface) != nullptr) {
    return absl::StrCat(text, "%", interface);
  }
  return absl::StrCat(text, "%", scope_id_);
}

}  // namespace udpgate
