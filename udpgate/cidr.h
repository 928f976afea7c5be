// IP prefixes, as used in firewalls and access lists.
#ifndef UDPGATE_CIDR_H_
#define UDPGATE_CIDR_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// One prefix (RFC 4632 section 3.1, RFC 4291 section 2.3). A value type of 28
// bytes.
//
//   absl::StatusOr<Cidr> local = Cidr::Parse("10.0.0.0/8");
//   if (!local.ok()) return local.status();
//   if (local->Contains(client)) ...
//
// IPv4 and IPv6 are separate, as in `SocketAddress`: `::/0` contains every IPv6
// address and no IPv4 address, whichever socket received the datagram.
//
// Threads: a plain value.
class UDPGATE_EXPORT Cidr {
 public:
  // `1.2.3.0/24`, `2001:db8::/32`, or a single IP address (/32 or /128). An
  // IPv4-mapped one is folded to IPv4: `::ffff:1.2.3.0/120` is 1.2.3.0/24.
  // InvalidArgument quotes the text and says what is wrong; host bits that are
  // set (`10.1.2.3/8`) are an error that names the corrected form, because
  // either half may be the mistake. An interface (`fe80::1%eth0`) is rejected:
  // a prefix covers all interfaces.
  static absl::StatusOr<Cidr> Parse(absl::string_view text);

  bool is_ipv4() const { return first_.is_ipv4(); }
  bool is_ipv6() const { return first_.is_ipv6(); }
  // 0 to 32 for IPv4, 0 to 128 for IPv6.
  int prefix_bits() const { return prefix_bits_; }
  // The lowest address of the prefix, with port 0.
  const SocketAddress& first_address() const { return first_; }

  // True if the IP of `address` is in the prefix; port and interface are
  // ignored.
  bool Contains(const SocketAddress& address) const;
  // True if all of `other` is in the prefix.
  bool Contains(const Cidr& other) const {
    return prefix_bits_ <= other.prefix_bits_ && Contains(other.first_);
  }

  // `1.2.3.0/24`, always with the length; `Parse` accepts it.
  std::string ToString() const;

  friend bool operator==(const Cidr& a, const Cidr& b) {
    return a.prefix_bits_ == b.prefix_bits_ && a.first_ == b.first_;
  }
  friend bool operator!=(const Cidr& a, const Cidr& b) { return !(a == b); }

 private:
  Cidr(const SocketAddress& first, int prefix_bits)
      : first_(first), prefix_bits_(prefix_bits) {}

  SocketAddress first_;
  int prefix_bits_;
};

// A set of up to some thousand prefixes.
//
//   absl::StatusOr<CidrList> denied = ParseCidrList("10.0.0.0/8, ::1");
//   if (!denied.ok()) return denied.status();
//   if (denied->Contains(client)) ...
//
// A sorted array without nested entries, so `Contains` is a binary search: a
// few nanoseconds for an empty list, some tens for a thousand entries.
//
// Threads: like a std::vector.
class UDPGATE_EXPORT CidrList {
 public:
  CidrList() = default;
  // In any order; they may overlap.
  explicit CidrList(std::vector<Cidr> cidrs);

  bool empty() const { return cidrs_.empty(); }
  // Sorted, IPv4 first, without nested entries.
  const std::vector<Cidr>& cidrs() const { return cidrs_; }

  // True if the IP of `address` is in one of them.
  bool Contains(const SocketAddress& address) const {
    return !empty() && ContainsSome(address);
  }

  // The entries of `cidrs`, separated by commas; empty for an empty list.
  // `ParseCidrList` restores the list.
  std::string ToString() const;

  // True if both have the same `cidrs`. (10.0.0.0/9 with 10.128.0.0/9 is not
  // the same as 10.0.0.0/8, though they contain the same addresses.)
  friend bool operator==(const CidrList& a, const CidrList& b) {
    return a.cidrs_ == b.cidrs_;
  }
  friend bool operator!=(const CidrList& a, const CidrList& b) {
    return !(a == b);
  }

 private:
  bool ContainsSome(const SocketAddress& address) const;

  std::vector<Cidr> cidrs_;
};

// The limits of `ParseCidrList`.
inline constexpr size_t kCidrListEntriesMax = 1024;
inline constexpr size_t kCidrListBytesMax = 64 * 1024;

// Parses entries for `Cidr::Parse`, separated by commas, white space or both.
// White space alone is the empty list. A comma without an entry on both sides
// is an error, so that a list that lost its entries does not allow everything.
// InvalidArgument quotes the wrong entry, or names the limit.
UDPGATE_EXPORT absl::StatusOr<CidrList> ParseCidrList(absl::string_view text);

}  // namespace udpgate

#endif  // UDPGATE_CIDR_H_
