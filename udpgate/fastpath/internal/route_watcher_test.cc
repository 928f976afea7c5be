#include "udpgate/fastpath/internal/route_watcher.h"

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

using Kind = NetworkChange::Kind;

// Real netlink, in a network namespace with a pair of interfaces, d0 and d1.
class RouteWatcherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto space = test::NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(space.status());
    space_ = *std::move(space);
    space_->Command(
        "ip link set lo up; ip link add d0 type veth peer name d1;"
        "ip link set d0 up; ip link set d1 up;"
        "ip addr add 10.1.0.1/24 dev d0");
    space_->Run([&] {
      absl::StatusOr<RouteWatcher> watcher = RouteWatcher::Open();
      ASSERT_TRUE(watcher.ok()) << watcher.status();
      watcher_ = std::make_unique<RouteWatcher>(*std::move(watcher));
    });
  }

  void Read() {
    watcher_->Read(
        [&](const NetworkChange& change) { changes_.push_back(change); });
  }
  int Count(const std::function<bool(const NetworkChange&)>& matches) const {
    return static_cast<int>(
        std::count_if(changes_.begin(), changes_.end(), matches));
  }
  // Reads until a change matches. The kernel also reports others, such as the
  // state of a new link.
  bool Await(const std::function<bool(const NetworkChange&)>& matches) {
    return test::AwaitTrue([&] {
      Read();
      return Count(matches) > 0;
    });
  }
  static bool IsPrefix(const NetworkChange& change, int family,
                       const std::vector<uint8_t>& prefix, int bits) {
    return change.kind == Kind::kPrefix && change.family == family &&
           change.prefix_bits == bits &&
           std::equal(prefix.begin(), prefix.end(), change.prefix.begin());
  }
  // Reads all changes up to now: a route that nothing else uses comes last.
  void ReadAll() {
    space_->Command("ip route add 10.250.0.0/24 dev lo");
    ASSERT_TRUE(Await([](const NetworkChange& change) {
      return IsPrefix(change, AF_INET, {10, 250, 0, 0}, 24);
    }));
    space_->Command("ip route del 10.250.0.0/24 dev lo");
  }

  std::unique_ptr<test::NetworkNamespace> space_;
  std::unique_ptr<RouteWatcher> watcher_;
  std::vector<NetworkChange> changes_;
};

TEST_F(RouteWatcherTest, ReportsAddedAndRemovedIpv4Routes) {
  const auto is_route = [](const NetworkChange& change) {
    return IsPrefix(change, AF_INET, {10, 7, 0, 0}, 16);
  };
  space_->Command("ip route add 10.7.0.0/16 dev d0");
  EXPECT_TRUE(Await(is_route));
  changes_.clear();
  space_->Command("ip route del 10.7.0.0/16 dev d0");
  EXPECT_TRUE(Await(is_route));
}

TEST_F(RouteWatcherTest, ReportsIpv6Routes) {
  space_->Command("ip route add fd00:7::/32 dev d0");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return IsPrefix(change, AF_INET6, {0xFD, 0, 0, 7}, 32);
  }));
}

TEST_F(RouteWatcherTest, ReportsADefaultRouteAsAnEmptyPrefix) {
  space_->Command("ip route add default via 10.1.0.2 dev d0");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return IsPrefix(change, AF_INET, {}, 0);
  }));
}

TEST_F(RouteWatcherTest, ReportsANewAddressAsAPrefixOfAllItsBits) {
  space_->Command("ip addr add 10.8.0.1/24 dev d0");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return IsPrefix(change, AF_INET, {10, 8, 0, 1}, 32);
  }));
}

TEST_F(RouteWatcherTest, RemovedAddressMayChangeEverything) {
  ReadAll();
  changes_.clear();
  space_->Command("ip addr del 10.1.0.1/24 dev d0");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return change.kind == Kind::kEverything;
  }));
}

TEST_F(RouteWatcherTest, NewRuleMayChangeEverything) {
  ReadAll();
  changes_.clear();
  space_->Command("ip rule add from 10.0.0.0/8 table 7");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return change.kind == Kind::kEverything;
  }));
}

TEST_F(RouteWatcherTest, ReportsLinks) {
  space_->Command("ip link set d0 mtu 1300");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return change.kind == Kind::kLink && change.link.name == "d0" &&
           change.link.mtu_bytes == 1300;
  }));
  EXPECT_EQ(Count([](const NetworkChange& change) {
              return change.kind == Kind::kLinkRemoved;
            }),
            0);
  space_->Command("ip link del d0");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return change.kind == Kind::kLinkRemoved && change.link.name == "d1";
  }));
}

