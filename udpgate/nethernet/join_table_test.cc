#include "udpgate/nethernet/join_table.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/simulated_clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join_fixture.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace nethernet {
namespace test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::udpgate::test::SimulatedClock;

const SocketAddress kClient = Address("192.0.2.1:1000");
const SocketAddress kRelay = Address("10.0.0.1:40000");

class JoinTableTest : public ::testing::Test {
 protected:
  JoinTableTest() : table_(Options(), &clock_) {}

  static JoinTableOptions Options() {
    JoinTableOptions options;
    options.joins_max = 3;
    options.addresses_per_join_max = 2;
    options.shared_joins_max = 2;
    return options;
  }

  bool IsKnown(absl::string_view ufrag) {
    const auto screening = table_.Screen(kClient, CheckOf(ufrag));
    return screening.has_value() && !screening->drop.has_value();
  }
  // A session of this join begins.
  std::shared_ptr<SessionTag> Begin(absl::string_view ufrag,
                                    const SocketAddress& client = kClient,
                                    const SocketAddress& relay = kRelay) {
    const auto result = ResolveOf(client, CheckOf(ufrag), &table_);
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return nullptr;
    result->tag->OnBegin(client, relay);
    return result->tag;
  }
  std::vector<std::string> Listed() {
    std::vector<std::string> texts;
    for (const JoinInfo& join : table_.List()) {
      texts.push_back(absl::StrCat(join.network_id, " ",
                                   JoinStateName(join.state), " ",
                                   join.session_count));
    }
    return texts;
  }

  SimulatedClock clock_;
  JoinTable table_;
};

TEST_F(JoinTableTest, SendsAPlayerToTheMediaAddressOfTheAnswer) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const auto result = ResolveOf(kClient, CheckOf("abcd"), &table_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->backend, Address("10.0.0.5:19133"));
  EXPECT_EQ(result->label, "lobby.internal:19132");
  EXPECT_TRUE(result->is_client_proven);
  EXPECT_FALSE(result->relay.is_valid());
  EXPECT_FALSE(result->moved_from.is_valid());
  ASSERT_NE(result->tag, nullptr);
  EXPECT_EQ(result->tag->text(), "player-abcd");
  EXPECT_EQ(table_.FindTag(result->tag->key()), result->tag);
  EXPECT_EQ(table_.FindTag("unknown"), nullptr);
}

TEST_F(JoinTableTest, AJoinWaitsThenLivesThenLingers) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  EXPECT_THAT(Listed(), ElementsAre("player-abcd waiting 0"));
  EXPECT_EQ(table_.stats().joins_waiting, 1);
  clock_.Advance(absl::Seconds(59));
  const auto tag = Begin("abcd");
  EXPECT_THAT(Listed(), ElementsAre("player-abcd live 1"));
  clock_.Advance(absl::Hours(5));
  EXPECT_TRUE(IsKnown("abcd"));
  EXPECT_EQ(table_.stats().joins_live, 1);
  tag->OnEnd(kClient, kRelay, EndReason::kIdle);
  EXPECT_THAT(Listed(), ElementsAre("player-abcd lingering 0"));
  clock_.Advance(absl::Seconds(59));
  EXPECT_TRUE(IsKnown("abcd"));
  Begin("abcd")->OnEnd(kClient, kRelay, EndReason::kClientSilent);
  clock_.Advance(absl::Seconds(59));
  EXPECT_TRUE(IsKnown("abcd"));
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_THAT(Listed(), IsEmpty());
  const JoinTableStats stats = table_.stats();
  EXPECT_EQ(stats.joins_added, 1u);
  EXPECT_EQ(stats.joins_begun, 1u);
  EXPECT_EQ(stats.joins_left, 1u);
  EXPECT_EQ(stats.joins_expired, 0u);
  EXPECT_EQ(stats.joins_lingering, 0);
}

TEST_F(JoinTableTest, AJoinWithoutMediaExpires) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  clock_.Advance(absl::Seconds(60));
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_EQ(ResolveOf(kClient, CheckOf("abcd"), &table_).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(table_.stats().joins_expired, 1u);
  EXPECT_EQ(table_.stats().joins_waiting, 0);
}

TEST_F(JoinTableTest, LivesUntilTheLastOfItsSessionsEnds) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const SocketAddress spare = Address("198.51.100.1:1000");
  const auto tag = Begin("abcd");
  Begin("abcd", spare, Address("10.0.0.1:40001"));
  tag->OnEnd(kClient, kRelay, EndReason::kIdle);
  clock_.Advance(absl::Hours(1));
  EXPECT_THAT(Listed(), ElementsAre("player-abcd live 1"));
  // The address that was there before gets its source port again.
  EXPECT_EQ(ResolveOf(kClient, CheckOf("abcd"), &table_)->relay, kRelay);
}

