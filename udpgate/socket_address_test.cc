#include "udpgate/socket_address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "absl/hash/hash_testing.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

SocketAddress Parsed(absl::string_view text) {
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.value_or(SocketAddress());
}

// Through a sockaddr of this family and back.
SocketAddress ThroughSockaddr(const SocketAddress& address, int family) {
  sockaddr_storage storage;
  std::memset(&storage, 0xab, sizeof(storage));  // as the stack may hold it
  const socklen_t size = address.ToSockaddr(family, &storage);
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&storage),
                                     size);
}

struct GoodText {
  const char* text;
  const char* printed;
};

class ParseGoodTest : public ::testing::TestWithParam<GoodText> {};

TEST_P(ParseGoodTest, IsPrintedInItsOneForm) {
  EXPECT_EQ(Parsed(GetParam().text).ToString(), GetParam().printed);
}

TEST_P(ParseGoodTest, WhatIsPrintedParsesToTheSame) {
  const SocketAddress address = Parsed(GetParam().text);
  EXPECT_EQ(Parsed(address.ToString()), address);
}

TEST_P(ParseGoodTest, SurvivesSockaddrOfBothFamilies) {
  const SocketAddress address = Parsed(GetParam().text);
  EXPECT_EQ(ThroughSockaddr(address, address.family()), address);
  EXPECT_EQ(ThroughSockaddr(address, AF_INET6), address);
}

INSTANTIATE_TEST_SUITE_P(
    All, ParseGoodTest,
    ::testing::Values(
        GoodText{"1.2.3.4:54321", "1.2.3.4:54321"},
        GoodText{"0.0.0.0:0", "0.0.0.0:0"},
        GoodText{"255.255.255.255:65535", "255.255.255.255:65535"},
        GoodText{"127.0.0.1:00080", "127.0.0.1:80"},
        GoodText{"[::1]:19132", "[::1]:19132"}, GoodText{"[::]:0", "[::]:0"},
        GoodText{"[2001:DB8:0:0:0:0:0:1]:1", "[2001:db8::1]:1"},
        GoodText{"[::1.2.3.4]:5", "[::1.2.3.4]:5"},
        GoodText{"[64:ff9b::1.2.3.4]:5", "[64:ff9b::102:304]:5"},
        // Folded, RFC 4291 section 2.5.5.2.
        GoodText{"[::ffff:1.2.3.4]:5", "1.2.3.4:5"},
        GoodText{"[::FFFF:102:304]:5", "1.2.3.4:5"},
        GoodText{"[::ffff:0:0]:5", "0.0.0.0:5"},
        // A scope belongs to link-local addresses, and to no other.
        GoodText{"[fe80::1%lo]:5", "[fe80::1%lo]:5"},
        GoodText{"[ff02::1%lo]:5", "[ff02::1%lo]:5"},
        GoodText{"[fe80::1%999999]:5", "[fe80::1%999999]:5"},
        GoodText{"[fe80::1%0]:5", "[fe80::1]:5"},
        GoodText{"[fe80::1]:5", "[fe80::1]:5"},
        GoodText{"[2001:db8::1%lo]:5", "[2001:db8::1]:5"},
        GoodText{"[::ffff:1.2.3.4%lo]:5", "1.2.3.4:5"}));

class ParseBadTest : public ::testing::TestWithParam<absl::string_view> {};

