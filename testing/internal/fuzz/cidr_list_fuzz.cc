// ALLOW_CIDRS and DENY_CIDRS.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/cidr.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

// Each costs a look at all entries.
constexpr size_t kAskedMax = 200;

// The address before or after this one, round the end of the family.
SocketAddress Neighbour(const SocketAddress& address, bool is_after) {
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(address.family(), &storage);
  uint8_t* const bytes =
      address.is_ipv4()
          ? reinterpret_cast<uint8_t*>(
                &reinterpret_cast<sockaddr_in*>(&storage)->sin_addr)
          : reinterpret_cast<sockaddr_in6*>(&storage)->sin6_addr.s6_addr;
  for (int i = address.is_ipv4() ? 3 : 15; i >= 0; --i) {
    const uint8_t before = bytes[i];
    bytes[i] = static_cast<uint8_t>(is_after ? before + 1 : before - 1);
    if (before != (is_after ? 0xff : 0)) break;
  }
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&storage),
                                     size);
}

void RequireIsSound(const Cidr& cidr) {
  const absl::StatusOr<Cidr> again = Cidr::Parse(cidr.ToString());
  Require(again.ok() && *again == cidr,
          "a CIDR prints to what parses to the same");
  Require(cidr.Contains(cidr.first_address()) && cidr.Contains(cidr),
          "a CIDR contains itself");
  Require(cidr.prefix_bits() == 0 ||
              !cidr.Contains(Neighbour(cidr.first_address(), false)),
          "a CIDR begins with its first address");
}

// The list answers as a search through all that was written does.
void RequireAgrees(const CidrList& list, const std::vector<Cidr>& written) {
  std::vector<SocketAddress> asked = {
      SocketAddress(), SocketAddress::Ipv4Any(1), SocketAddress::Ipv6Any(1),
      SocketAddress::Ipv4Loopback(1), SocketAddress::Ipv6Loopback(1)};
  for (const Cidr& cidr : written) {
    if (asked.size() >= kAskedMax) break;
    asked.push_back(cidr.first_address());
    asked.push_back(Neighbour(cidr.first_address(), false));
    asked.push_back(Neighbour(cidr.first_address(), true));
  }
  for (const SocketAddress& address : asked) {
    const bool is_expected =
        std::any_of(written.begin(), written.end(),
                    [&](const Cidr& cidr) { return cidr.Contains(address); });
    Require(list.Contains(address) == is_expected,
            "a list contains what its entries contain");
  }
}

void Try(absl::string_view text) {
  std::vector<Cidr> written;
  bool has_bad_entry = false;
  for (const absl::string_view entry : absl::StrSplit(
           text, absl::ByAnyChar(", \t\n\v\f\r"), absl::SkipEmpty())) {
    const absl::StatusOr<Cidr> cidr = Cidr::Parse(entry);
    if (!cidr.ok()) {
      RequireOneShortLine(cidr.status());
      has_bad_entry = true;
      continue;
    }
    RequireIsSound(*cidr);
    written.push_back(*cidr);
  }
  const absl::StatusOr<CidrList> list = ParseCidrList(text);
  if (!list.ok()) {
    RequireOneShortLine(list.status());
    return;
  }
  Require(!has_bad_entry, "a list with a bad entry is refused");
  Require(
      written.size() <= kCidrListEntriesMax && text.size() <= kCidrListBytesMax,
      "a list is bounded");
  Require(list->empty() == absl::StripAsciiWhitespace(text).empty(),
          "only a list of nothing is empty");
  const absl::StatusOr<CidrList> again = ParseCidrList(list->ToString());
  Require(again.ok() && *again == *list,
          "a list prints to what parses to the same");
  Require(CidrList(written) == *list, "the order does not matter");
  RequireAgrees(*list, written);
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