TEST_F(JoinTableTest, TellsTheCoreOfAPlayerWhoMoved) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  Begin("abcd");
  const auto moved =
      ResolveOf(Address("192.0.2.1:2000"), CheckOf("abcd"), &table_);
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(moved->moved_from, kClient);
  EXPECT_EQ(moved->relay, kRelay);
  EXPECT_EQ(table_.stats().clients_moved, 1u);
}

TEST_F(JoinTableTest, DropsWhatBelongsToNoJoin) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const auto drop_of = [&](const std::string& datagram) {
    const auto screening = table_.Screen(kClient, datagram);
    EXPECT_TRUE(screening.has_value());
    return screening->drop;
  };
  EXPECT_EQ(drop_of(CheckOf("efgh")), DropReason::kStunUnknownUfrag);
  stun::BindingRequestOptions guess;
  guess.username = "abcd:offer";
  guess.password = "guessed";
  EXPECT_EQ(drop_of(stun::BuildBindingRequest(guess)),
            DropReason::kStunWrongIntegrity);
  guess.has_integrity_sha1 = false;
  EXPECT_EQ(drop_of(stun::BuildBindingRequest(guess)),
            DropReason::kStunWrongIntegrity);
  const std::string check = CheckOf("abcd");
  EXPECT_EQ(drop_of(check.substr(0, 40)), DropReason::kStunUnknownUfrag);
  std::string response = check;
  response[0] = 1;
  EXPECT_EQ(drop_of(response), DropReason::kStunUnknownUfrag);
  EXPECT_EQ(drop_of("\x16\xfe\xfd"), DropReason::kDtlsWithoutSession);
  const JoinTableStats stats = table_.stats();
  EXPECT_EQ(stats.stun_unknown_ufrag, 2u);
  EXPECT_EQ(stats.stun_wrong_integrity, 2u);
  EXPECT_EQ(stats.stun_malformed, 1u);
  EXPECT_EQ(stats.dtls_without_session, 1u);
  EXPECT_EQ(stats.stun_known, 0u);
}

TEST_F(JoinTableTest, LeavesEverythingElseToOthers) {
  stun::BindingRequestOptions options;
  const std::string without_user_name = stun::BuildBindingRequest(options);
  options.username = "nobody";
  const std::string without_colon = stun::BuildBindingRequest(options);
  for (const std::string& datagram :
       {std::string(), std::string("\x05 RakNet"), std::string("\x01"),
        without_user_name, without_colon}) {
    EXPECT_FALSE(table_.Screen(kClient, datagram).has_value());
    EXPECT_FALSE(table_.Resolve(kClient, datagram).has_value());
  }
}

TEST_F(JoinTableTest, JoinsOfTheSameUfragAreToldApartByTheirPasswords) {
  Join other = JoinWith("abcd");
  other.password = PasswordOf("wxyz");
  other.media = Address("10.0.0.6:19133");
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  ASSERT_TRUE(Add(other, &table_).ok());
  EXPECT_EQ(ResolveOf(kClient, CheckOf("abcd"), &table_)->backend,
            Address("10.0.0.5:19133"));
  stun::BindingRequestOptions options;
  options.username = "abcd:offer";
  options.password = other.password;
  EXPECT_EQ(
      ResolveOf(kClient, stun::BuildBindingRequest(options), &table_)->backend,
      Address("10.0.0.6:19133"));
}

TEST_F(JoinTableTest, RefusesAUfragThatTooManyJoinsHave) {
  JoinTableOptions options;
  JoinTable table(options, &clock_);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(Add(JoinWith("abcd"), &table).ok());
  EXPECT_EQ(Add(JoinWith("abcd"), &table).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(table.stats().ufrags_refused, 1u);
  EXPECT_EQ(table.stats().joins_waiting, 4);
  clock_.Advance(options.join_timeout);
  EXPECT_TRUE(Add(JoinWith("abcd"), &table).ok());
}

TEST_F(JoinTableTest, JoinsThatWaitAreLimited) {
  ASSERT_TRUE(Add(JoinWith("aaaa"), &table_).ok());
  ASSERT_TRUE(Add(JoinWith("bbbb"), &table_).ok());
  auto reservation = table_.Reserve(kClient, kRelay, "");
  ASSERT_TRUE(reservation.ok());
  EXPECT_EQ(table_.stats().joins_waiting, 3);
  const absl::Status refused = Add(JoinWith("cccc"), &table_);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "3 joins are waiting");
  EXPECT_EQ(table_.stats().joins_refused, 1u);
  { const auto given_back = *std::move(reservation); }
  EXPECT_TRUE(Add(JoinWith("cccc"), &table_).ok());
  // A join that lives waits no more.
  Begin("aaaa");
  EXPECT_TRUE(Add(JoinWith("dddd"), &table_).ok());
  EXPECT_FALSE(table_.Reserve(kClient, kRelay, "").ok());
  clock_.Advance(absl::Seconds(60));
  EXPECT_TRUE(table_.Reserve(kClient, kRelay, "").ok());
}

