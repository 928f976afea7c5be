#include "udpgate/dns/host_port.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "udpgate/internal/util/invalid_text.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace {

using internal::InvalidText;

constexpr size_t kHostBytesMax = 253;
constexpr size_t kLabelBytesMax = 63;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsLabelCharacter(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         c == '-' || c == '_';
}

// Digits only: no sign, no white space, unlike absl::SimpleAtoi. 0 if the text
// is not a port.
uint16_t ParsePort(absl::string_view text) {
  if (text.empty() || text.size() > 5) return 0;
  uint32_t value = 0;
  for (const char digit : text) {
    if (!IsDigit(digit)) return 0;
    value = value * 10 + static_cast<uint32_t>(digit - '0');
  }
  return value <= 65535 ? static_cast<uint16_t>(value) : uint16_t{0};
}

}  // namespace

absl::Status ValidateHostName(absl::string_view host) {
  absl::string_view name = host;
  if (absl::EndsWith(name, ".")) name.remove_suffix(1);
  if (name.empty()) return InvalidText(host, "is not a host name: it is empty");
  if (name.size() > kHostBytesMax) {
    return InvalidText(host, "is not a host name: longer than 253 bytes");
  }
  absl::string_view last;
  for (const absl::string_view label : absl::StrSplit(name, '.')) {
    if (label.empty() || label.size() > kLabelBytesMax) {
      return InvalidText(
          host,
          "is not a host name: each part between dots must have 1 to 63 bytes");
    }
    if (!std::all_of(label.begin(), label.end(), IsLabelCharacter)) {
      return InvalidText(
          host,
          "is not a host name: allowed are letters, digits, hyphens, "
          "underscores and dots");
    }
    if (label.front() == '-' || label.back() == '-') {
      return InvalidText(
          host,
          "is not a host name: no part of it may begin or end with a hyphen");
    }
    last = label;
  }
  if (std::all_of(last.begin(), last.end(), IsDigit)) {
    return InvalidText(host, "is neither a host name nor an IPv4 address");
  }
  return absl::OkStatus();
}

absl::StatusOr<HostPort> HostPort::Parse(absl::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(text);
  if (trimmed.empty())
    return InvalidText(trimmed, "is not host:port: it is empty");
  const size_t colon = trimmed.rfind(':');
  if (colon == absl::string_view::npos) {
    return InvalidText(trimmed, "is not host:port: the port is missing");
  }
  absl::string_view host = trimmed.substr(0, colon);
  HostPort result;
  result.port = ParsePort(trimmed.substr(colon + 1));
  const bool in_brackets =
      absl::StartsWith(host, "[") && absl::EndsWith(host, "]");
  if (in_brackets) {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ':')) {
    return InvalidText(
        trimmed, "is not host:port: an IPv6 address needs brackets, [v6]:port");
  }
  if (result.port == 0) {
    return InvalidText(trimmed,
                       "is not host:port: the port must be 1 to 65535");
  }
  const absl::StatusOr<SocketAddress> ip =
      SocketAddress::FromIpAndPort(host, 0);
  if (in_brackets && (!ip.ok() || !absl::StrContains(host, ':'))) {
    return InvalidText(trimmed,
                       "is not host:port: in brackets must be an IPv6 address");
  }
  if (!ip.ok()) {
    if (absl::Status valid = ValidateHostName(host); !valid.ok()) return valid;
  }
  result.host = std::string(host);
  return result;
}

std::string HostPort::ToString() const {
  if (absl::StrContains(host, ':')) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

}  // namespace udpgate
