// A gateway whose addresses move to another one.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/store/internal/core_fixture.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

const SocketAddress kLocal = SocketAddress::Ipv4Loopback(19132);
const SocketAddress kBackend = SocketAddress::Ipv4Loopback(9);
const SocketAddress kOtherBackend = SocketAddress::Ipv4Loopback(10);

SocketAddress Client(int number) {
  return SocketAddress::FromIpAndPort("203.0.113.7",
                                      static_cast<uint16_t>(1000 + number))
      .value();
}

class StandbyTest : public ::testing::Test {
 protected:
  StandbyTest() {
    active_ = Start("active", false);
    standby_ = Start("standby", true);
  }

  std::unique_ptr<CoreHost> Start(absl::string_view id, bool is_standby) {
    SessionKeeperOptions options;
    options.gateway_id = std::string(id);
    options.is_standby = is_standby;
    options.log_sink = nullptr;
    auto host = fleet_.NewHost(std::move(options), kLocal);
    host->Start();
    return host;
  }
  void Advance(absl::Duration time = absl::Seconds(3)) {
    std::vector<CoreHost*> hosts = {standby_.get()};
    if (active_ != nullptr) hosts.push_back(active_.get());
    fleet_.Advance(time, hosts);
  }
  void Promote() {
    standby_->SetTime();
    (*standby_)->Promote();
    standby_->Settle();
  }
  std::string OwnerOf(int client) {
    const auto record = fleet_.store.Find(Client(client));
    return record.has_value() ? record->gateway_id : "nobody";
  }

  CoreFleet fleet_;
  std::unique_ptr<CoreHost> active_, standby_;
};

TEST_F(StandbyTest, ItServesNobodyAndFollows) {
  EXPECT_TRUE(standby_->gateway().in_standby);
  for (int i = 0; i < 300; ++i) active_->Confirm(Client(i), kBackend);
  Advance();
  EXPECT_EQ(standby_->stats().standby_sessions, 300u);
  active_->End(Client(7), EndReason::kIdle);
  Advance();
  EXPECT_EQ(standby_->stats().standby_sessions, 299u);
  EXPECT_TRUE(standby_->gateway().sessions.empty());
}

TEST_F(StandbyTest, APromotedOneServesAtOnceAndAdoptsThen) {
  for (int i = 0; i < 300; ++i) active_->Confirm(Client(i), kBackend);
  const SocketAddress relay = active_->gateway().Find(Client(5))->info.relay;
  Advance();
  active_.reset();
  Promote();
  // Without a moment for the store.
  EXPECT_FALSE(standby_->gateway().in_standby);
  EXPECT_EQ(standby_->gateway().sessions.size(), 300u);
  EXPECT_EQ(standby_->gateway().Find(Client(5))->info.relay, relay);
  Advance();
  EXPECT_EQ(OwnerOf(5), "standby");
  EXPECT_EQ(standby_->stats().adopted, 300u);
  EXPECT_EQ(standby_->stats().lost, 0u);
}

TEST_F(StandbyTest, AnOldGatewayThatLivesLosesItsSessionsSoon) {
  active_->Confirm(Client(1), kBackend);
  Advance();
  Promote();
  Advance();
  EXPECT_EQ(OwnerOf(1), "standby");
  EXPECT_TRUE(active_->gateway().sessions.empty());
  EXPECT_NE(standby_->gateway().Find(Client(1)), nullptr);
}

TEST_F(StandbyTest, ADemotedOneTouchesNoRecordAndFollowsAgain) {
  active_->Confirm(Client(1), kBackend);
  Advance();
  Promote();
  active_->SetTime();
  (*active_)->Demote();
  Advance();
  EXPECT_TRUE(active_->gateway().in_standby);
  EXPECT_EQ(active_->stats().standby_sessions, 1u);
  EXPECT_EQ(OwnerOf(1), "standby");
  // And back.
  active_->SetTime();
  standby_->SetTime();
  (*standby_)->Demote();
  (*active_)->Promote();
  Advance();
  EXPECT_EQ(OwnerOf(1), "active");
  EXPECT_NE(active_->gateway().Find(Client(1)), nullptr);
  EXPECT_EQ(standby_->gateway().Find(Client(1)), nullptr);
}