TEST_F(JoinTableTest, JoinsThatLingerAreLimited) {
  for (const char* ufrag : {"aaaa", "bbbb", "cccc", "dddd"}) {
    ASSERT_TRUE(Add(JoinWith(ufrag), &table_).ok());
    Begin(ufrag)->OnEnd(kClient, kRelay, EndReason::kIdle);
  }
  EXPECT_FALSE(IsKnown("aaaa"));
  EXPECT_TRUE(IsKnown("bbbb"));
  EXPECT_EQ(table_.stats().joins_lingering, 3);
  EXPECT_EQ(table_.stats().joins_displaced, 1u);
}

TEST_F(JoinTableTest, AJoinThatExpiresWhileItsSessionOpensComesBack) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const auto result = ResolveOf(kClient, CheckOf("abcd"), &table_);
  ASSERT_TRUE(result.ok()) << result.status();
  clock_.Advance(absl::Seconds(60));
  EXPECT_EQ(table_.stats().joins_expired, 1u);
  EXPECT_THAT(Listed(), IsEmpty());
  result->tag->OnBegin(kClient, kRelay);
  EXPECT_THAT(Listed(), ElementsAre("player-abcd live 1"));
  EXPECT_EQ(table_.stats().joins_begun, 1u);
  EXPECT_EQ(table_.stats().joins_live, 1);
  EXPECT_EQ(table_.FindTag(result->tag->key()), result->tag);
  // Another address of the player is let in.
  Begin("abcd", Address("198.51.100.1:1"), Address("10.0.0.1:40001"));
  EXPECT_THAT(Listed(), ElementsAre("player-abcd live 2"));
}

TEST_F(JoinTableTest, AJoinThatIsDisplacedWhileItsSessionOpensComesBack) {
  ASSERT_TRUE(Add(JoinWith("aaaa"), &table_).ok());
  Begin("aaaa")->OnEnd(kClient, kRelay, EndReason::kIdle);
  const auto result = ResolveOf(kClient, CheckOf("aaaa"), &table_);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const char* ufrag : {"bbbb", "cccc", "dddd"}) {
    ASSERT_TRUE(Add(JoinWith(ufrag), &table_).ok());
    Begin(ufrag)->OnEnd(kClient, kRelay, EndReason::kIdle);
  }
  ASSERT_EQ(table_.stats().joins_displaced, 1u);
  ASSERT_FALSE(IsKnown("aaaa"));
  result->tag->OnBegin(kClient, kRelay);
  EXPECT_TRUE(IsKnown("aaaa"));
  EXPECT_EQ(table_.stats().joins_live, 1);
  EXPECT_EQ(table_.stats().joins_begun, 4u);
}

TEST_F(JoinTableTest, AJoinThatAnotherGatewayHasEndedDoesNotComeBack) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const auto result = ResolveOf(kClient, CheckOf("abcd"), &table_);
  ASSERT_TRUE(result.ok()) << result.status();
  clock_.Advance(absl::Seconds(60));
  ASSERT_EQ(table_.stats().joins_expired, 1u);
  EXPECT_THAT(table_.EndShared(result->tag->key()), IsEmpty());
  result->tag->OnBegin(kClient, kRelay);
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTableTest, AJoinDoesNotComeBackIfItsUfragHasNoRoomLeft) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  const auto result = ResolveOf(kClient, CheckOf("abcd"), &table_);
  ASSERT_TRUE(result.ok()) << result.status();
  clock_.Advance(absl::Seconds(60));
  JoinTableOptions options = Options();
  options.joins_max = 4;
  ASSERT_TRUE(table_.SetOptions(options).ok());
  for (int i = 0; i < 4; ++i) {
    Join join = JoinWith("abcd");
    join.password = absl::StrCat("another-password-012345-", i);
    ASSERT_TRUE(Add(std::move(join), &table_).ok());
  }
  result->tag->OnBegin(kClient, kRelay);
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTableTest, AddressesOfAJoinAreLimited) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  Begin("abcd");
  Begin("abcd", Address("198.51.100.1:1"), Address("10.0.0.1:40001"));
  const SocketAddress third = Address("198.51.100.2:1");
  EXPECT_EQ(table_.Screen(third, CheckOf("abcd"))->drop,
            DropReason::kStunAddressLimit);
  EXPECT_EQ(ResolveOf(third, CheckOf("abcd"), &table_).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(IsKnown("abcd"));
  EXPECT_EQ(table_.stats().stun_address_limit, 1u);
  JoinTableOptions options = Options();
  options.addresses_per_join_max = 3;
  ASSERT_TRUE(table_.SetOptions(options).ok());
  EXPECT_FALSE(table_.Screen(third, CheckOf("abcd"))->drop.has_value());
}

