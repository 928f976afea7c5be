#include "udpgate/cidr.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

Cidr Parsed(absl::string_view text) {
  absl::StatusOr<Cidr> cidr = Cidr::Parse(text);
  EXPECT_TRUE(cidr.ok()) << cidr.status();
  return cidr.ok() ? *cidr : *Cidr::Parse("0.0.0.0/32");
}

CidrList ParsedList(absl::string_view text) {
  absl::StatusOr<CidrList> list = ParseCidrList(text);
  EXPECT_TRUE(list.ok()) << list.status();
  return list.value_or(CidrList());
}

// A client of this IP.
SocketAddress Client(absl::string_view ip) {
  absl::StatusOr<SocketAddress> address =
      SocketAddress::FromIpAndPort(ip, 54321);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.value_or(SocketAddress());
}

struct GoodText {
  const char* text;
  const char* printed;
};

class CidrGoodTest : public ::testing::TestWithParam<GoodText> {};

TEST_P(CidrGoodTest, IsPrintedInItsOneForm) {
  EXPECT_EQ(Parsed(GetParam().text).ToString(), GetParam().printed);
}

TEST_P(CidrGoodTest, WhatIsPrintedParsesToTheSame) {
  const Cidr cidr = Parsed(GetParam().text);
  EXPECT_EQ(Parsed(cidr.ToString()), cidr);
}

TEST_P(CidrGoodTest, ContainsItsFirstAddress) {
  const Cidr cidr = Parsed(GetParam().text);
  EXPECT_TRUE(cidr.Contains(cidr.first_address()));
  EXPECT_TRUE(cidr.Contains(cidr));
}

INSTANTIATE_TEST_SUITE_P(
    All, CidrGoodTest,
    ::testing::Values(GoodText{"10.0.0.0/8", "10.0.0.0/8"},
                      GoodText{"0.0.0.0/0", "0.0.0.0/0"},
                      GoodText{"128.0.0.0/1", "128.0.0.0/1"},
                      GoodText{"255.255.255.254/31", "255.255.255.254/31"},
                      GoodText{"1.2.3.4/32", "1.2.3.4/32"},
                      GoodText{"1.2.3.4", "1.2.3.4/32"},
                      GoodText{"0.0.0.0", "0.0.0.0/32"},
                      GoodText{"::/0", "::/0"}, GoodText{"::", "::/128"},
                      GoodText{"::1", "::1/128"},
                      GoodText{"8000::/1", "8000::/1"},
                      GoodText{"2001:DB8:0::0/32", "2001:db8::/32"},
                      GoodText{"2001:db8:0:8000::/49", "2001:db8:0:8000::/49"},
                      GoodText{"fe80::/10", "fe80::/10"},
                      GoodText{"ffff:ffff::fffe/127", "ffff:ffff::fffe/127"},
                      // Folded, RFC 4291 section 2.5.5.2.
                      GoodText{"::ffff:1.2.3.4", "1.2.3.4/32"},
                      GoodText{"::ffff:1.2.3.4/128", "1.2.3.4/32"},
                      GoodText{"::FFFF:1.2.3.0/120", "1.2.3.0/24"},
                      GoodText{"::ffff:0:0/96", "0.0.0.0/0"},
                      // Not mapped, though close to it.
                      GoodText{"::fffe:0:0/95", "::fffe:0:0/95"},
                      GoodText{"::1.2.3.4", "::1.2.3.4/128"}));

struct BadText {
  absl::string_view text;
  absl::string_view why;
};

class CidrBadTest : public ::testing::TestWithParam<BadText> {};

TEST_P(CidrBadTest, IsInvalidArgumentThatQuotesTheTextAndSaysWhy) {
  const absl::Status status = Cidr::Parse(GetParam().text).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StartsWith(status.message(), "\"")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), GetParam().why)) << status;
  EXPECT_LT(status.message().size(), 500u);
}

constexpr absl::string_view kForm = "allowed are 1.2.3.0/24, 2001:db8::/32";
constexpr absl::string_view kLength4 = "behind the / must be 0 to 32";
constexpr absl::string_view kLength6 = "behind the / must be 0 to 128";

