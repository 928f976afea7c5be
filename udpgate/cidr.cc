#include "udpgate/cidr.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "udpgate/internal/util/invalid_text.h"

namespace udpgate {
namespace {

using internal::InvalidText;
using IpBytes = std::array<uint8_t, 16>;

constexpr int kIpv4Bits = 32;
constexpr int kIpv6Bits = 128;
// What stands before the IPv4 address of an IPv4-mapped one (RFC 4291 section
// 2.5.5.2).
constexpr int kMappedBits = kIpv6Bits - kIpv4Bits;

// Decimal, with no zero in front: as in an IPv4 address, it could be meant as
// octal.
bool ParsePrefixBits(absl::string_view text, int bits_max, int* bits) {
  if (text.empty() || text.size() > 3) return false;
  if (text.size() > 1 && text[0] == '0') return false;
  int value = 0;
  for (const char digit : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(digit))) return false;
    value = value * 10 + (digit - '0');
  }
  if (value > bits_max) return false;
  *bits = value;
  return true;
}

// The bits of the byte at `index` that belong to a prefix.
uint8_t MaskOfByte(size_t index, int prefix_bits) {
  const int bits = std::clamp(prefix_bits - 8 * static_cast<int>(index), 0, 8);
  return static_cast<uint8_t>(0xff00 >> bits);
}

// The lowest address of the prefix that `address` is in.
SocketAddress FirstAddress(const SocketAddress& address, int prefix_bits) {
  IpBytes bytes = address.ip_bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(bytes[i] & MaskOfByte(i, prefix_bits));
  }
  if (address.is_ipv4()) {
    sockaddr_in ipv4{};
    ipv4.sin_family = AF_INET;
    std::memcpy(&ipv4.sin_addr, bytes.data(), sizeof(ipv4.sin_addr));
    return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&ipv4),
                                       sizeof(ipv4));
  }
  sockaddr_in6 ipv6{};
  ipv6.sin6_family = AF_INET6;
  std::memcpy(&ipv6.sin6_addr, bytes.data(), sizeof(ipv6.sin6_addr));
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&ipv6),
                                     sizeof(ipv6));
}

// The order of a CidrList: a prefix comes before those inside it.
bool IsBefore(const Cidr& a, const Cidr& b) {
  if (a.is_ipv4() != b.is_ipv4()) return a.is_ipv4();
  const IpBytes& a_bytes = a.first_address().ip_bytes();
  const IpBytes& b_bytes = b.first_address().ip_bytes();
  if (a_bytes != b_bytes) return a_bytes < b_bytes;
  return a.prefix_bits() < b.prefix_bits();
}

bool BeginsAfter(const SocketAddress& address, const Cidr& cidr) {
  if (address.is_ipv4() != cidr.is_ipv4()) return address.is_ipv4();
  return address.ip_bytes() < cidr.first_address().ip_bytes();
}

}  // namespace

absl::StatusOr<Cidr> Cidr::Parse(absl::string_view text) {
  const size_t slash = text.find('/');
  const absl::string_view ip_text = text.substr(0, slash);
  if (absl::StrContains(ip_text, '%')) {
    return InvalidText(text,
                       "is no CIDR: it covers all interfaces, so none may be "
                       "named after %");
  }
  const absl::StatusOr<SocketAddress> ip =
      SocketAddress::FromIpAndPort(ip_text, 0);
  if (!ip.ok()) {
    return InvalidText(text,
                       "is no CIDR: allowed are 1.2.3.0/24, 2001:db8::/32, and "
                       "an IP address without port");
  }
  const bool is_written_as_ipv6 = absl::StrContains(ip_text, ':');
  const int bits_max = is_written_as_ipv6 ? kIpv6Bits : kIpv4Bits;
  int bits = bits_max;
  if (slash != absl::string_view::npos &&
      !ParsePrefixBits(text.substr(slash + 1), bits_max, &bits)) {
    return InvalidText(text, absl::StrCat("is no CIDR: behind the / must be 0 "
                                          "to ",
                                          bits_max));
  }
  if (is_written_as_ipv6 && ip->is_ipv4()) {
    if (bits < kMappedBits) {
      return InvalidText(text,
                         "is no CIDR: an IPv4-mapped one has a length of 96 to "
                         "128, and better is IPv4's own form, 1.2.3.0/24");
    }
    bits -= kMappedBits;
  }
  const Cidr cidr(FirstAddress(*ip, bits), bits);
  if (cidr.first_ != *ip) {
    return InvalidText(text, absl::StrCat("has bits set behind its prefix; the "
                                          "network of that length is ",
                                          cidr.ToString()));
  }
  return cidr;
}

bool Cidr::Contains(const SocketAddress& address) const {
  if (address.family() != first_.family()) return false;
  const size_t whole_bytes = static_cast<size_t>(prefix_bits_) / 8;
  const IpBytes& bytes = address.ip_bytes();
  const IpBytes& first_bytes = first_.ip_bytes();
  if (!std::equal(bytes.begin(), bytes.begin() + whole_bytes,
                  first_bytes.begin())) {
    return false;
  }
  return prefix_bits_ % 8 == 0 ||
         ((bytes[whole_bytes] ^ first_bytes[whole_bytes]) &
          MaskOfByte(whole_bytes, prefix_bits_)) == 0;
}

std::string Cidr::ToString() const {
  return absl::StrCat(first_.IpToString(), "/", prefix_bits_);
}

CidrList::CidrList(std::vector<Cidr> cidrs) {
  std::sort(cidrs.begin(), cidrs.end(), IsBefore);
  // Two prefixes are apart, or one is inside the other, which then comes
  // first.
  for (const Cidr& cidr : cidrs) {
    if (cidrs_.empty() || !cidrs_.back().Contains(cidr)) {
      cidrs_.push_back(cidr);
    }
  }
}

bool CidrList::ContainsSome(const SocketAddress& address) const {
  // Since none is inside another, only the last that begins at or before the
  // address can have it.
  const auto after =
      std::upper_bound(cidrs_.begin(), cidrs_.end(), address, BeginsAfter);
  return after != cidrs_.begin() && std::prev(after)->Contains(address);
}

std::string CidrList::ToString() const {
  return absl::StrJoin(cidrs_, ",", [](std::string* text, const Cidr& cidr) {
    absl::StrAppend(text, cidr.ToString());
  });
}

absl::StatusOr<CidrList> ParseCidrList(absl::string_view text) {
  if (text.size() > kCidrListBytesMax) {
    return InvalidText(text,
                       absl::StrCat("is too long for a list of CIDRs: ",
                                    kCidrListBytesMax, " bytes are allowed"));
  }
  std::vector<Cidr> cidrs;
  if (absl::StripAsciiWhitespace(text).empty()) return CidrList();
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    bool is_empty = true;
    for (const absl::string_view entry : absl::StrSplit(
             part, absl::ByAnyChar(" \t\n\v\f\r"), absl::SkipEmpty())) {
      is_empty = false;
      if (cidrs.size() == kCidrListEntriesMax) {
        return InvalidText(
            text, absl::StrCat("has too many entries: ", kCidrListEntriesMax,
                               " are allowed"));
      }
      const absl::StatusOr<Cidr> cidr = Cidr::Parse(entry);
      if (!cidr.ok()) return cidr.status();
      cidrs.push_back(*cidr);
    }
    if (is_empty) {
      return InvalidText(text,
                         "is no list of CIDRs: beside a comma an entry "
                         "is missing");
    }
  }
  return CidrList(std::move(cidrs));
}

}  // namespace udpgate
