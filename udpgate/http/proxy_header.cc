#include "udpgate/http/proxy_header.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"

namespace udpgate {
namespace http {
namespace {

using State = ProxyHeader::State;

constexpr absl::string_view kPrefix1 = "PROXY ";
constexpr absl::string_view kLineEnd = "\r\n";
constexpr absl::string_view kSignature2("\r\n\r\n\0\r\nQUIT\n", 12);
// Signature, version and command, family and transport, length.
constexpr size_t kFixedBytes2 = 16;
constexpr uint8_t kLocal2 = 0x20;
constexpr uint8_t kProxy2 = 0x21;
constexpr uint8_t kUnspecified2 = 0x00;
constexpr uint8_t kTcp4 = 0x11;
constexpr uint8_t kTcp6 = 0x21;
constexpr uint16_t kAddressBytes4 = 12;
constexpr uint16_t kAddressBytes6 = 36;

ProxyHeader Incomplete() { return ProxyHeader(); }

ProxyHeader Refused(absl::string_view error) {
  ProxyHeader header;
  header.state = State::kRefused;
  header.error = error;
  return header;
}

ProxyHeader Complete(size_t size) {
  ProxyHeader header;
  header.state = State::kComplete;
  header.size = size;
  return header;
}

ProxyHeader Complete(size_t size, const SocketAddress& source,
                     const SocketAddress& destination) {
  if (!source.is_unicast()) {
    return Refused("PROXY header: the source is not the address of a host");
  }
  if (!destination.is_unicast()) {
    return Refused(
        "PROXY header: the destination is not the address of a host");
  }
  ProxyHeader header = Complete(size);
  header.source = source;
  header.destination = destination;
  return header;
}

// Whether either begins with the other.
bool AgreesWith(absl::string_view received, absl::string_view beginning) {
  return absl::StartsWith(beginning, received.substr(0, beginning.size()));
}

// A port of version 1: decimal, without leading zeros.
absl::optional<uint16_t> ParsePort(absl::string_view text) {
  uint32_t port;
  if (text.empty() || text.size() > 5 ||
      !std::all_of(text.begin(), text.end(), absl::ascii_isdigit) ||
      (text.size() > 1 && text[0] == '0') || !absl::SimpleAtoi(text, &port) ||
      port > 65535) {
    return absl::nullopt;
  }
  return static_cast<uint16_t>(port);
}

// An address of version 1 in the text form of its family, without a scope.
SocketAddress ParseAddress(absl::string_view text, bool is_ipv6,
                           uint16_t port) {
  if (absl::StrContains(text, ':') != is_ipv6 || absl::StrContains(text, '%')) {
    return SocketAddress();
  }
  return SocketAddress::FromIpAndPort(text, port).value_or(SocketAddress());
}

ProxyHeader ParseV1(absl::string_view received) {
  const absl::string_view head =
      received.substr(0, ProxyHeader::kVersion1BytesMax);
  const size_t end = head.find_first_of(kLineEnd);
  if (end == absl::string_view::npos) {
    if (head.size() < ProxyHeader::kVersion1BytesMax) return Incomplete();
    return Refused("PROXY header: version 1 without line end in 107 bytes");
  }
  if (!AgreesWith(head.substr(end), kLineEnd)) {
    return Refused("PROXY header: version 1 must end with CR and LF");
  }
  if (head.size() < end + kLineEnd.size()) {
    if (head.size() < ProxyHeader::kVersion1BytesMax) return Incomplete();
    return Refused("PROXY header: version 1 without line end in 107 bytes");
  }
  const size_t size = end + kLineEnd.size();
  const absl::string_view line =
      absl::StripPrefix(head.substr(0, end), kPrefix1);
  // What follows UNKNOWN is to be ignored.
  if (line == "UNKNOWN" || absl::StartsWith(line, "UNKNOWN ")) {
    return Complete(size);
  }
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if (words[0] != "TCP4" && words[0] != "TCP6") {
    return Refused("PROXY header: version 1 of neither TCP4, TCP6 nor UNKNOWN");
  }
  if (words.size() != 5) {
    return Refused(
        "PROXY header: version 1 needs two addresses and two ports, each after "
        "one space");
  }
  const absl::optional<uint16_t> source_port = ParsePort(words[3]);
  const absl::optional<uint16_t> destination_port = ParsePort(words[4]);
  if (!source_port.has_value() || !destination_port.has_value()) {
    return Refused("PROXY header: a port must be a number from 0 to 65535");
  }
  const bool is_ipv6 = words[0] == "TCP6";
  return Complete(size, ParseAddress(words[1], is_ipv6, *source_port),
                  ParseAddress(words[2], is_ipv6, *destination_port));
}

uint16_t ReadUint16(absl::string_view bytes) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[0]) << 8 |
                               static_cast<uint8_t>(bytes[1]));
}

