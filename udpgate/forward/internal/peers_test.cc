#include "udpgate/forward/internal/peers.h"

#include <cstdint>
#include <memory>

#include "gtest/gtest.h"

namespace udpgate {
namespace forward {
namespace internal {
namespace {

TEST(PeersTest, AnAddressKeepsItsNumber) {
  const auto peers = std::make_unique<Peers>();
  const SocketAddress a = SocketAddress::Ipv4Loopback(1);
  const SocketAddress b = SocketAddress::Ipv4Loopback(2);
  EXPECT_EQ(peers->NumberOf(a), 1);
  EXPECT_EQ(peers->NumberOf(b), 2);
  EXPECT_EQ(peers->NumberOf(a), 1);
  EXPECT_EQ(peers->address(2), b);
}

TEST(PeersTest, WhatIsNoAddressOfAHostHasNone) {
  const auto peers = std::make_unique<Peers>();
  EXPECT_EQ(peers->NumberOf(SocketAddress()), 0);
  EXPECT_EQ(peers->NumberOf(SocketAddress::Ipv4Any(5)), 0);
  EXPECT_EQ(peers->NumberOf(SocketAddress::Ipv4Loopback(0)), 0);
}

TEST(PeersTest, NoNumberIsGivenTwice) {
  const auto peers = std::make_unique<Peers>();
  for (size_t i = 1; i <= Peers::kPeersMax; ++i) {
    ASSERT_EQ(
        peers->NumberOf(SocketAddress::Ipv4Loopback(static_cast<uint16_t>(i))),
        i);
  }
  EXPECT_EQ(peers->NumberOf(SocketAddress::Ipv4Loopback(2000)), 0);
  EXPECT_EQ(peers->NumberOf(SocketAddress::Ipv4Loopback(7)), 7);
}

TEST(PeersTest, AForgottenOneHasAnotherEpoch) {
  const auto peers = std::make_unique<Peers>();
  const SocketAddress a = SocketAddress::Ipv4Loopback(1);
  const uint16_t number = peers->NumberOf(a);
  const uint32_t before = peers->epoch(number);
  peers->Forget(SocketAddress::Ipv4Loopback(2));
  EXPECT_EQ(peers->epoch(number), before);
  peers->Forget(a);
  EXPECT_NE(peers->epoch(number), before);
  EXPECT_EQ(peers->NumberOf(a), number);
}

}  // namespace
}  // namespace internal
}  // namespace forward
}  // namespace udpgate
