// Disconnects end joins, those that wait among them.
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/simulated_clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join_fixture.h"
#include "udpgate/nethernet/join_table.h"

namespace udpgate {
namespace nethernet {
namespace test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;
using ::udpgate::test::SimulatedClock;

const SocketAddress kClient = Address("192.0.2.1:1000");
const SocketAddress kSpare = Address("[2001:db8::1]:1000");
const SocketAddress kRelay = Address("10.0.0.1:40000");
const SocketAddress kSpareRelay = Address("[fd00::1]:40001");

class RecordingObserver final : public JoinObserver {
 public:
  void OnAdded(const Join& join) override {
    if (on_added != nullptr) on_added();
    calls.push_back("added " + join.ufrag);
  }
  void OnDisconnected(const Join& join) override {
    calls.push_back("disconnected " + join.ufrag);
  }
  std::vector<std::string> calls;
  std::function<void()> on_added;
};

class JoinDisconnectTest : public ::testing::Test {
 protected:
  JoinDisconnectTest() { table_.SetObserver(observer_); }

  // A join with two sessions, beside another one.
  void BeginTwo() {
    ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
    ASSERT_TRUE(Add(OtherJoin(), &table_).ok());
    tag_ = ResolveOf(kClient, CheckOf("abcd"), &table_)->tag;
    tag_->OnBegin(kClient, kRelay);
    ResolveOf(kSpare, CheckOf("abcd"), &table_)
        ->tag->OnBegin(kSpare, kSpareRelay);
  }
  static Join OtherJoin() {
    Join join = JoinWith("othr", "192.0.2.9:1");
    join.backend = Address("10.0.0.6:19132");
    join.backend_label = "other:19132";
    join.media = Address("10.0.0.6:19133");
    return join;
  }
  bool IsKnown(const std::string& ufrag) {
    return !table_.Screen(kClient, CheckOf(ufrag))->drop.has_value();
  }

