// Joins pass to the process that takes over.
#include <cstddef>
#include <memory>
#include <string>
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

using ::testing::HasSubstr;
using ::testing::Not;
using ::udpgate::test::SimulatedClock;

const SocketAddress kClient = Address("192.0.2.1:1000");
const SocketAddress kRelay = Address("10.0.0.1:40000");

class JoinTransferTest : public ::testing::Test {
 protected:
  std::shared_ptr<SessionTag> Begin(const std::string& ufrag) {
    const auto tag = ResolveOf(kClient, CheckOf(ufrag), &old_)->tag;
    tag->OnBegin(kClient, kRelay);
    return tag;
  }
  void Transfer(bool is_late) {
    const absl::Status status = new_.Import(old_.Export(is_late));
    ASSERT_TRUE(status.ok()) << status;
  }
  bool IsKnown(const std::string& ufrag) {
    return !new_.Screen(kClient, CheckOf(ufrag))->drop.has_value();
  }

  // Times of one process mean nothing in another one.
  SimulatedClock old_clock_{absl::Hours(100)};
  SimulatedClock new_clock_{absl::Hours(1)};
  JoinTable old_{JoinTableOptions(), &old_clock_};
  JoinTable new_{JoinTableOptions(), &new_clock_};
};

TEST_F(JoinTransferTest, AJoinThatWaitsKeepsItsAge) {
  Join join = JoinWith("abcd");
  join.backend_label = "not UTF-8: \xff";
  ASSERT_TRUE(Add(join, &old_).ok());
  old_clock_.Advance(absl::Seconds(50));
  Transfer(false);
  const std::vector<JoinInfo> joins = new_.List();
  ASSERT_EQ(joins.size(), 1u);
  EXPECT_EQ(joins[0].id, old_.List()[0].id);
  EXPECT_EQ(joins[0].network_id, "player-abcd");
  EXPECT_EQ(joins[0].player, "192.0.2.1");
  EXPECT_EQ(joins[0].backend, "10.0.0.5:19132");
  EXPECT_EQ(joins[0].backend_label, join.backend_label);
  EXPECT_EQ(joins[0].media, "10.0.0.5:19133");
  EXPECT_EQ(joins[0].age, absl::Seconds(50));
  EXPECT_EQ(joins[0].state, JoinInfo::State::kWaiting);
  new_clock_.Advance(absl::Seconds(9));
  EXPECT_TRUE(IsKnown("abcd"));
  new_clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTransferTest, ALiveJoinGetsItsSessionsBackByItsKey) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &old_).ok());
  const auto old_tag = Begin("abcd");
  old_clock_.Advance(absl::Hours(2));
  Transfer(false);
  const auto tag = new_.FindTag(old_tag->key());
  ASSERT_NE(tag, nullptr);
  EXPECT_EQ(tag->text(), "player-abcd");
  EXPECT_EQ(new_.List()[0].state, JoinInfo::State::kLingering);
  Transfer(true);
  EXPECT_EQ(new_.FindTag(old_tag->key()), tag);
  tag->OnBegin(kClient, kRelay);
  new_clock_.Advance(absl::Hours(2));
  EXPECT_TRUE(IsKnown("abcd"));
  EXPECT_EQ(new_.List()[0].state, JoinInfo::State::kLive);
  EXPECT_EQ(new_.List()[0].age, absl::Hours(4));
}

TEST_F(JoinTransferTest, TheLatePartDoesNotLetAJoinLingerLonger) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &old_).ok());
  const auto tag = Begin("abcd");
  Transfer(false);
  tag->OnEnd(kClient, kRelay, EndReason::kIdle);
  old_clock_.Advance(absl::Seconds(20));
  new_clock_.Advance(absl::Seconds(20));
  Transfer(true);
  new_clock_.Advance(absl::Seconds(39));
  EXPECT_TRUE(IsKnown("abcd"));
  new_clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTransferTest, ClientsKeepTheirRelayAddresses) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &old_).ok());
  Begin("abcd")->OnEnd(kClient, kRelay, EndReason::kIdle);
  Transfer(false);
  EXPECT_EQ(ResolveOf(kClient, CheckOf("abcd"), &new_)->relay, kRelay);
  // And the priority by which a moved client is known.
  EXPECT_EQ(ResolveOf(Address("192.0.2.1:2000"), CheckOf("abcd"), &new_)->relay,
            kRelay);
}

TEST_F(JoinTransferTest, TheLatePartHasOnlyWhatHasChanged) {
  for (const char* ufrag : {"same", "ends", "live"}) {
    ASSERT_TRUE(Add(JoinWith(ufrag), &old_).ok());
  }
  Transfer(false);
  ASSERT_TRUE(Add(JoinWith("late"), &old_).ok());
  const auto live = Begin("live");
  old_.EndShared(old_.List()[1].id);
  const std::string late = old_.Export(true);
  EXPECT_THAT(late, HasSubstr("player-late"));
  EXPECT_THAT(late, HasSubstr("player-live"));
  EXPECT_THAT(late, Not(HasSubstr("player-same")));
  ASSERT_TRUE(new_.Import(late).ok());
  EXPECT_TRUE(IsKnown("same"));
  EXPECT_TRUE(IsKnown("late"));
  EXPECT_FALSE(IsKnown("ends"));
  EXPECT_TRUE(IsKnown("live"));
  new_clock_.Advance(absl::Seconds(59));
  EXPECT_NE(new_.FindTag(live->key()), nullptr);
  // Nothing has changed since then.
  EXPECT_THAT(old_.Export(true), Not(HasSubstr("player-")));
}

