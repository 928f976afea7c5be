// Source ports that are asked for by address and port.
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "udpgate/internal/session/relay_ports.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
const int64_t kQuarantine = RelayPortsOptions().quarantine_nanoseconds;

SocketAddress Relay(int last_byte, int port) {
  return *SocketAddress::Parse(absl::StrCat("127.0.0.", last_byte, ":", port));
}

class RelayPortsExactTest : public ::testing::Test {
 protected:
  void Start(std::vector<uint16_t> ports,
             std::vector<SocketAddress> bind_addresses = {}) {
    RelayPortsOptions options;
    options.bind_addresses = std::move(bind_addresses);
    ports_ = std::make_unique<RelayPorts>(ports, options);
  }
  bool TakeExactly(const SocketAddress& relay) {
    return ports_->TakeExactly(relay, source_, {1, {2, ++last_id_}}, now_);
  }
  // The port that is chosen, 0 if there is none.
  int Take() {
    const auto relay = ports_->Take(source_, {1, {2, ++last_id_}}, now_);
    return relay.has_value() ? relay->port() : 0;
  }

  std::unique_ptr<RelayPorts> ports_;
  const SocketAddress source_ = Relay(1, 0);  // what the routes choose
  int64_t now_ = 1000 * kSecond;
  uint64_t last_id_ = 0;
};

TEST_F(RelayPortsExactTest, APortThatWasNeverTakenIsTakenOnce) {
  Start({10, 11, 12});
  EXPECT_TRUE(TakeExactly(Relay(1, 12)));
  EXPECT_FALSE(TakeExactly(Relay(1, 12))) << "another session has it";
  EXPECT_EQ(ports_->Find(12).size(), 1u);
  EXPECT_EQ(ports_->in_use(), 1);
  EXPECT_NE(Take(), 12);
  EXPECT_NE(Take(), 12);
  EXPECT_EQ(Take(), 0);
}

TEST_F(RelayPortsExactTest, AReleasedPortIsNotGivenOutTwice) {
  Start({10, 11});
  Take();
  Take();
  ports_->GiveBack(Relay(1, 10), PortFate::kUnanswered, now_);
  EXPECT_TRUE(TakeExactly(Relay(1, 10)));
  EXPECT_EQ(Take(), 0);
  // Likewise one whose quarantine is over.
  ports_->GiveBack(Relay(1, 11), PortFate::kAnswered, now_);
  now_ += kQuarantine;
  EXPECT_EQ(ports_->quarantined(now_), 0);
  EXPECT_TRUE(TakeExactly(Relay(1, 11)));
  EXPECT_EQ(Take(), 0);
}

TEST_F(RelayPortsExactTest, TheSamePlayerGetsAPortOutOfQuarantine) {
  Start({10, 11, 12});
  ASSERT_EQ(Take(), 10);
  ASSERT_EQ(Take(), 11);
  ports_->GiveBack(Relay(1, 10), PortFate::kAnswered, now_);
  ports_->GiveBack(Relay(1, 11), PortFate::kAnswered, now_);
  now_ += kSecond;
  EXPECT_TRUE(TakeExactly(Relay(1, 11)));
  EXPECT_EQ(ports_->quarantined(now_), 1);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 0u);
  // The time in quarantine goes on: the backend may still know the player.
  ports_->GiveBack(Relay(1, 11), PortFate::kUnanswered, now_);
  EXPECT_EQ(ports_->quarantined(now_), 2);
  EXPECT_EQ(Take(), 12);
}

TEST_F(RelayPortsExactTest, APortOfAnotherProgramIsRefused) {
  Start({10});
  ASSERT_EQ(Take(), 10);
  ports_->GiveBack(Relay(1, 10), PortFate::kBusy, now_);
  EXPECT_FALSE(TakeExactly(Relay(1, 10)));
  EXPECT_EQ(ports_->in_use(), 0);
}

TEST_F(RelayPortsExactTest, OnlyAddressesAndPortsOfTheGatewayAreTaken) {
  Start({10});
  EXPECT_FALSE(TakeExactly(Relay(2, 10))) << "the routes choose another";
  EXPECT_FALSE(TakeExactly(Relay(1, 9))) << "outside of the range";
  EXPECT_FALSE(TakeExactly(SocketAddress::Ipv6Loopback(10)));
  EXPECT_FALSE(TakeExactly(SocketAddress()));
  EXPECT_TRUE(TakeExactly(Relay(1, 10)));
}

TEST_F(RelayPortsExactTest, WithBindAddressesOneOfThemIsNeeded) {
  Start({10}, {Relay(2, 0), Relay(3, 0)});
  EXPECT_FALSE(TakeExactly(Relay(1, 10)));
  EXPECT_TRUE(TakeExactly(Relay(3, 10)));
  EXPECT_TRUE(TakeExactly(Relay(2, 10))) << "the same port, another address";
  EXPECT_EQ(ports_->Find(10).size(), 2u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