  SimulatedClock clock_;
  JoinTable table_{JoinTableOptions(), &clock_};
  std::shared_ptr<RecordingObserver> observer_ =
      std::make_shared<RecordingObserver>();
  std::shared_ptr<SessionTag> tag_;
};

class EachTargetTest : public JoinDisconnectTest,
                       public ::testing::WithParamInterface<const char*> {};

// Also sessions that the target does not name: the player would go on through
// them.
TEST_P(EachTargetTest, EndsTheJoinWithAllOfItsSessions) {
  BeginTwo();
  EXPECT_THAT(table_.HandleDisconnect(*DisconnectTarget::Parse(GetParam())),
              UnorderedElementsAre(kClient, kSpare));
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_TRUE(IsKnown("othr"));
  EXPECT_EQ(table_.FindTag(tag_->key()), nullptr);
  EXPECT_EQ(table_.stats().joins_disconnected, 1u);
  EXPECT_EQ(table_.stats().joins_live, 0);
  // What follows changes nothing.
  tag_->OnEnd(kClient, kRelay, EndReason::kDisconnected);
  tag_->OnEnd(kSpare, kSpareRelay, EndReason::kDisconnected);
  EXPECT_EQ(table_.stats().joins_disconnected, 1u);
  EXPECT_THAT(observer_->calls,
              ElementsAre("added abcd", "added othr", "disconnected abcd"));
}

INSTANTIATE_TEST_SUITE_P(
    Targets, EachTargetTest,
    ::testing::Values("192.0.2.1:1000", "[2001:db8::1]:1000", "40000", "40001",
                      "relay 10.0.0.1:40000", "ip 192.0.2.1", "ip 2001:db8::1",
                      "backend 10.0.0.5:19132", "backend 10.0.0.5:19133",
                      "backend Lobby.Internal:19132"));

class OtherTargetTest : public JoinDisconnectTest,
                        public ::testing::WithParamInterface<const char*> {};

TEST_P(OtherTargetTest, EndsNothing) {
  BeginTwo();
  EXPECT_THAT(table_.HandleDisconnect(*DisconnectTarget::Parse(GetParam())),
              IsEmpty());
  EXPECT_TRUE(IsKnown("abcd"));
  EXPECT_TRUE(IsKnown("othr"));
}

INSTANTIATE_TEST_SUITE_P(Targets, OtherTargetTest,
                         ::testing::Values("192.0.2.1:1001", "40002",
                                           "relay 10.0.0.2:40000",
                                           "ip 192.0.2.2",
                                           "backend 10.0.0.5:19134",
                                           "backend lobby.internal:19133"));

TEST_F(JoinDisconnectTest, EndsJoinsThatWaitOrLinger) {
  BeginTwo();
  EXPECT_THAT(table_.HandleDisconnect(*DisconnectTarget::Parse("ip 192.0.2.9")),
              IsEmpty());
  EXPECT_FALSE(IsKnown("othr"));
  tag_->OnEnd(kClient, kRelay, EndReason::kIdle);
  tag_->OnEnd(kSpare, kSpareRelay, EndReason::kIdle);
  EXPECT_TRUE(IsKnown("abcd"));
  EXPECT_THAT(table_.HandleDisconnect(
                  *DisconnectTarget::Parse("backend 10.0.0.5:19132")),
              IsEmpty());
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinDisconnectTest, AnOldEventLeavesNewerJoins) {
  BeginTwo();
  DisconnectTarget target = *DisconnectTarget::Parse("ip 192.0.2.1");
  target.set_age(absl::Milliseconds(1));
  EXPECT_THAT(table_.HandleDisconnect(target), IsEmpty());
  EXPECT_TRUE(IsKnown("abcd"));
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(table_.HandleDisconnect(target).empty());
  EXPECT_FALSE(IsKnown("abcd"));
}

// Its session begins after the event.
TEST_F(JoinDisconnectTest, EndsASessionThatIsJustOpening) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const auto tag = ResolveOf(kClient, CheckOf("abcd"), &table_)->tag;
  EXPECT_THAT(table_.HandleDisconnect(*DisconnectTarget::Parse("ip 192.0.2.1")),
              ElementsAre(kClient));
  tag->OnBegin(kClient, kRelay);
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_EQ(table_.stats().joins_live, 0);
}

TEST_F(JoinDisconnectTest, AnEndByADisconnectEndsTheJoin) {
  BeginTwo();
  tag_->OnEnd(kClient, kRelay, EndReason::kDisconnected);
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_EQ(observer_->calls.back(), "disconnected abcd");
}

TEST_F(JoinDisconnectTest, ARelayPortOfTwoPlayersEndsNone) {
  BeginTwo();
  const auto other =
      ResolveOf(Address("192.0.2.9:1"), CheckOf("othr"), &table_)->tag;
  other->OnBegin(Address("192.0.2.9:1"), Address("10.0.0.2:40000"));
  EXPECT_THAT(table_.HandleDisconnect(*DisconnectTarget::Parse("40000")),
              IsEmpty());
  EXPECT_TRUE(IsKnown("abcd"));
}

TEST_F(JoinDisconnectTest, CancelsAJoinWhoseAnswerIsUnderWay) {
  for (const char* target : {"ip 192.0.2.1", "backend 10.0.0.5:19132",
                             "backend lobby.internal:19132"}) {
    const Join join = JoinWith("abcd");
    auto reservation =
        table_.Reserve(join.player, join.backend, join.backend_label);
    table_.HandleDisconnect(*DisconnectTarget::Parse(target));
    EXPECT_EQ(table_.Commit(*std::move(reservation), join).code(),
              absl::StatusCode::kAborted)
        << target;
    EXPECT_FALSE(IsKnown("abcd"));
    EXPECT_EQ(table_.stats().joins_waiting, 0);
    // The next one is not concerned.
    EXPECT_TRUE(Add(join, &table_).ok());
    EXPECT_TRUE(IsKnown("abcd"));
    table_.HandleDisconnect(*DisconnectTarget::Parse(target));
  }
  auto reservation = table_.Reserve(kClient, kRelay, "another");
  table_.HandleDisconnect(*DisconnectTarget::Parse("ip 192.0.2.77"));
  EXPECT_TRUE(table_.Commit(*std::move(reservation), JoinWith("abcd")).ok());
}

TEST_F(JoinDisconnectTest, MakesAJoinAskAgainForItsBackend) {
  const Join join = JoinWith("abcd");
  for (const char* target : {"ip 192.0.2.1", "backend 10.0.0.5:19132",
                             "backend lobby.internal:19132"}) {
    auto reservation = table_.Reserve(join.player);
    ASSERT_TRUE(reservation.ok());
    EXPECT_EQ(table_.stats().joins_waiting, 1);
    table_.HandleDisconnect(*DisconnectTarget::Parse(target));
    EXPECT_EQ(table_.SetBackend(*reservation, join.backend, join.backend_label)
                  .code(),
              absl::StatusCode::kAborted)
        << target;
    // What was asked for after the disconnect is the current backend.
    EXPECT_TRUE(
        table_.SetBackend(*reservation, join.backend, join.backend_label).ok());
    EXPECT_TRUE(table_.Commit(*std::move(reservation), join).ok());
    table_.HandleDisconnect(*DisconnectTarget::Parse(target));
  }
  auto reservation = table_.Reserve(join.player);
  table_.HandleDisconnect(*DisconnectTarget::Parse("ip 192.0.2.77"));
  EXPECT_TRUE(
      table_.SetBackend(*reservation, join.backend, join.backend_label).ok());
  table_.HandleDisconnect(DisconnectTarget::ForBackend(join.backend));
  EXPECT_EQ(table_.Commit(*std::move(reservation), join).code(),
            absl::StatusCode::kAborted);
}

// Other gateways would keep a join that ends before they hear of it.
TEST_F(JoinDisconnectTest, IsReportedAfterTheJoinEvenIfItComesMeanwhile) {
  observer_->on_added = [this] {
    table_.HandleDisconnect(*DisconnectTarget::Parse("ip 192.0.2.1"));
  };
  EXPECT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  ASSERT_THAT(observer_->calls, Not(IsEmpty()));
  EXPECT_EQ(observer_->calls.back(), "disconnected abcd");
  EXPECT_EQ(table_.stats().joins_disconnected, 1u);
}

TEST_F(JoinDisconnectTest, AClientWhoseSessionIsAboutToOpenNamesItsJoin) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  ASSERT_TRUE(ResolveOf(kClient, CheckOf("abcd"), &table_).ok());
  EXPECT_THAT(table_.HandleDisconnect(DisconnectTarget::ForClient(kClient)),
              ElementsAre(kClient));
  EXPECT_FALSE(IsKnown("abcd"));
}