TEST_F(RouteWatcherTest, ReportsNextHopObjects) {
  ReadAll();
  changes_.clear();
  space_->Command("ip nexthop add id 1 via 10.1.0.2 dev d0");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return change.kind == Kind::kEverything;
  }));
}

TEST_F(RouteWatcherTest, ReportsNeighboursThatFail) {
  int index = 0;
  space_->Run([&] { index = static_cast<int>(::if_nametoindex("d0")); });
  const auto is_failed = [index](const NetworkChange& change) {
    return change.kind == Kind::kNeighbourFailed && change.link.index == index;
  };
  space_->Command(
      "ip neigh add 10.1.0.2 lladdr 02:00:00:00:00:01 dev d0 nud reachable");
  ReadAll();
  EXPECT_EQ(Count(is_failed), 0);
  space_->Command("ip neigh change 10.1.0.2 dev d0 nud failed");
  EXPECT_TRUE(Await([&](const NetworkChange& change) {
    return is_failed(change) && change.family == AF_INET &&
           change.prefix == std::array<uint8_t, 16>{10, 1, 0, 2};
  }));
  space_->Command(
      "ip -6 neigh add fd00::5 lladdr 02:00:00:00:00:01 dev d0 nud reachable;"
      "ip -6 neigh change fd00::5 dev d0 nud failed");
  EXPECT_TRUE(Await([&](const NetworkChange& change) {
    return is_failed(change) && change.family == AF_INET6 &&
           change.prefix[0] == 0xFD && change.prefix[15] == 5;
  }));
}

// The kernel asks daemons for link addresses, if it is told to.
TEST_F(RouteWatcherTest, QuestionsForNeighboursChangeNothing) {
  ReadAll();
  changes_.clear();
  space_->Command(
      "echo 1 > /proc/sys/net/ipv4/neigh/d0/app_solicit;"
      "ip neigh add 10.1.0.77 dev d0 use;"
      "ip link set d0 mtu 1300");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return change.kind == Kind::kLink && change.link.mtu_bytes == 1300;
  }));
  EXPECT_EQ(Count([](const NetworkChange& change) {
              return change.kind == Kind::kEverything;
            }),
            0);
}

TEST_F(RouteWatcherTest, LostMessagesMayChangeEverything) {
  ReadAll();
  changes_.clear();
  const int bytes = 1;  // the kernel's minimum
  ASSERT_EQ(::setsockopt(watcher_->fd(), SOL_SOCKET, SO_RCVBUF, &bytes,
                         sizeof(bytes)),
            0);
  space_->Command(
      "for i in $(seq 100); do echo route add 10.9.0.$i dev lo; done |"
      " ip -batch -");
  EXPECT_TRUE(Await([](const NetworkChange& change) {
    return change.kind == Kind::kEverything;
  }));
}

TEST_F(RouteWatcherTest, ReportsNothingOfAnotherNetworkNamespace) {
  auto other = test::NetworkNamespace::Create();
  ASSERT_TRUE(other.ok()) << other.status();
  (*other)->Command("ip link set lo up; ip route add 10.66.0.0/16 dev lo");
  ReadAll();
  EXPECT_EQ(Count([](const NetworkChange& change) {
              return IsPrefix(change, AF_INET, {10, 66, 0, 0}, 16);
            }),
            0);
}

TEST(IsInPrefixTest, ComparesTheBitsOfThePrefixOnly) {
  NetworkChange change;
  change.prefix = {10, 0xB0, 0, 0};
  const std::array<uint8_t, 16> address = {10, 0xBF, 1, 2};
  for (const int bits : {0, 1, 8, 12}) {
    change.prefix_bits = bits;
    EXPECT_TRUE(IsInPrefix(change, address)) << bits;
  }
  for (const int bits : {13, 16, 32}) {
    change.prefix_bits = bits;
    EXPECT_FALSE(IsInPrefix(change, address)) << bits;
  }
  change.prefix = address;
  change.prefix_bits = 128;
  EXPECT_TRUE(IsInPrefix(change, address));
  change.prefix[15] = 1;
  EXPECT_FALSE(IsInPrefix(change, address));
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
