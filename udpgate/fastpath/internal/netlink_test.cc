#include "udpgate/fastpath/internal/netlink.h"

#include <sys/socket.h>

#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/fastpath/kernel_rights.h"

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

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