SocketAddress ReadIpv4(absl::string_view ip, absl::string_view port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  std::memcpy(&address.sin_addr, ip.data(), sizeof(address.sin_addr));
  address.sin_port = htons(ReadUint16(port));
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

SocketAddress ReadIpv6(absl::string_view ip, absl::string_view port) {
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  std::memcpy(&address.sin6_addr, ip.data(), sizeof(address.sin6_addr));
  address.sin6_port = htons(ReadUint16(port));
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// The addresses of a complete header with the command PROXY. `body` is what
// follows the fixed part.
ProxyHeader ParseAddressesV2(uint8_t family, absl::string_view body) {
  const size_t size = kFixedBytes2 + body.size();
  switch (family) {
    case kUnspecified2:
      return Complete(size);
    case kTcp4:
      if (body.size() < kAddressBytes4) {
        return Refused("PROXY header: version 2 is too short for IPv4");
      }
      return Complete(size, ReadIpv4(body.substr(0), body.substr(8)),
                      ReadIpv4(body.substr(4), body.substr(10)));
    case kTcp6:
      if (body.size() < kAddressBytes6) {
        return Refused("PROXY header: version 2 is too short for IPv6");
      }
      return Complete(size, ReadIpv6(body.substr(0), body.substr(32)),
                      ReadIpv6(body.substr(16), body.substr(34)));
    default:
      return Refused(
          "PROXY header: version 2 of another family than TCP over "
          "IPv4 or IPv6");
  }
}

ProxyHeader ParseV2(absl::string_view received) {
  const size_t begin = kSignature2.size();
  if (received.size() <= begin) return Incomplete();
  const uint8_t command = static_cast<uint8_t>(received[begin]);
  if (command != kLocal2 && command != kProxy2) {
    return Refused(
        "PROXY header: version 2 with an unknown version or command");
  }
  if (received.size() < kFixedBytes2) return Incomplete();
  const size_t length = ReadUint16(received.substr(begin + 2));
  if (kFixedBytes2 + length > ProxyHeader::kVersion2BytesMax) {
    return Refused("PROXY header: version 2 exceeds 4096 bytes");
  }
  if (received.size() < kFixedBytes2 + length) return Incomplete();
  if (command == kLocal2) return Complete(kFixedBytes2 + length);
  return ParseAddressesV2(static_cast<uint8_t>(received[begin + 1]),
                          received.substr(kFixedBytes2, length));
}

// The text form of IPv6 without a scope; IPv4 as IPv4-mapped.
std::string Ipv6Text(const SocketAddress& address) {
  const std::string text = address.IpToString();
  if (address.is_ipv4()) return absl::StrCat("::ffff:", text);
  return text.substr(0, text.find('%'));
}

void AppendUint16(uint16_t value, std::string* bytes) {
  bytes->push_back(static_cast<char>(value >> 8));
  bytes->push_back(static_cast<char>(value & 0xff));
}

void AppendIp(const SocketAddress& address, bool as_ipv6, std::string* bytes) {
  if (as_ipv6 && address.is_ipv4()) {
    bytes->append(10, '\0');
    bytes->append(2, '\xff');
  }
  bytes->append(reinterpret_cast<const char*>(address.ip_bytes().data()),
                address.is_ipv4() ? 4 : 16);
}

}  // namespace

ProxyHeader ProxyHeader::Parse(absl::string_view received) {
  if (received.empty()) return Incomplete();
  if (AgreesWith(received, kPrefix1)) {
    return received.size() < kPrefix1.size() ? Incomplete() : ParseV1(received);
  }
  if (AgreesWith(received, kSignature2)) return ParseV2(received);
  ProxyHeader header;
  header.state = State::kNone;
  return header;
}

std::string ProxyHeader::WriteV1(const SocketAddress& source,
                                 const SocketAddress& destination) {
  if (!source.is_valid() || !destination.is_valid()) {
    return "PROXY UNKNOWN\r\n";
  }
  const bool is_ipv4 = source.is_ipv4() && destination.is_ipv4();
  return absl::StrCat(
      is_ipv4 ? "PROXY TCP4 " : "PROXY TCP6 ",
      is_ipv4 ? source.IpToString() : Ipv6Text(source), " ",
      is_ipv4 ? destination.IpToString() : Ipv6Text(destination), " ",
      source.port(), " ", destination.port(), kLineEnd);
}

std::string ProxyHeader::WriteV2(const SocketAddress& source,
                                 const SocketAddress& destination) {
  std::string bytes(kSignature2);
  if (!source.is_valid() || !destination.is_valid()) {
    bytes.push_back(static_cast<char>(kProxy2));
    bytes.push_back(static_cast<char>(kUnspecified2));
    AppendUint16(0, &bytes);
    return bytes;
  }
  const bool is_ipv6 = source.is_ipv6() || destination.is_ipv6();
  bytes.push_back(static_cast<char>(kProxy2));
  bytes.push_back(static_cast<char>(is_ipv6 ? kTcp6 : kTcp4));
  AppendUint16(is_ipv6 ? kAddressBytes6 : kAddressBytes4, &bytes);
  AppendIp(source, is_ipv6, &bytes);
  AppendIp(destination, is_ipv6, &bytes);
  AppendUint16(source.port(), &bytes);
  AppendUint16(destination.port(), &bytes);
  return bytes;
}

}  // namespace http
}  // namespace udpgate