TEST_F(StandbyTest, WhatItHadNotReadYetIsReadAfterThePromotion) {
  active_->Confirm(Client(1), kBackend);
  Advance();
  active_->Confirm(Client(2), kBackend);
  fleet_.Advance(absl::Milliseconds(50), {active_.get()});
  active_.reset();
  Promote();
  Advance(absl::Milliseconds(100));
  EXPECT_NE(standby_->gateway().Find(Client(2)), nullptr);
  EXPECT_EQ(OwnerOf(2), "standby");
}

TEST_F(StandbyTest, AStaleRecordGivesWayToTheNewSessionOfTheClient) {
  active_->Confirm(Client(1), kBackend);
  Advance();
  active_->End(Client(1), EndReason::kIdle);
  active_->Confirm(Client(1), kOtherBackend);
  fleet_.Advance(absl::Milliseconds(50), {active_.get()});
  active_.reset();
  Promote();
  Advance(absl::Seconds(1));
  ASSERT_NE(standby_->gateway().Find(Client(1)), nullptr);
  EXPECT_EQ(standby_->gateway().Find(Client(1))->info.backend, kOtherBackend);
  EXPECT_EQ(OwnerOf(1), "standby");
}

TEST_F(StandbyTest, ADisconnectInStandbyCounts) {
  active_->Confirm(Client(1), kBackend);
  Advance();
  active_.reset();
  standby_->SetTime();
  (*standby_)->OnDisconnect(DisconnectTarget::ForClient(Client(1)));
  Promote();
  EXPECT_TRUE(standby_->gateway().sessions.empty());
  Advance(absl::Seconds(6));
  EXPECT_EQ(OwnerOf(1), "nobody");
}

TEST_F(StandbyTest, OneThatHasJustStartedReadsTheRecordsFirst) {
  active_->Confirm(Client(1), kBackend);
  Advance();
  active_.reset();
  standby_ = Start("active", true);  // its own records, of the former run
  Promote();
  EXPECT_FALSE(standby_->gateway().in_standby);
  EXPECT_NE(standby_->gateway().Find(Client(1)), nullptr);
}

TEST_F(StandbyTest, WithoutTheStoreItServesAllTheSame) {
  active_->Confirm(Client(1), kBackend);
  Advance();
  active_.reset();
  SessionKeeperOptions options;
  options.gateway_id = "standby-2";
  options.is_standby = true;
  options.log_sink = nullptr;
  standby_ = fleet_.NewHost(options, kLocal);
  test::FakeSessionStore::Link link;
  link.is_cut = true;
  fleet_.last_connection().SetLink(link);
  standby_->Start();
  Promote();
  Advance(absl::Seconds(2));
  EXPECT_FALSE(standby_->gateway().in_standby);
  EXPECT_EQ(standby_->gateway().Find(Client(1)), nullptr);
  fleet_.last_connection().SetLink({});
  Advance(absl::Seconds(5));
  EXPECT_NE(standby_->gateway().Find(Client(1)), nullptr);
}

TEST_F(StandbyTest, ItKnowsNoMoreRecordsThanItIsAllowed) {
  SessionKeeperOptions options;
  options.gateway_id = "small";
  options.is_standby = true;
  options.log_sink = nullptr;
  options.standby_sessions_max = 10;
  standby_ = fleet_.NewHost(options, kLocal);
  standby_->Start();
  for (int i = 0; i < 300; ++i) active_->Confirm(Client(i), kBackend);
  Advance();
  EXPECT_EQ(standby_->stats().standby_sessions, 10u);
}

}  // namespace
}  // namespace internal
}  // namespace store
}  // namespace udpgate
