// Which addresses a lookup finds.
#include "udpgate/dns/host_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/dns/host_lookup_fixture.h"

namespace udpgate {
namespace {

using test::HostLookupTest;
using test::kLong;
using test::LookupResult;
using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST_F(HostLookupTest, ReturnsAnIpAddressInline) {
  dns_.Hold();
  const auto lookup = Make();
  for (const char* ip : {"10.0.0.5", "::1", "fe80::1%lo"}) {
    LookupResult result;
    lookup->Lookup(ip, kLong, result.Catch());
    EXPECT_EQ(result.count(), 1);
    EXPECT_THAT(result.ips(), ElementsAre(ip));
  }
}

TEST_F(HostLookupTest, RejectsAnInvalidNameInline) {
  const auto lookup = Make();
  for (const absl::string_view host :
       {absl::string_view(""), absl::string_view("a..b"),
        absl::string_view("a b"), absl::string_view("1.2.3"),
        absl::string_view("a\0b", 3)}) {
    LookupResult result;
    lookup->Lookup(host, kLong, result.Catch());
    EXPECT_EQ(result.count(), 1);
    EXPECT_EQ(result.code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(HostLookupTest, FindsBothFamiliesIpv4First) {
  dns_.Set("lobby.test", {"fd00::5", "10.0.0.5", "fd00::6", "10.0.0.6"});
  EXPECT_THAT(Find(Make().get(), "Lobby.Test"),
              ElementsAre("10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"));
}

TEST_F(HostLookupTest, SortsAddressesWithoutARouteLast) {
  dns_.Set("lobby.test", {"10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"});
  options_.has_route = [](const SocketAddress& ip) { return ip.is_ipv6(); };
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("fd00::5", "fd00::6", "10.0.0.5", "10.0.0.6"));
  options_.has_route = [](const SocketAddress& ip) {
    return ip.IpToString().back() == '6';
  };
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("10.0.0.6", "fd00::6", "10.0.0.5", "fd00::5"));
  options_.has_route = [](const SocketAddress&) { return false; };
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"));
}

// Every kernel refuses broadcast, and a link-local address without interface.
TEST_F(HostLookupTest, AsksTheKernelForTheRoute) {
  dns_.Set("lobby.test", {"255.255.255.255", "127.0.0.5", "fe80::5"});
  options_.has_route = nullptr;
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("127.0.0.5", "255.255.255.255", "fe80::5"));
}

// One family's response never comes. Queries would time out after a minute.
class SwallowedFamilyTest : public HostLookupTest,
                            public ::testing::WithParamInterface<int> {};

INSTANTIATE_TEST_SUITE_P(Both, SwallowedFamilyTest,
                         ::testing::Values(AF_INET, AF_INET6),
                         [](const ::testing::TestParamInfo<int>& family) {
                           return std::string(family.param == AF_INET ? "A"
                                                                      : "AAAA");
                         });

TEST_P(SwallowedFamilyTest, TheOtherFamilyIsUsedAfterTheGrace) {
  dns_.Set("lobby.test", {"10.0.0.5", "fd00::5"});
  dns_.Swallow(GetParam());
  const auto lookup = Make();
  const std::string other = GetParam() == AF_INET ? "fd00::5" : "10.0.0.5";
  const absl::Time before = absl::Now();
  EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre(other));
  EXPECT_GE(absl::Now() - before, options_.family_grace);
}

TEST_P(SwallowedFamilyTest, IsAwaitedIfThereIsNoRouteToTheOther) {
  dns_.Set("lobby.test", {"10.0.0.5", "fd00::5"});
  dns_.Swallow(GetParam());
  options_.has_route = [](const SocketAddress& ip) {
    return ip.family() == GetParam();
  };
  options_.attempt_timeout = absl::Milliseconds(300);
  options_.attempts_max = 2;
  const auto lookup = Make();
  LookupResult result;
  lookup->Lookup("lobby.test", kLong, result.Catch());
  ASSERT_TRUE(
      test::AwaitTrue([&] { return dns_.answer_count("lobby.test") == 1; }));
  dns_.Swallow(0);  // the second attempt is answered
  ASSERT_TRUE(result.Await());
  EXPECT_THAT(result.ips(), SizeIs(2));
}

TEST_P(SwallowedFamilyTest, AnUnknownNameIsNotAwaitedForLong) {
  dns_.Swallow(GetParam());
  options_.attempts_max = 1;
  if (GetParam() == AF_INET) options_.attempt_timeout = absl::Seconds(1);
  EXPECT_EQ(FindError(Make().get(), "missing.test"),
            absl::StatusCode::kNotFound);
}

// RFC 4074, section 4.2: some servers report no such name if it has no IPv6
// address.
TEST_F(HostLookupTest, AnAddressPrevailsOverNoSuchName) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.FailFamilyWith(AF_INET6, 3);
  EXPECT_THAT(Find(Make().get(), "lobby.test"), ElementsAre("10.0.0.5"));
}

TEST_F(HostLookupTest, KeepsAFewAddressesOfALongResponse) {
  std::vector<std::string> ips;
  for (int i = 0; i < 12; ++i) {
    ips.push_back(absl::StrCat("10.0.0.", i));
    ips.push_back(absl::StrCat("fd00::", i));
  }
  dns_.Set("crowd.test", ips);
  const std::vector<std::string> found = Find(Make().get(), "crowd.test");
  ASSERT_THAT(found, SizeIs(16));
  EXPECT_EQ(found[7], "10.0.0.7");
  EXPECT_EQ(found[15], "fd00::7");
}

TEST_F(HostLookupTest, FindsANameWithOneFamily) {
  dns_.Set("six.test", {"fd00::5"});
  dns_.Set("four.test", {"10.0.0.5"});
  dns_.Set("under_score.test", {"10.0.0.7"});
  const auto lookup = Make();
  EXPECT_THAT(Find(lookup.get(), "six.test"), ElementsAre("fd00::5"));
  EXPECT_THAT(Find(lookup.get(), "four.test"), ElementsAre("10.0.0.5"));
  EXPECT_THAT(Find(lookup.get(), "under_score.test"), ElementsAre("10.0.0.7"));
}

TEST_F(HostLookupTest, FindsLocalhostWithoutAQuery) {
  dns_.Hold();
  const std::vector<std::string> ips = Find(Make().get(), "localhost");
  EXPECT_EQ(ips.front(), "127.0.0.1");
  EXPECT_EQ(dns_.query_count("localhost"), 0);
}

TEST_F(HostLookupTest, ReportsErrorsOfTheServer) {
  dns_.Set("empty.test", {});
  const auto lookup = Make();
  EXPECT_EQ(FindError(lookup.get(), "missing.test"),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(FindError(lookup.get(), "empty.test"), absl::StatusCode::kNotFound);
  dns_.FailWith(5);  // refused
  EXPECT_EQ(FindError(lookup.get(), "refused.test"),
            absl::StatusCode::kUnavailable);
  dns_.FailWith(2);  // server failure
  EXPECT_EQ(FindError(lookup.get(), "failing.test"),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace udpgate