TEST_P(ParseBadTest, IsInvalidArgumentThatQuotesTheText) {
  const absl::Status status = SocketAddress::Parse(GetParam()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StartsWith(status.message(), "\"")) << status;
  EXPECT_LT(status.message().size(), 500u);
  for (const char c : status.message()) {
    EXPECT_TRUE(c >= ' ' && c <= '~') << "unprintable: " << int{c};
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ParseBadTest,
    ::testing::Values(
        "", ":", "::", "[]", "[]:", "[]:5", ":5", "1.2.3.4", "1.2.3.4:",
        "1.2.3.4:x", "1.2.3.4:-1", "1.2.3.4:+1", "1.2.3.4: 1", "1.2.3.4:1 ",
        " 1.2.3.4:1", "1.2.3.4:65536", "1.2.3.4:99999", "1.2.3.4:100000",
        "1.2.3.4:000080", "1.2.3.4:4294967297", "1.2.3.4:0x50", "1.2.3.4:8e1",
        "1.2.3.4:1:2", "1.2.3:5", "1.2.3.4.5:5", "256.2.3.4:5", "1.2.3.04:5",
        "0x7f.1:5", "2130706433:5", "localhost:5", "-1:5", "[1.2.3.4]:5",
        "::1:5", "[::1:5", "::1]:5", "[[::1]]:5", "[::1]]:5", "[::1]5", "[::1]",
        "[::1]:", "[::1] :5", "[ ::1]:5", "[::1]:65536", "[:::1]:5",
        "[1::2::3]:5", "[12345::]:5", "[g::]:5", "[1:2:3:4:5:6:7]:5",
        "[1:2:3:4:5:6:7:8:9]:5", "[fe80::1%]:5", "[fe80::1% 1]:5",
        "[fe80::1%+1]:5", "[fe80::1%-1]:5", "[fe80::1%nosuchinterface]:5",
        "[fe80::1%4294967296]:5", "[fe80::1%lo%lo]:5", "[fe80::1%lo:1]:5",
        "1.2.3.4%lo:5", "[%lo]:5", absl::string_view("1.2.3.4\0:5", 10),
        absl::string_view("1.2.3.4:5\0", 10),
        absl::string_view("\0001.2.3.4:5", 10),
        absl::string_view("[::1\0]:5", 8),
        absl::string_view("[fe80::1%lo\0]:5", 15), "1.2.3.4:5\n",
        "\xff\xfe\x80:5", "\xd9\xa1.2.3.4:5"));

TEST(SocketAddressParseTest, LongTextIsQuotedInPart) {
  const absl::Status status =
      SocketAddress::Parse(std::string(1 << 20, '\x01')).status();
  EXPECT_LT(status.message().size(), 500u);
  EXPECT_TRUE(absl::StrContains(status.message(), "...")) << status;
}

TEST(SocketAddressParseTest, EveryPortRoundTrips) {
  for (int port = 0; port <= 65535; ++port) {
    const std::string text = absl::StrCat("10.1.2.3:", port);
    const SocketAddress address = Parsed(text);
    ASSERT_EQ(address.port(), port);
    ASSERT_EQ(address.ToString(), text);
  }
}

TEST(SocketAddressTest, DefaultIsInvalid) {
  const SocketAddress none;
  EXPECT_FALSE(none.is_valid());
  EXPECT_FALSE(none.is_ipv4());
  EXPECT_FALSE(none.is_ipv6());
  EXPECT_FALSE(none.is_any());
  EXPECT_FALSE(none.is_loopback());
  EXPECT_FALSE(none.is_multicast());
  EXPECT_EQ(none.family(), 0);
  EXPECT_EQ(none.ToString(), "(none)");
  EXPECT_EQ(none.IpToString(), "(none)");
  sockaddr_storage storage;
  EXPECT_EQ(none.ToSockaddr(AF_INET, &storage), 0u);
  EXPECT_EQ(none.ToSockaddr(AF_INET6, &storage), 0u);
}

TEST(SocketAddressTest, NamedConstructors) {
  EXPECT_EQ(SocketAddress::Ipv4Loopback(7).ToString(), "127.0.0.1:7");
  EXPECT_EQ(SocketAddress::Ipv4Any(7).ToString(), "0.0.0.0:7");
  EXPECT_EQ(SocketAddress::Ipv6Loopback(7).ToString(), "[::1]:7");
  EXPECT_EQ(SocketAddress::Ipv6Any(7).ToString(), "[::]:7");
}

TEST(SocketAddressTest, FromIpAndPortTakesNoBrackets) {
  EXPECT_EQ(SocketAddress::FromIpAndPort("1.2.3.4", 5)->ToString(),
            "1.2.3.4:5");
  EXPECT_EQ(SocketAddress::FromIpAndPort("::1", 5)->ToString(), "[::1]:5");
  EXPECT_FALSE(SocketAddress::FromIpAndPort("[::1]", 5).ok());
  EXPECT_FALSE(SocketAddress::FromIpAndPort("", 5).ok());
  EXPECT_FALSE(SocketAddress::FromIpAndPort("1.2.3.4:5", 5).ok());
}

TEST(SocketAddressTest, IpBytesAreInNetworkOrder) {
  const SocketAddress ipv4 = Parsed("1.2.3.4:5");
  EXPECT_EQ(ipv4.ip_bytes()[0], 1);
  EXPECT_EQ(ipv4.ip_bytes()[3], 4);
  EXPECT_EQ(ipv4.ip_bytes()[4], 0);
  const SocketAddress ipv6 = Parsed("[2001:db8::9]:5");
  EXPECT_EQ(ipv6.ip_bytes()[0], 0x20);
  EXPECT_EQ(ipv6.ip_bytes()[15], 9);
}

TEST(SocketAddressTest, WithPortChangesNothingElse) {
  const SocketAddress address = Parsed("[fe80::1%lo]:5");
  EXPECT_EQ(address.WithPort(6).ToString(), "[fe80::1%lo]:6");
  EXPECT_EQ(address.WithPort(6).WithPort(5), address);
}

TEST(SocketAddressTest, Classes) {
  EXPECT_TRUE(Parsed("0.0.0.0:1").is_any());
  EXPECT_TRUE(Parsed("[::]:1").is_any());
  EXPECT_FALSE(Parsed("[::1]:0").is_any());
  EXPECT_FALSE(Parsed("0.0.0.1:0").is_any());
  EXPECT_TRUE(Parsed("127.0.0.1:1").is_loopback());
  EXPECT_TRUE(Parsed("127.255.3.4:1").is_loopback());
  EXPECT_TRUE(Parsed("[::1]:1").is_loopback());
  EXPECT_TRUE(Parsed("[::ffff:127.0.0.1]:1").is_loopback());
  EXPECT_FALSE(Parsed("128.0.0.1:1").is_loopback());
  EXPECT_FALSE(Parsed("[::2]:1").is_loopback());
  for (const char* host : {"1.2.3.4:0", "127.0.0.1:1", "255.255.255.254:1",
                           "240.0.0.1:1", "[::1]:1", "[2001:db8::1]:1"}) {
    EXPECT_TRUE(Parsed(host).is_unicast()) << host;
  }
  for (const char* other : {"0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1",
                            "[::]:1", "[ff02::1]:1"}) {
    EXPECT_FALSE(Parsed(other).is_unicast()) << other;
  }
  EXPECT_FALSE(SocketAddress().is_unicast());
  EXPECT_TRUE(Parsed("224.0.0.1:1").is_multicast());
  EXPECT_TRUE(Parsed("239.255.255.255:1").is_multicast());
  EXPECT_TRUE(Parsed("[ff02::1]:1").is_multicast());
  EXPECT_FALSE(Parsed("223.255.255.255:1").is_multicast());
  EXPECT_FALSE(Parsed("240.0.0.1:1").is_multicast());
  EXPECT_FALSE(Parsed("[fe80::1]:1").is_multicast());
}

TEST(SocketAddressTest, IpToStringHasNeitherPortNorBrackets) {
  EXPECT_EQ(Parsed("1.2.3.4:5").IpToString(), "1.2.3.4");
  EXPECT_EQ(Parsed("[::1]:5").IpToString(), "::1");
  EXPECT_EQ(Parsed("[fe80::1%lo]:5").IpToString(), "fe80::1%lo");
}

TEST(SocketAddressTest, ToSockaddrFillsAnIpv4Socket) {
  sockaddr_storage storage;
  ASSERT_EQ(Parsed("1.2.3.4:5").ToSockaddr(AF_INET, &storage),
            sizeof(sockaddr_in));
  const auto* ipv4 = reinterpret_cast<const sockaddr_in*>(&storage);
  EXPECT_EQ(ipv4->sin_family, AF_INET);
  EXPECT_EQ(ntohs(ipv4->sin_port), 5);
  EXPECT_EQ(ntohl(ipv4->sin_addr.s_addr), 0x01020304u);
}

TEST(SocketAddressTest, ToSockaddrMapsIpv4ForAnIpv6Socket) {
  sockaddr_storage storage;
  ASSERT_EQ(Parsed("1.2.3.4:5").ToSockaddr(AF_INET6, &storage),
            sizeof(sockaddr_in6));
  const auto* ipv6 = reinterpret_cast<const sockaddr_in6*>(&storage);
  EXPECT_EQ(ipv6->sin6_family, AF_INET6);
  EXPECT_EQ(ntohs(ipv6->sin6_port), 5);
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr));
  EXPECT_EQ(ipv6->sin6_addr.s6_addr[15], 4);
  EXPECT_EQ(ipv6->sin6_scope_id, 0u);
}

