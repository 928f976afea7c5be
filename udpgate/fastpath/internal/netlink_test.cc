#include "udpgate/fastpath/internal/netlink.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Real netlink, in a network namespace with the pairs of interfaces a0 and a1,
// b0 and b1, c0 and c1. None has an address.
class NetlinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto space = test::NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(space.status());
    space_ = *std::move(space);
    space_->Command("ip link set lo up");
    for (const std::string name : {"a", "b", "c"}) {
      space_->Command("ip link add " + name + "0 type veth peer name " + name +
                      "1; ip link set " + name + "0 up; ip link set " + name +
                      "1 up");
    }
    space_->Enter();
    absl::StatusOr<Netlink> netlink = Netlink::Open();
    ASSERT_TRUE(netlink.ok()) << netlink.status();
    netlink_ = std::make_unique<Netlink>(*std::move(netlink));
  }

  std::set<std::string> RouteInterfaces(int family) {
    std::set<std::string> names;
    const absl::StatusOr<std::set<int>> found =
        netlink_->RouteInterfaces(family);
    EXPECT_TRUE(found.ok()) << found.status();
    const absl::StatusOr<std::vector<Link>> links = netlink_->Links();
    EXPECT_TRUE(links.ok()) << links.status();
    if (!found.ok() || !links.ok()) return names;
    for (const Link& link : *links) {
      if (found->count(link.index) > 0) names.insert(link.name);
    }
    EXPECT_EQ(names.size(), found->size());
    return names;
  }

  std::string NextHop(const std::string& source, const std::string& destination,
                      uint16_t port = 1000) {
    const absl::StatusOr<Route> route =
        netlink_->FindRoute(*SocketAddress::FromIpAndPort(source, port),
                            *SocketAddress::FromIpAndPort(destination, 2000));
    EXPECT_TRUE(route.ok()) << route.status();
    if (!route.ok()) return "";
    char text[INET6_ADDRSTRLEN];
    const char* const written =
        ::inet_ntop(static_cast<int>(route->next_hop.family),
                    route->next_hop.address, text, sizeof(text));
    return written == nullptr ? "none" : written;
  }

  std::unique_ptr<test::NetworkNamespace> space_;
  std::unique_ptr<Netlink> netlink_;
};

TEST_F(NetlinkTest, LocalLinkLocalAndMulticastRoutesLeadToNoOtherHost) {
  EXPECT_THAT(RouteInterfaces(AF_INET), IsEmpty());
  EXPECT_THAT(RouteInterfaces(AF_INET6), IsEmpty());
  space_->Command("ip addr add 10.1.0.1/32 dev a0");
  EXPECT_THAT(RouteInterfaces(AF_INET), IsEmpty());
}

TEST_F(NetlinkTest, FindsInterfacesOfRoutesOfTheFamily) {
  space_->Command("ip addr add 10.1.0.1/24 dev b0");
  space_->Command("ip addr add fd00:1::1/64 dev c0 nodad");
  EXPECT_THAT(RouteInterfaces(AF_INET), ElementsAre("b0"));
  EXPECT_THAT(RouteInterfaces(AF_INET6), ElementsAre("c0"));
  space_->Command("ip route add default dev a1");
  space_->Command("ip route add unreachable 10.9.0.0/16");
  EXPECT_THAT(RouteInterfaces(AF_INET), ElementsAre("a1", "b0"));
  space_->Command("ip link set b0 down");
  EXPECT_THAT(RouteInterfaces(AF_INET), ElementsAre("a1"));
}

TEST_F(NetlinkTest, FindsThoseOfAllTablesAndNextHops) {
  space_->Command("ip route add 10.7.0.0/16 dev a0 table 1000");
  space_->Command(
      "ip route add 10.8.0.0/16 nexthop dev b0 weight 1 nexthop dev c1");
  EXPECT_THAT(RouteInterfaces(AF_INET), ElementsAre("a0", "b0", "c1"));
  space_->Command(
      "ip -6 route add fd00:8::/64 nexthop via fe80::1:1 dev a1 "
      "nexthop via fe80::1:2 dev b1");
  EXPECT_THAT(RouteInterfaces(AF_INET6), ElementsAre("a1", "b1"));
}

TEST_F(NetlinkTest, FindsTheNextHop) {
  space_->Command("ip addr add 10.1.0.1/24 dev a0");
  space_->Command("ip addr add fd00:1::1/64 dev a0 nodad");
  EXPECT_EQ(NextHop("10.1.0.1", "10.1.0.7"), "10.1.0.7") << "on the link";
  EXPECT_EQ(NextHop("fd00:1::1", "fd00:1::7"), "fd00:1::7");
  space_->Command("ip route add 10.2.0.0/16 via 10.1.0.2");
  space_->Command("ip route add 10.3.0.0/16 via inet6 fe80::3 dev a0");
  space_->Command("ip route add fd00:2::/64 via fe80::2 dev a0");
  EXPECT_EQ(NextHop("10.1.0.1", "10.2.0.9"), "10.1.0.2");
  EXPECT_EQ(NextHop("10.1.0.1", "10.3.0.9"), "fe80::3");
  EXPECT_EQ(NextHop("fd00:1::1", "fd00:2::9"), "fe80::2");
}

TEST_F(NetlinkTest, FindsOneOfSeveralNextHopsByThePorts) {
  space_->Command("ip addr add 10.1.0.1/24 dev a0");
  space_->Command(
      "ip route add 10.2.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3;"
      "echo 1 > /proc/sys/net/ipv4/fib_multipath_hash_policy");
  std::set<std::string> found;
  for (uint16_t port = 1000; port < 1100; ++port) {
    const std::string hop = NextHop("10.1.0.1", "10.2.0.9", port);
    EXPECT_EQ(NextHop("10.1.0.1", "10.2.0.9", port), hop);
    found.insert(hop);
  }
  EXPECT_THAT(found, ElementsAre("10.1.0.2", "10.1.0.3"));
}

TEST_F(NetlinkTest, FindsTheKindOfALink) {
  const absl::StatusOr<std::vector<Link>> links = netlink_->Links();
  ASSERT_TRUE(links.ok()) << links.status();
  int found = 0;
  for (const Link& link : *links) {
    if (link.name != "a0" && link.name != "lo") continue;
    EXPECT_EQ(link.kind, link.name == "lo" ? "" : "veth");
    ++found;
  }
  EXPECT_EQ(found, 2);
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