TEST_F(JoinTransferTest, ASecondAttemptBeginsAnew) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &old_).ok());
  ASSERT_TRUE(Add(JoinWith("efgh"), &old_).ok());
  Transfer(false);
  old_.EndShared(old_.List()[0].id);
  old_.Export(true);  // lost
  Transfer(false);
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_TRUE(IsKnown("efgh"));
}

TEST_F(JoinTransferTest, MoreEndsThanTheLatePartNamesAreNotForgotten) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &old_).ok());
  const std::string first = old_.List()[0].id;
  Transfer(false);
  ASSERT_TRUE(IsKnown("abcd"));
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(Add(JoinWith("more", "192.0.2.2:1"), &old_).ok());
    old_.HandleDisconnect(*DisconnectTarget::Parse("ip 192.0.2.2"));
  }
  old_.EndShared(first);
  Transfer(true);
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTransferTest, ACompleteLatePartKeepsJoinsOfTheNewProcess) {
  ASSERT_TRUE(Add(JoinWith("gone"), &old_).ok());
  const std::string gone = old_.List()[0].id;
  Transfer(false);
  ASSERT_TRUE(IsKnown("gone"));
  ASSERT_TRUE(Add(JoinWith("newp"), &new_).ok());
  old_.EndShared(gone);
  ASSERT_TRUE(Add(JoinWith("late"), &old_).ok());
  Transfer(false);
  EXPECT_FALSE(IsKnown("gone"));
  EXPECT_TRUE(IsKnown("late"));
  EXPECT_TRUE(IsKnown("newp"));
}

TEST_F(JoinTransferTest, ALiveJoinWaitsForItsSessionsEvenIfNoneLingers) {
  JoinTableOptions options;
  options.linger = absl::ZeroDuration();
  ASSERT_TRUE(new_.SetOptions(options).ok());
  ASSERT_TRUE(Add(JoinWith("live"), &old_).ok());
  ASSERT_TRUE(Add(JoinWith("left"), &old_).ok());
  const auto live = Begin("live");
  Begin("left")->OnEnd(kClient, kRelay, EndReason::kIdle);
  old_clock_.Advance(absl::Seconds(1));
  Transfer(false);
  new_clock_.Advance(absl::Seconds(19));
  new_.stats();  // removes what is over
  EXPECT_FALSE(IsKnown("left"));
  EXPECT_TRUE(IsKnown("live"));
  const auto tag = new_.FindTag(live->key());
  ASSERT_NE(tag, nullptr);
  tag->OnBegin(kClient, kRelay);
  new_clock_.Advance(absl::Hours(1));
  EXPECT_TRUE(IsKnown("live"));
  tag->OnEnd(kClient, kRelay, EndReason::kIdle);
  EXPECT_FALSE(IsKnown("live"));
}

TEST_F(JoinTransferTest, ALiveJoinWhoseSessionsDoNotArriveEnds) {
  JoinTableOptions options;
  options.linger = absl::Seconds(1);
  ASSERT_TRUE(new_.SetOptions(options).ok());
  ASSERT_TRUE(Add(JoinWith("abcd"), &old_).ok());
  const auto tag = Begin("abcd");
  Transfer(false);
  new_clock_.Advance(absl::Seconds(19));
  EXPECT_TRUE(IsKnown("abcd"));
  new_clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTransferTest, JoinsOfOtherGatewaysPassAsSuch) {
  Join join = JoinWith("abcd");
  join.id = "0123456789abcdef";
  old_.AddShared(join, absl::Seconds(10));
  Transfer(false);
  ASSERT_EQ(new_.List().size(), 1u);
  EXPECT_TRUE(new_.List()[0].is_shared);
  EXPECT_EQ(new_.List()[0].age, absl::Seconds(10));
  EXPECT_EQ(new_.stats().joins_shared_waiting, 1);
}

TEST_F(JoinTransferTest, MalformedTextIsRefusedAndQuotedNowhere) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &old_).ok());
  Begin("abcd");
  const std::string right = old_.Export(false);
  for (size_t size = 0; size < right.size(); ++size) {
    const absl::Status status = new_.Import(right.substr(0, size));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_EQ(status.message(), "the joins of the old process are malformed");
  }
  for (size_t i = 0; i < right.size(); ++i) {
    for (const int bit : {0x01, 0x20, 0x80}) {
      std::string wrong = right;
      wrong[i] = static_cast<char>(wrong[i] ^ bit);
      JoinTable table(JoinTableOptions(), &new_clock_);
      // Whatever it reads, it must not break.
      const absl::Status status = table.Import(wrong);
      if (!status.ok()) {
        EXPECT_THAT(status.message(), Not(HasSubstr("password")));
      }
      table.List();
    }
  }
}

}  // namespace
}  // namespace test
}  // namespace nethernet
}  // namespace udpgate
