#include "udpgate/internal/relay_ports.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace {

SocketAddress Source(int last_byte) {
  return *SocketAddress::Parse(absl::StrCat("127.0.0.", last_byte, ":0"));
}

RelayOwner Owner(uint64_t id) { return {/*shard=*/1, {/*slot=*/2, id}}; }

TEST(RelayPortsTest, TakesThePortThatRestedLongest) {
  RelayPorts ports({10, 11, 12});
  EXPECT_EQ(ports.Take(Source(1), Owner(1)), 10);
  ports.GiveBack(Source(1), 10);
  EXPECT_EQ(ports.Take(Source(1), Owner(2)), 11);
  EXPECT_EQ(ports.Take(Source(1), Owner(3)), 12);
  EXPECT_EQ(ports.Take(Source(1), Owner(4)), 10);
  EXPECT_EQ(ports.Take(Source(1), Owner(5)), absl::nullopt);
  EXPECT_EQ(ports.in_use(), 3);
}

TEST(RelayPortsTest, KnowsWhoseAPortIs) {
  RelayPorts ports({10, 11});
  ports.Take(Source(1), Owner(77));
  const std::vector<RelayOwner> owners = ports.Find(10);
  ASSERT_EQ(owners.size(), 1u);
  EXPECT_EQ(owners[0].session.id, 77u);
  EXPECT_EQ(owners[0].shard, 1u);
  EXPECT_TRUE(ports.Find(11).empty());
  EXPECT_TRUE(ports.Find(9999).empty());
  ports.GiveBack(Source(1), 10);
  EXPECT_TRUE(ports.Find(10).empty());
}

TEST(RelayPortsTest, IsUniqueOverAllSourcesWhilePossible) {
  RelayPorts ports({10, 11, 12});
  std::set<uint16_t> taken;
  for (int source = 1; source <= 3; ++source) {
    EXPECT_TRUE(
        taken.insert(*ports.Take(Source(source), Owner(source))).second);
  }
  // From here on ports are shared, but never twice on one source.
  std::set<uint16_t> on_first = {10};
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(on_first.insert(*ports.Take(Source(1), Owner(10 + i))).second);
  }
  EXPECT_EQ(ports.Take(Source(1), Owner(20)), absl::nullopt);
  EXPECT_EQ(ports.in_use(), 5);
  EXPECT_EQ(ports.Find(11).size(), 2u) << "ambiguous, and it shows";

  // A shared port is free only when its last user has given it back.
  ports.GiveBack(Source(1), 11);
  EXPECT_EQ(ports.Find(11).size(), 1u);
  EXPECT_EQ(ports.Take(Source(1), Owner(30)), 11);
}

TEST(RelayPortsTest, SurvivesAPortThatIsGivenBackTwice) {
  RelayPorts ports({10});
  ports.Take(Source(1), Owner(1));
  ports.GiveBack(Source(2), 10);
  EXPECT_EQ(ports.in_use(), 1);
  ports.GiveBack(Source(1), 10);
  ports.GiveBack(Source(1), 10);
  EXPECT_EQ(ports.in_use(), 0);
  EXPECT_EQ(ports.Take(Source(1), Owner(2)), 10);
  EXPECT_EQ(ports.Take(Source(1), Owner(3)), absl::nullopt);
}

TEST(LocalPortRangeTest, IsWhatTheSystemAllows) {
  std::vector<uint16_t> ports = LocalPortRange();
  ASSERT_FALSE(ports.empty());
  EXPECT_FALSE(std::is_sorted(ports.begin(), ports.end())) << "not shuffled";
  std::sort(ports.begin(), ports.end());
  EXPECT_EQ(std::adjacent_find(ports.begin(), ports.end()), ports.end());
  EXPECT_GE(ports.front(), 1);
}

TEST(ParseReservedPortsTest, UnderstandsTheKernelsSyntax) {
  const std::vector<bool> is_reserved =
      ParseReservedPorts("80,40000-40002,65535\n");
  for (const int port : {80, 40000, 40001, 40002, 65535}) {
    EXPECT_TRUE(is_reserved[port]) << port;
  }
  for (const int port : {0, 79, 81, 39999, 40003}) {
    EXPECT_FALSE(is_reserved[port]) << port;
  }
}

TEST(ParseReservedPortsTest, SkipsWhatDoesNotParse) {
  for (const char* text : {"", "\n", "x", "1-y", "-", "70000", "9-8", "-5"}) {
    const std::vector<bool> is_reserved = ParseReservedPorts(text);
    EXPECT_EQ(std::count(is_reserved.begin(), is_reserved.end(), true), 0)
        << text;
  }
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