TEST(SocketAddressTest, ToSockaddrKeepsTheScope) {
  sockaddr_storage storage;
  ASSERT_EQ(Parsed("[fe80::1%lo]:5").ToSockaddr(AF_INET6, &storage),
            sizeof(sockaddr_in6));
  EXPECT_EQ(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_scope_id,
            if_nametoindex("lo"));
}

TEST(SocketAddressTest, ToSockaddrRefusesWhatTheFamilyCannotExpress) {
  sockaddr_storage storage;
  EXPECT_EQ(Parsed("[::1]:5").ToSockaddr(AF_INET, &storage), 0u);
  EXPECT_EQ(Parsed("1.2.3.4:5").ToSockaddr(AF_UNIX, &storage), 0u);
  EXPECT_EQ(Parsed("1.2.3.4:5").ToSockaddr(AF_UNSPEC, &storage), 0u);
}

TEST(SocketAddressTest, FromSockaddrRefusesWhatIsNotAWholeAddress) {
  sockaddr_storage storage;
  auto* generic = reinterpret_cast<sockaddr*>(&storage);
  socklen_t size = Parsed("1.2.3.4:5").ToSockaddr(AF_INET, &storage);
  EXPECT_TRUE(SocketAddress::FromSockaddr(generic, size).is_valid());
  EXPECT_FALSE(SocketAddress::FromSockaddr(generic, size - 1).is_valid());
  EXPECT_FALSE(SocketAddress::FromSockaddr(generic, 0).is_valid());
  size = Parsed("[::1]:5").ToSockaddr(AF_INET6, &storage);
  EXPECT_TRUE(SocketAddress::FromSockaddr(generic, size).is_valid());
  EXPECT_FALSE(SocketAddress::FromSockaddr(generic, size - 1).is_valid());
  EXPECT_FALSE(
      SocketAddress::FromSockaddr(generic, sizeof(sockaddr_in)).is_valid());
  EXPECT_FALSE(SocketAddress::FromSockaddr(nullptr, 0).is_valid());
  generic->sa_family = AF_UNIX;
  EXPECT_FALSE(
      SocketAddress::FromSockaddr(generic, sizeof(sockaddr_un)).is_valid());
}

TEST(SocketAddressTest, FlowLabelIsNoPartOfTheIdentity) {
  sockaddr_storage storage;
  const SocketAddress address = Parsed("[2001:db8::1]:5");
  const socklen_t size = address.ToSockaddr(AF_INET6, &storage);
  reinterpret_cast<sockaddr_in6*>(&storage)->sin6_flowinfo = 0x1234;
  EXPECT_EQ(
      SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&storage), size),
      address);
}

TEST(SocketAddressTest, EqualityAndHashAgree) {
  EXPECT_TRUE(absl::VerifyTypeImplementsAbslHashCorrectly({
      SocketAddress(),
      Parsed("1.2.3.4:5"),
      Parsed("[::ffff:1.2.3.4]:5"),
      Parsed("1.2.3.4:6"),
      Parsed("1.2.3.5:5"),
      Parsed("0.0.0.0:0"),
      Parsed("[::]:0"),
      Parsed("[102:304::]:5"),
      Parsed("[fe80::1]:5"),
      Parsed("[fe80::1%lo]:5"),
      Parsed("[fe80::1%999999]:5"),
  }));
  EXPECT_EQ(Parsed("1.2.3.4:5"), Parsed("[::ffff:1.2.3.4]:5"));
  EXPECT_NE(Parsed("1.2.3.4:5"), Parsed("[102:304::]:5"));
  EXPECT_NE(Parsed("[fe80::1]:5"), Parsed("[fe80::1%lo]:5"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
