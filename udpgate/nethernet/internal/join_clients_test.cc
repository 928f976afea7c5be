#include "udpgate/nethernet/internal/join_clients.h"

#include <cstdint>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

constexpr int kClientsMax = 4;
constexpr int64_t kSecond = 1'000'000'000;
// Of two network interfaces.
constexpr uint32_t kWifi = 1000;
constexpr uint32_t kMobile = 900;

SocketAddress Address(absl::string_view text) {
  return SocketAddress::Parse(text).value();
}

class JoinClientsTest : public ::testing::Test {
 protected:
  // A client whose session begins at once. The gateway gives the relay address
  // that is asked for, else a new one.
  JoinClients::Place Come(absl::string_view client,
                          absl::optional<uint32_t> priority = kWifi) {
    const auto place =
        clients_.Claim(Address(client), priority, kClientsMax, now_);
    if (!place.has_value()) {
      ADD_FAILURE() << "no room for " << client;
      return {};
    }
    if (place->moved_from.is_valid()) clients_.End(place->moved_from, now_);
    clients_.Begin(Address(client),
                   place->relay.is_valid() ? place->relay : NextRelay(), now_);
    return *place;
  }
  SocketAddress NextRelay() {
    return SocketAddress::Ipv4Loopback(next_relay_port_++);
  }
  static SocketAddress Relay(int index) {
    return SocketAddress::Ipv4Loopback(static_cast<uint16_t>(40000 + index));
  }

  JoinClients clients_;
  uint16_t next_relay_port_ = 40000;
  int64_t now_ = 3600 * kSecond;
};

TEST_F(JoinClientsTest, EachAddressGetsItsOwnRelayAddressAgain) {
  EXPECT_FALSE(Come("192.0.2.1:1000").relay.is_valid());
  EXPECT_FALSE(Come("198.51.100.1:1000").relay.is_valid());
  EXPECT_FALSE(Come("[2001:db8::1]:1000").relay.is_valid());
  EXPECT_EQ(clients_.session_count(), 3);
  clients_.End(Address("198.51.100.1:1000"), now_);
  EXPECT_EQ(clients_.session_count(), 2);
  now_ += 3600 * kSecond;
  const JoinClients::Place again = Come("198.51.100.1:1000");
  EXPECT_EQ(again.relay, Relay(1));
  EXPECT_FALSE(again.moved_from.is_valid());
  EXPECT_EQ(clients_.session_count(), 3);
}

TEST_F(JoinClientsTest, AClientWithAnotherPortHasMoved) {
  Come("192.0.2.1:1000");
  now_ += 60 * kSecond;
  const JoinClients::Place moved = Come("192.0.2.1:2000");
  EXPECT_EQ(moved.moved_from, Address("192.0.2.1:1000"));
  EXPECT_EQ(moved.relay, Relay(0));
  EXPECT_EQ(clients_.session_count(), 1);
  now_ += 60 * kSecond;
  const JoinClients::Place once_more = Come("192.0.2.1:3000");
  EXPECT_EQ(once_more.moved_from, Address("192.0.2.1:2000"));
  EXPECT_EQ(once_more.relay, Relay(0));
}

TEST_F(JoinClientsTest, AnotherInterfaceOrIpAddressHasNotMoved) {
  Come("192.0.2.1:1000", kWifi);
  for (const JoinClients::Place& place :
       {Come("192.0.2.1:2000", kMobile), Come("198.51.100.1:1000", kWifi),
        Come("192.0.2.1:3000", absl::nullopt)}) {
    EXPECT_FALSE(place.moved_from.is_valid());
    EXPECT_FALSE(place.relay.is_valid());
  }
  EXPECT_EQ(clients_.session_count(), 4);
}

TEST_F(JoinClientsTest, TheRelayAddressGoesAlongIfTheSessionHasEnded) {
  Come("192.0.2.1:1000");
  clients_.End(Address("192.0.2.1:1000"), now_);
  const JoinClients::Place moved = Come("192.0.2.1:2000");
  EXPECT_FALSE(moved.moved_from.is_valid());
  EXPECT_EQ(moved.relay, Relay(0));
}

TEST_F(JoinClientsTest, MovesFromTheAddressThatHasASession) {
  Come("192.0.2.1:1000");
  clients_.End(Address("192.0.2.1:1000"), now_);
  clients_.Begin(Address("192.0.2.1:2000"), NextRelay(), now_);
  clients_.Claim(Address("192.0.2.1:2000"), kWifi, kClientsMax, now_);
  clients_.End(Address("192.0.2.1:1000"), now_ + kSecond);
  EXPECT_EQ(Come("192.0.2.1:3000").moved_from, Address("192.0.2.1:2000"));
}

