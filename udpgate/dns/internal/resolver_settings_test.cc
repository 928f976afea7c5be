#include "udpgate/dns/internal/resolver_settings.h"

#include <stdio.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace dns {
namespace internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(ReadResolvConfOptionsTest, ReadsTheOptionsOfResolvConf) {
  const ResolvConfOptions options = ReadResolvConfOptions(
      "nameserver 10.0.0.1\n# options timeout:7\noptionstimeout:8\n"
      "options ndots:2 timeout:1\toptions\noptions\tattempts:4 rotate\r\n",
      "");
  EXPECT_EQ(options.attempt_timeout, absl::Seconds(1));
  EXPECT_EQ(options.attempts, 4);
  EXPECT_EQ(options.ndots, 2);
}

TEST(ReadResolvConfOptionsTest, LeavesAbsentOptionsUnset) {
  for (const char* text : {"", "options", "options timeout: attempts:x\n",
                           "nameserver 10.0.0.1\nsearch timeout:1\n"}) {
    const ResolvConfOptions options = ReadResolvConfOptions(text, "");
    EXPECT_FALSE(options.attempt_timeout.has_value()) << text;
    EXPECT_FALSE(options.attempts.has_value()) << text;
    EXPECT_FALSE(options.ndots.has_value()) << text;
  }
}

TEST(ReadResolvConfOptionsTest, TheEnvironmentTakesPrecedence) {
  const ResolvConfOptions options =
      ReadResolvConfOptions("options timeout:2 attempts:2\n", "timeout:3");
  EXPECT_EQ(options.attempt_timeout, absl::Seconds(3));
  EXPECT_EQ(options.attempts, 2);
}

TEST(ReadResolvConfOptionsTest, ValuesAreLimitedAsInGlibc) {
  ResolvConfOptions options =
      ReadResolvConfOptions("options timeout:99 attempts:99 ndots:99", "");
  EXPECT_EQ(options.attempt_timeout, absl::Seconds(30));
  EXPECT_EQ(options.attempts, 5);
  EXPECT_EQ(options.ndots, 15);
  options = ReadResolvConfOptions("options timeout:0 attempts:-1", "");
  EXPECT_EQ(options.attempt_timeout, absl::Seconds(1));
  EXPECT_EQ(options.attempts, 1);
}

TEST(ReadSearchDomainsTest, TheLastLineCounts) {
  EXPECT_THAT(ReadSearchDomains("search a.test b.test\n", absl::nullopt, ""),
              ElementsAre("a.test", "b.test"));
  EXPECT_THAT(ReadSearchDomains("nameserver 10.0.0.1\nsearch a.test\n"
                                "domain\tb.test c.test # search d.test\r\n"
                                ";search e.test\nsearch\nsearchf.test\n",
                                absl::nullopt, "host.g.test"),
              ElementsAre("b.test"));
}

TEST(ReadSearchDomainsTest, TheEnvironmentTakesPrecedence) {
  EXPECT_THAT(ReadSearchDomains("search a.test\n", "b.test c.test", ""),
              ElementsAre("b.test", "c.test"));
  EXPECT_THAT(ReadSearchDomains("search a.test\n", "", "host.g.test"),
              IsEmpty());
}

TEST(ReadSearchDomainsTest, TheDomainOfTheHostIsTheDefault) {
  EXPECT_THAT(ReadSearchDomains("", absl::nullopt, "host.g.test"),
              ElementsAre("g.test"));
  EXPECT_THAT(ReadSearchDomains("", absl::nullopt, "host"), IsEmpty());
}

TEST(ReadSourcesTest, ReadsTheLineOfHosts) {
  EXPECT_EQ(ReadSources("passwd: files\nhosts:\tdns files\n"), "bf");
  EXPECT_EQ(ReadSources("hosts: files dns # hosts: dns"), "fb");
  EXPECT_EQ(
      ReadSources(" hosts: mymachines resolve [!UNAVAIL=return] files dns"),
      "bf");
  EXPECT_EQ(ReadSources("hosts: dns\n"), "b");
  EXPECT_EQ(ReadSources("hosts: files\n"), "f");
}

TEST(ReadSourcesTest, HasADefault) {
  for (const char* text : {"", "hosts:", "#hosts: dns\n", "hosts: db mdns4"}) {
    EXPECT_EQ(ReadSources(text), "fb") << text;
  }
}

TEST(SearchNamesTest, ANameWithFewDotsIsSearchedForFirst) {
  EXPECT_THAT(SearchNames("lobby", {"a.test", "b.test."}, 1),
              ElementsAre("lobby.a.test", "lobby.b.test", "lobby"));
  EXPECT_THAT(SearchNames("lobby.game", {"a.test"}, 2),
              ElementsAre("lobby.game.a.test", "lobby.game"));
}

TEST(SearchNamesTest, ANameWithEnoughDotsIsAskedForFirst) {
  EXPECT_THAT(SearchNames("lobby.game", {"a.test"}, 1),
              ElementsAre("lobby.game", "lobby.game.a.test"));
  EXPECT_THAT(SearchNames("lobby", {"a.test"}, 0),
              ElementsAre("lobby", "lobby.a.test"));
}

TEST(SearchNamesTest, ADotInTheListIsTheNameItself) {
  EXPECT_THAT(SearchNames("lobby", {"."}, 1), ElementsAre("lobby"));
  EXPECT_THAT(SearchNames("lobby", {".", "a.test"}, 1),
              ElementsAre("lobby", "lobby.a.test"));
  EXPECT_THAT(SearchNames("lobby", {".a.test"}, 1),
              ElementsAre("lobby.a.test", "lobby"));
}

TEST(SearchNamesTest, ANameThatEndsInADotIsComplete) {
  EXPECT_THAT(SearchNames("lobby.", {"a.test"}, 1), ElementsAre("lobby"));
}

TEST(SearchNamesTest, TheListAndItsNamesAreLimited) {
  std::vector<std::string> domains;
  for (int i = 0; i < 100; ++i) domains.push_back(absl::StrCat("d", i));
  EXPECT_THAT(SearchNames("lobby", domains, 1), SizeIs(33));
  EXPECT_THAT(SearchNames("lobby", {std::string(250, 'x')}, 1),
              ElementsAre("lobby"));
}

TEST(ReadResolverFilesTest, ShowsAChangeInPlaceAndAReplacement) {
  test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/resolv.conf";
  EXPECT_EQ(ReadResolverFiles(path).resolv_conf, "");
  std::ofstream(path) << "nameserver 10.0.0.1\n";
  const ResolverFiles first = ReadResolverFiles(path);
  EXPECT_EQ(first.resolv_conf, "nameserver 10.0.0.1\n");
  EXPECT_TRUE(first == ReadResolverFiles(path));
  // As long as before, and maybe within the same tick of the file system.
  std::ofstream(path) << "nameserver 10.0.0.2\n";
  const ResolverFiles second = ReadResolverFiles(path);
  EXPECT_FALSE(first == second);
  const std::string other = directory.path() + "/other";
  std::ofstream(other) << "nameserver 10.0.0.3\n";
  ASSERT_EQ(rename(other.c_str(), path.c_str()), 0);
  EXPECT_FALSE(second == ReadResolverFiles(path));
}

}  // namespace
}  // namespace internal
}  // namespace dns
}  // namespace udpgate
