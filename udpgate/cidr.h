// IP prefixes, as firewalls and access lists name them: which addresses belong
// to a network?
#ifndef UDPGATE_CIDR_H_
#define UDPGATE_CIDR_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// One prefix (RFC 4632 section 3.1, RFC 4291 section 2.3). A value type of 28
// bytes.
//
//   absl::StatusOr<Cidr> local = Cidr::Parse("10.0.0.0/8");
//   if (!local.ok()) return local.status();
//   if (local->Contains(client)) ...
//
// IPv4 and IPv6 are apart, as in `SocketAddress`: `::/0` has every IPv6
// address and no IPv4 one, whatever socket a client came in by.
//
// Threads: as an int.
class Cidr {
 public:
  // `1.2.3.0/24`, `2001:db8::/32`, or an IP address, which is a prefix of its
  // own (/32, /128). An IPv4-mapped one is folded to IPv4: `::ffff:1.2.3.0/120`
  // is 1.2.3.0/24. InvalidArgument quotes the text and says what is wrong; bits
  // behind the prefix (`10.1.2.3/8`) are an error that names the corrected
  // form, since either half may be the mistake. An interface (`fe80::1%eth0`)
  // is refused: a prefix covers all interfaces.
  static absl::StatusOr<Cidr> Parse(absl::string_view text);

  bool is_ipv4() const { return first_.is_ipv4(); }
  bool is_ipv6() const { return first_.is_ipv6(); }
  // 0 to 32, or to 128 for IPv6.
  int prefix_bits() const { return prefix_bits_; }
  // The lowest address of it, with port 0.
  const SocketAddress& first_address() const { return first_; }

  // Whether the IP of `address` belongs to it; port and interface do not
  // matter.
  bool Contains(const SocketAddress& address) const;
  // Whether all of `other` belongs to it.
  bool Contains(const Cidr& other) const {
    return prefix_bits_ <= other.prefix_bits_ && Contains(other.first_);
  }

  // `1.2.3.0/24`, always with the length; `Parse` takes it.
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

// Up to some thousand prefixes that are asked together.
//
//   absl::StatusOr<CidrList> denied = ParseCidrList("10.0.0.0/8, ::1");
//   if (!denied.ok()) return denied.status();
//   if (denied->Contains(client)) ...
//
// Kept as a sorted array without entries inside others, so `Contains` takes a
// binary search: some ns for an empty list, some ten for a thousand entries.
//
// Threads: as a std::vector.
class CidrList {
 public:
  CidrList() = default;
  // In any order; they may overlap.
  explicit CidrList(std::vector<Cidr> cidrs);

  bool empty() const { return cidrs_.empty(); }
  // In order, IPv4 first, without those inside others.
  const std::vector<Cidr>& cidrs() const { return cidrs_; }

  // Whether the IP of `address` belongs to one of them.
  bool Contains(const SocketAddress& address) const {
    return !empty() && ContainsSome(address);
  }

  // Of `cidrs`, separated by commas; empty where the list is.
  // `ParseCidrList` makes the same list of it.
  std::string ToString() const;

  // Whether they have the same `cidrs`. (10.0.0.0/9 with 10.128.0.0/9 is not
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

// What `ParseCidrList` takes at most.
inline constexpr size_t kCidrListEntriesMax = 1024;
inline constexpr size_t kCidrListBytesMax = 64 * 1024;

// Entries as `Cidr::Parse` takes them, separated by commas, white space or
// both. A text of white space alone is the empty list; a comma with no entry
// on one of its sides is an error, lest a list that lost its entries allows
// all. InvalidArgument quotes the entry that is wrong, or names the limit.
absl::StatusOr<CidrList> ParseCidrList(absl::string_view text);

}  // namespace udpgate

#endif  // UDPGATE_CIDR_H_