// The disconnect may have meant it.
TEST_F(JoinDisconnectTest, AJoinThatHasExpiredDoesNotComeBackAfterwards) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const auto tag = ResolveOf(kClient, CheckOf("abcd"), &table_)->tag;
  clock_.Advance(absl::Seconds(60));
  ASSERT_EQ(table_.stats().joins_expired, 1u);
  table_.HandleDisconnect(*DisconnectTarget::Parse("ip 192.0.2.1"));
  tag->OnBegin(kClient, kRelay);
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_EQ(table_.stats().joins_live, 0);
}

TEST_F(JoinDisconnectTest, AJoinThatADisconnectHasEndedDoesNotComeBack) {
  BeginTwo();
  const SocketAddress third = Address("198.51.100.1:1");
  const auto result = ResolveOf(third, CheckOf("abcd"), &table_);
  ASSERT_TRUE(result.ok()) << result.status();
  tag_->OnEnd(kClient, kRelay, EndReason::kDisconnected);
  ASSERT_FALSE(IsKnown("abcd"));
  result->tag->OnBegin(third, Address("10.0.0.1:40002"));
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinDisconnectTest, ARelayPortNamesAJoinWhoseClientIsAboutToMove) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  ResolveOf(kClient, CheckOf("abcd"), &table_)->tag->OnBegin(kClient, kRelay);
  const SocketAddress moved = kClient.WithPort(2000);
  const auto result = ResolveOf(moved, CheckOf("abcd"), &table_);
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->moved_from, kClient);
  EXPECT_THAT(
      table_.HandleDisconnect(DisconnectTarget::ForRelayPort(kRelay.port())),
      UnorderedElementsAre(kClient, moved));
  EXPECT_FALSE(IsKnown("abcd"));
}

}  // namespace
}  // namespace test
}  // namespace nethernet
}  // namespace udpgate