TEST_F(JoinTableTest, OptionsAreChecked) {
  JoinTableOptions options;
  options.joins_max = 0;
  EXPECT_EQ(OptionAtFault(options.Validate()), "joins_max");
  EXPECT_EQ(OptionAtFault(table_.SetOptions(options)), "joins_max");
  options = JoinTableOptions();
  options.join_timeout = absl::ZeroDuration();
  EXPECT_EQ(OptionAtFault(options.Validate()), "join_timeout");
  options = JoinTableOptions();
  options.linger = absl::Hours(2);
  EXPECT_EQ(OptionAtFault(options.Validate()), "linger");
  options = JoinTableOptions();
  options.addresses_per_join_max = 0;
  EXPECT_EQ(OptionAtFault(options.Validate()), "addresses_per_join_max");
  options = JoinTableOptions();
  options.shared_joins_max = -1;
  EXPECT_EQ(OptionAtFault(options.Validate()), "shared_joins_max");
  EXPECT_TRUE(JoinTableOptions().Validate().ok());
}

TEST_F(JoinTableTest, AReloadAppliesToJoinsThatWait) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  JoinTableOptions options = Options();
  options.join_timeout = absl::Seconds(5);
  ASSERT_TRUE(table_.SetOptions(options).ok());
  clock_.Advance(absl::Seconds(5));
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTableTest, ListsNoPassword) {
  ASSERT_TRUE(Add(JoinWith("abcd"), &table_).ok());
  clock_.Advance(absl::Seconds(7));
  const std::vector<JoinInfo> joins = table_.List();
  ASSERT_EQ(joins.size(), 1u);
  EXPECT_EQ(joins[0].player, "192.0.2.1");
  EXPECT_EQ(joins[0].backend, "10.0.0.5:19132");
  EXPECT_EQ(joins[0].backend_label, "lobby.internal:19132");
  EXPECT_EQ(joins[0].media, "10.0.0.5:19133");
  EXPECT_EQ(joins[0].age, absl::Seconds(7));
  EXPECT_FALSE(joins[0].is_shared);
  EXPECT_EQ(joins[0].id.size(), 16u);
  EXPECT_THAT(joins[0].id, Not(HasSubstr("password")));
}

TEST_F(JoinTableTest, JoinsOfAnotherGatewayAreKnownUntilTheyAreTooOld) {
  Join join = JoinWith("abcd");
  join.id = "0123456789abcdef";
  table_.AddShared(join, absl::Seconds(59));
  table_.AddShared(join, absl::ZeroDuration());  // it is known already
  EXPECT_TRUE(IsKnown("abcd"));
  EXPECT_THAT(Listed(), ElementsAre("player-abcd waiting 0"));
  EXPECT_TRUE(table_.List()[0].is_shared);
  JoinTableStats stats = table_.stats();
  EXPECT_EQ(stats.joins_shared, 1u);
  EXPECT_EQ(stats.joins_shared_waiting, 1);
  EXPECT_EQ(stats.joins_waiting, 0);
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_EQ(table_.stats().joins_expired, 0u);
  join.id = "0123456789abcde0";
  table_.AddShared(join, absl::Seconds(60));
  EXPECT_FALSE(IsKnown("abcd"));
}

TEST_F(JoinTableTest, JoinsOfOtherGatewaysAreLimited) {
  for (const char* ufrag : {"aaaa", "bbbb", "cccc"}) {
    Join join = JoinWith(ufrag);
    join.id = ufrag;
    table_.AddShared(join, absl::ZeroDuration());
  }
  EXPECT_FALSE(IsKnown("aaaa"));
  EXPECT_TRUE(IsKnown("bbbb"));
  EXPECT_TRUE(IsKnown("cccc"));
  EXPECT_EQ(table_.stats().joins_displaced, 1u);
}

TEST_F(JoinTableTest, AnEndAtAnotherGatewayEndsTheSessionsHere) {
  Join join = JoinWith("abcd");
  join.id = "0123456789abcdef";
  table_.AddShared(join, absl::ZeroDuration());
  Begin("abcd");
  EXPECT_THAT(table_.EndShared("unknown"), IsEmpty());
  EXPECT_THAT(table_.EndShared(join.id), ElementsAre(kClient));
  EXPECT_FALSE(IsKnown("abcd"));
  EXPECT_THAT(table_.EndShared(join.id), IsEmpty());
}

}  // namespace
}  // namespace test
}  // namespace nethernet
}  // namespace udpgate