// A network that translates one socket to a port for each destination. Without
// this rule both paths would end each other's sessions for ever.
TEST_F(JoinClientsTest, AddressesThatAreBothInUseArePathsOfTheirOwn) {
  Come("192.0.2.1:1000");
  EXPECT_EQ(Come("192.0.2.1:2000").moved_from, Address("192.0.2.1:1000"));
  now_ += 25 * kSecond;
  const JoinClients::Place back = Come("192.0.2.1:1000");
  EXPECT_FALSE(back.moved_from.is_valid());
  EXPECT_FALSE(back.relay.is_valid());
  EXPECT_EQ(clients_.session_count(), 2);
  now_ += 25 * kSecond;
  clients_.End(Address("192.0.2.1:2000"), now_);
  const JoinClients::Place second = Come("192.0.2.1:2000");
  EXPECT_FALSE(second.moved_from.is_valid());
  EXPECT_EQ(second.relay, Relay(0));
}

TEST_F(JoinClientsTest, AClientMayMoveBackAfterALongTime) {
  Come("192.0.2.1:1000");
  Come("192.0.2.1:2000");
  now_ += 61 * kSecond;
  const JoinClients::Place back = Come("192.0.2.1:1000");
  EXPECT_EQ(back.moved_from, Address("192.0.2.1:2000"));
  EXPECT_EQ(back.relay, Relay(0));
}

TEST_F(JoinClientsTest, KeepsTheRelayAddressThatASessionReallyGot) {
  Come("192.0.2.1:1000");
  clients_.Begin(Address("192.0.2.1:1000"), Relay(7), now_);  // a new socket
  EXPECT_EQ(clients_.session_count(), 1);
  clients_.End(Address("192.0.2.1:1000"), now_);
  EXPECT_EQ(Come("192.0.2.1:1000").relay, Relay(7));
}

TEST_F(JoinClientsTest, AddressesWithoutSessionMakeRoomTheOldestFirst) {
  for (const char* client :
       {"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"}) {
    Come(client);
  }
  const SocketAddress fifth = Address("192.0.2.5:1");
  EXPECT_FALSE(clients_.HasRoom(fifth, kClientsMax, now_));
  EXPECT_FALSE(clients_.Claim(fifth, kWifi, kClientsMax, now_).has_value());
  EXPECT_TRUE(clients_.HasRoom(Address("192.0.2.2:1"), kClientsMax, now_));
  clients_.End(Address("192.0.2.3:1"), now_ + 1);
  clients_.End(Address("192.0.2.2:1"), now_ + 2);
  EXPECT_TRUE(clients_.HasRoom(fifth, kClientsMax, now_));
  Come("192.0.2.5:1");
  EXPECT_EQ(clients_.all().size(), 4u);
  EXPECT_EQ(Come("192.0.2.2:1").relay, Relay(1));  // 192.0.2.3 made room
}

TEST_F(JoinClientsTest, ALimitThatWasLoweredHolds) {
  for (const char* client :
       {"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"}) {
    Come(client);
  }
  clients_.End(Address("192.0.2.3:1"), now_);
  clients_.End(Address("192.0.2.4:1"), now_);
  const SocketAddress fifth = Address("192.0.2.5:1");
  EXPECT_FALSE(clients_.HasRoom(fifth, 2, now_));
  EXPECT_FALSE(clients_.Claim(fifth, kWifi, 2, now_).has_value());
  EXPECT_TRUE(clients_.HasRoom(fifth, 3, now_));
  EXPECT_TRUE(clients_.Claim(fifth, kWifi, 3, now_).has_value());
  EXPECT_EQ(clients_.all().size(), 3u);
}

TEST_F(JoinClientsTest, AClientWhoseSessionIsAboutToBeginKeepsItsPlace) {
  const SocketAddress first = Address("192.0.2.1:1");
  const SocketAddress second = Address("192.0.2.2:1");
  ASSERT_TRUE(clients_.Claim(first, kWifi, 1, now_).has_value());
  EXPECT_FALSE(clients_.HasRoom(second, 1, now_));
  EXPECT_FALSE(clients_.Claim(second, kWifi, 1, now_).has_value());
  EXPECT_TRUE(clients_.Claim(first, kWifi, 1, now_).has_value());
  now_ += 10 * kSecond;  // its session never came
  EXPECT_TRUE(clients_.HasRoom(second, 1, now_));
  EXPECT_TRUE(clients_.Claim(second, kWifi, 1, now_).has_value());
}

TEST_F(JoinClientsTest, AnUnknownEndChangesNothing) {
  Come("192.0.2.1:1000");
  clients_.End(Address("192.0.2.9:1000"), now_);
  clients_.End(Address("192.0.2.1:1000"), now_);
  clients_.End(Address("192.0.2.1:1000"), now_);
  EXPECT_EQ(clients_.session_count(), 0);
}

}  // namespace
}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