INSTANTIATE_TEST_SUITE_P(
    All, CidrBadTest,
    ::testing::Values(
        BadText{"", kForm}, BadText{"/", kForm}, BadText{"/8", kForm},
        BadText{"lobby", kForm}, BadText{"10.0.0/8", kForm},
        BadText{"10/8", kForm}, BadText{"010.0.0.0/8", kForm},
        BadText{"1.2.3.4:5", kForm}, BadText{"[::1]", kForm},
        BadText{"[::]/0", kForm}, BadText{" ::1", kForm},
        BadText{"1.2.3.4 ", kForm}, BadText{"10.0.0.0 /8", kForm},
        BadText{absl::string_view("1.2.3.4\0", 8), kForm},
        BadText{"10.0.0.0/", kLength4}, BadText{"10.0.0.0/33", kLength4},
        BadText{"10.0.0.0/-1", kLength4}, BadText{"10.0.0.0/+8", kLength4},
        BadText{"10.0.0.0/ 8", kLength4}, BadText{"10.0.0.0/8 ", kLength4},
        BadText{"10.0.0.0/08", kLength4}, BadText{"10.0.0.0/8/8", kLength4},
        BadText{"10.0.0.0/255.0.0.0", kLength4},
        BadText{"10.0.0.0/4294967304", kLength4}, BadText{"::/", kLength6},
        BadText{"::/129", kLength6}, BadText{"::ffff:1.2.3.4/129", kLength6},
        BadText{"fe80::1%lo", "interfaces"},
        BadText{"fe80::%lo/64", "interfaces"}, BadText{"::1%0", "interfaces"},
        BadText{"::ffff:10.0.0.0/8", "96 to 128"},
        BadText{"::ffff:0:0/95", "96 to 128"},
        BadText{"10.1.2.3/8", "is 10.0.0.0/8"},
        BadText{"255.255.255.255/0", "is 0.0.0.0/0"},
        BadText{"1.2.3.255/31", "is 1.2.3.254/31"},
        BadText{"2001:db8::1/32", "is 2001:db8::/32"},
        BadText{"2001:db8::ffff/121", "is 2001:db8::ff80/121"},
        BadText{"::1/0", "is ::/0"},
        BadText{"::ffff:10.1.2.3/104", "is 10.0.0.0/8"}));

TEST(CidrTest, ContainsExactlyItsRange) {
  struct Case {
    const char* cidr;
    const char* before;
    const char* first;
    const char* last;
    const char* after;
  };
  for (const Case& c : std::vector<Case>{
           {"10.0.0.0/8", "9.255.255.255", "10.0.0.0", "10.255.255.255",
            "11.0.0.0"},
           {"10.32.0.0/11", "10.31.255.255", "10.32.0.0", "10.63.255.255",
            "10.64.0.0"},
           {"1.2.3.4/31", "1.2.3.3", "1.2.3.4", "1.2.3.5", "1.2.3.6"},
           {"1.2.3.4/32", "1.2.3.3", "1.2.3.4", "1.2.3.4", "1.2.3.5"},
           {"128.0.0.0/1", "127.255.255.255", "128.0.0.0", "255.255.255.255",
            "127.0.0.1"},
           {"2001:db8::/32", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::"},
           {"2001:db8::20/123", "2001:db8::1f", "2001:db8::20", "2001:db8::3f",
            "2001:db8::40"},
           {"::1/128", "::", "::1", "::1", "::2"},
       }) {
    const Cidr cidr = Parsed(c.cidr);
    EXPECT_FALSE(cidr.Contains(Client(c.before))) << c.cidr;
    EXPECT_TRUE(cidr.Contains(Client(c.first))) << c.cidr;
    EXPECT_TRUE(cidr.Contains(Client(c.last))) << c.cidr;
    EXPECT_FALSE(cidr.Contains(Client(c.after))) << c.cidr;
  }
}

TEST(CidrTest, LengthZeroContainsItsWholeFamilyAndNoOther) {
  EXPECT_TRUE(Parsed("0.0.0.0/0").Contains(Client("255.255.255.255")));
  EXPECT_TRUE(Parsed("0.0.0.0/0").Contains(Client("::ffff:1.2.3.4")));
  EXPECT_FALSE(Parsed("0.0.0.0/0").Contains(Client("::1")));
  EXPECT_TRUE(Parsed("::/0").Contains(Client("ffff::1")));
  EXPECT_FALSE(Parsed("::/0").Contains(Client("1.2.3.4")));
  EXPECT_FALSE(Parsed("::/0").Contains(Client("::ffff:1.2.3.4")));
  EXPECT_FALSE(Parsed("0.0.0.0/0").Contains(SocketAddress()));
  EXPECT_FALSE(Parsed("::/0").Contains(SocketAddress()));
}

TEST(CidrTest, PortAndInterfaceDoNotMatter) {
  EXPECT_TRUE(Parsed("1.2.3.4").Contains(Client("1.2.3.4").WithPort(0)));
  EXPECT_TRUE(Parsed("fe80::/10").Contains(Client("fe80::1%lo")));
  EXPECT_TRUE(Parsed("fe80::1").Contains(Client("fe80::1%999999")));
}

TEST(CidrTest, ContainsCidrsInsideIt) {
  EXPECT_TRUE(Parsed("10.0.0.0/8").Contains(Parsed("10.1.0.0/16")));
  EXPECT_FALSE(Parsed("10.1.0.0/16").Contains(Parsed("10.0.0.0/8")));
  EXPECT_FALSE(Parsed("10.0.0.0/8").Contains(Parsed("10.0.0.0/7")));
  EXPECT_FALSE(Parsed("10.0.0.0/8").Contains(Parsed("11.0.0.0/16")));
  EXPECT_FALSE(Parsed("0.0.0.0/0").Contains(Parsed("::/128")));
}

TEST(CidrTest, EqualityLooksAtFamilyAddressAndLength) {
  EXPECT_EQ(Parsed("::ffff:10.0.0.0/104"), Parsed("10.0.0.0/8"));
  EXPECT_NE(Parsed("10.0.0.0/8"), Parsed("10.0.0.0/9"));
  EXPECT_NE(Parsed("10.0.0.0/8"), Parsed("11.0.0.0/8"));
  EXPECT_NE(Parsed("0.0.0.0/0"), Parsed("::/0"));
}

TEST(CidrListTest, TakesCommasWhiteSpaceAndBoth) {
  const CidrList list = ParsedList("10.0.0.0/8,::1");
  EXPECT_EQ(list.ToString(), "10.0.0.0/8,::1/128");
  for (const char* same :
       {"10.0.0.0/8 ::1", " 10.0.0.0/8 , ::1 ", "10.0.0.0/8\n::1\n",
        "::1\t10.0.0.0/8", "10.0.0.0/8,::1,10.0.0.0/8",
        "10.0.0.0/8,::1 10.1.2.3, 10.4.0.0/16"}) {
    EXPECT_EQ(ParsedList(same), list) << same;
  }
  EXPECT_NE(ParsedList("10.0.0.0/8"), list);
}

TEST(CidrListTest, NothingIsTheEmptyListThatContainsNobody) {
  for (const char* text : {"", " ", " \t\r\n\v\f"}) {
    const CidrList list = ParsedList(text);
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(list.ToString(), "");
    EXPECT_EQ(list, CidrList());
    EXPECT_FALSE(list.Contains(Client("1.2.3.4")));
    EXPECT_FALSE(list.Contains(Client("::1")));
    EXPECT_FALSE(list.Contains(SocketAddress()));
  }
}

TEST(CidrListTest, ACommaWithoutEntryIsAnError) {
  for (const char* text : {",", " , ", "10.0.0.0/8,", ",10.0.0.0/8",
                           "10.0.0.0/8,,::1", "10.0.0.0/8, ,::1"}) {
    const absl::Status status = ParseCidrList(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_TRUE(absl::StrContains(status.message(), "missing")) << status;
  }
}

TEST(CidrListTest, NamesTheEntryThatIsWrong) {
  for (const char* text : {"10.0.0.0/8,1.2.3.4/33,::1", "1.2.3.4/33",
                           "::1 1.2.3.4/33", "10.0.0.0/8;1.2.3.4/33"}) {
    const absl::Status status = ParseCidrList(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_TRUE(absl::StrContains(status.message(), "1.2.3.4/33\"")) << status;
  }
}

TEST(CidrListTest, IsBounded) {
  std::vector<std::string> entries;
  for (size_t i = 0; i < kCidrListEntriesMax; ++i) {
    entries.push_back(absl::StrCat("10.0.", i / 256, ".", i % 256));
  }
  std::string text;
  for (const std::string& entry : entries) absl::StrAppend(&text, " ", entry);
  EXPECT_EQ(ParsedList(text).cidrs().size(), kCidrListEntriesMax);
  // Also where it is inside another and would take no room.
  const absl::Status too_many = ParseCidrList(text + " 10.0.0.0").status();
  EXPECT_EQ(too_many.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(too_many.message(), "1024 are allowed"))
      << too_many;

  std::string longest(kCidrListBytesMax, ' ');
  longest.replace(0, 3, "::1");
  EXPECT_EQ(ParsedList(longest).ToString(), "::1/128");
  const absl::Status too_long = ParseCidrList(longest + " ").status();
  EXPECT_EQ(too_long.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(too_long.message(), "65536 bytes")) << too_long;
  EXPECT_LT(too_long.message().size(), 500u);
}

TEST(CidrListTest, TheLongestOfAllListsPrintsToWhatParses) {
  std::string text;
  for (size_t i = 0; i < kCidrListEntriesMax; ++i) {
    absl::StrAppend(&text, absl::Hex(0x1000 + i),
                    ":1111:1111:1111:1111:1111:1111:1111/128 ");
  }
  const CidrList list = ParsedList(text);
  EXPECT_EQ(list.cidrs().size(), kCidrListEntriesMax);
  EXPECT_EQ(ParsedList(list.ToString()), list);
}

TEST(CidrListTest, DropsWhatIsInsideAnother) {
  EXPECT_EQ(ParsedList("10.1.0.0/16 10.0.0.0/8 10.0.0.0/16 10.255.255.255 "
                       "11.0.0.0/8 9.0.0.0/32 10.0.0.0/8")
                .ToString(),
            "9.0.0.0/32,10.0.0.0/8,11.0.0.0/8");
  EXPECT_EQ(ParsedList("::1 0.0.0.0/0 1.2.3.4 ::/0 ffff::").ToString(),
            "0.0.0.0/0,::/0");
}

TEST(CidrListTest, FindsTheNeighboursOfEveryEntry) {
  const CidrList list = ParsedList(
      "10.0.0.0/24 10.0.2.0/24 0.0.0.0 255.255.255.255 ::/127 "
      "fe80::/10 2001:db8::/32");
  for (const char* inside :
       {"10.0.0.0", "10.0.0.255", "10.0.2.0", "10.0.2.255", "0.0.0.0",
        "255.255.255.255", "::", "::1", "fe80::1%lo",
        "febf:ffff::", "2001:db8:ffff::", "::ffff:10.0.0.7"}) {
    EXPECT_TRUE(list.Contains(Client(inside))) << inside;
  }
  for (const char* outside :
       {"0.0.0.1", "9.255.255.255", "10.0.1.0", "10.0.1.255", "10.0.3.0",
        "255.255.255.254", "::2", "fec0::", "fe7f:ffff::", "2001:db9::",
        "2001:db7:ffff::", "ffff::", "::ffff:10.0.1.7"}) {
    EXPECT_FALSE(list.Contains(Client(outside))) << outside;
  }
}

// Against the plain rule: one of the entries contains it.
TEST(CidrListTest, AgreesWithALinearSearch) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Cidr> cidrs;
    const size_t count = random() % 20;
    while (cidrs.size() < count) {
      // Few distinct addresses, so that they overlap and touch.
      const bool is_ipv4 = random() % 2 == 0;
      const std::string ip =
          is_ipv4 ? absl::StrCat("10.0.0.", random() % 64)
                  : absl::StrCat("::a:", absl::Hex(random() % 64));
      const auto bits = (is_ipv4 ? 32u : 128u) - random() % 7;
      const absl::StatusOr<Cidr> cidr =
          Cidr::Parse(absl::StrCat(ip, "/", bits));
      if (cidr.ok()) cidrs.push_back(*cidr);
    }
    const CidrList list(cidrs);
    ASSERT_EQ(ParsedList(list.ToString()), list);
    for (int i = 0; i < 64; ++i) {
      for (const SocketAddress& client :
           {Client(absl::StrCat("10.0.0.", i)),
            Client(absl::StrCat("::a:", absl::Hex(i)))}) {
        const bool expected = std::any_of(
            cidrs.begin(), cidrs.end(),
            [&](const Cidr& cidr) { return cidr.Contains(client); });
        ASSERT_EQ(list.Contains(client), expected)
            << client.ToString() << " in " << list.ToString();
      }
    }
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate
