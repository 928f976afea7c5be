#include "udpgate/store/internal/keeper_core.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/store/internal/core_fixture.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const SocketAddress kLocal = SocketAddress::Ipv4Loopback(19132);
const SocketAddress kBackend = SocketAddress::Ipv4Loopback(9);
const SocketAddress kOtherBackend = SocketAddress::Ipv4Loopback(10);

SocketAddress Client(int number) {
  return SocketAddress::FromIpAndPort("203.0.113.7",
                                      static_cast<uint16_t>(1000 + number))
      .value();
}

class KeeperCoreTest : public ::testing::Test {
 protected:
  KeeperCoreTest() {
    options_.gateway_id = "a";
    options_.log_sink = [this](LogSeverity, absl::string_view line) {
      log_.emplace_back(line);
    };
    a_ = Start("a");
  }

  std::unique_ptr<CoreHost> Create(absl::string_view id) {
    SessionKeeperOptions options = options_;
    options.gateway_id = std::string(id);
    return fleet_.NewHost(std::move(options), kLocal);
  }
  std::unique_ptr<CoreHost> Start(absl::string_view id) {
    std::unique_ptr<CoreHost> host = Create(id);
    connections_[id.front()] = &fleet_.last_connection();
    host->Start();
    return host;
  }
  void Advance(absl::Duration time = absl::Seconds(2)) {
    std::vector<CoreHost*> hosts;
    for (const auto* host : {&a_, &b_}) {
      if (*host != nullptr) hosts.push_back(host->get());
    }
    fleet_.Advance(time, hosts);
  }
  absl::optional<StoredSession> Record(int client) {
    return fleet_.store.Find(Client(client));
  }
  std::string OwnerOf(int client) {
    const absl::optional<StoredSession> record = Record(client);
    return record.has_value() ? record->gateway_id : "nobody";
  }
  void Cut(char id, bool is_cut) {
    test::FakeSessionStore::Link link;
    link.is_cut = is_cut;
    connections_[id]->SetLink(link);
  }
  // Asks for the record of a client, and waits for the verdict.
  Verdict Ask(CoreHost* host, int client) {
    Verdict verdict;
    bool is_answered = false;
    host->SetTime();
    host->core()->Ask(Client(client), absl::Seconds(1), [&](Verdict given) {
      verdict = std::move(given);
      is_answered = true;
    });
    Advance(absl::Seconds(1));
    EXPECT_TRUE(is_answered);
    return verdict;
  }
  void Disconnect(CoreHost* host, const DisconnectTarget& target) {
    host->SetTime();
    host->core()->OnDisconnect(target);
  }

  CoreFleet fleet_;
  SessionKeeperOptions options_;
  std::vector<std::string> log_;
  std::map<char, test::FakeStoreConnection*> connections_;
  std::unique_ptr<CoreHost> a_, b_;
};

TEST_F(KeeperCoreTest, AConfirmedSessionIsWrittenAndAnEndedOneRemoved) {
  const auto& session = a_->Confirm(Client(1), kBackend);
  const uint64_t id = session.info.id;
  Advance();
  ASSERT_TRUE(Record(1).has_value());
  EXPECT_EQ(Record(1)->backend, kBackend);
  EXPECT_EQ(Record(1)->local, kLocal);
  EXPECT_EQ(Record(1)->token, (SessionToken{(*a_)->run(), id}));
  a_->End(Client(1), EndReason::kIdle);
  Advance();
  EXPECT_FALSE(Record(1).has_value());
  EXPECT_EQ(a_->stats().written, 1u);
  EXPECT_EQ(a_->stats().removed, 1u);
}

TEST_F(KeeperCoreTest, ASessionThatIsStoppedOrSupersededKeepsItsRecord) {
  a_->Confirm(Client(1), kBackend);
  a_->Confirm(Client(2), kBackend);
  Advance();
  a_->End(Client(1), EndReason::kStopped);
  a_->End(Client(2), EndReason::kSuperseded);
  Advance();
  EXPECT_EQ(OwnerOf(1), "a");
  EXPECT_EQ(OwnerOf(2), "a");
}

TEST_F(KeeperCoreTest, ChangesOfManySessionsShareCalls) {
  const uint64_t calls = a_->stats().calls;
  for (int i = 0; i < 1000; ++i) a_->Confirm(Client(i), kBackend);
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(a_->stats().written, 1000u);
  EXPECT_LE(a_->stats().calls - calls, 10u);
}

TEST_F(KeeperCoreTest, RecordsOutliveTheirLifetimeByRefreshes) {
  a_.reset();
  options_.record_lifetime = absl::Seconds(20);
  a_ = Start("a");
  for (int i = 0; i < 300; ++i) a_->Confirm(Client(i), kBackend);
  Advance(3 * options_.record_lifetime);
  EXPECT_EQ(fleet_.store.sessions().size(), 300u);
  EXPECT_EQ(a_->stats().written, 300u);
  EXPECT_EQ(a_->stats().lost, 0u);
}

TEST_F(KeeperCoreTest, WhatTheStoreHasLostIsWrittenAgain) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  fleet_.store.Clear();
  Advance(absl::Seconds(3));
  EXPECT_EQ(OwnerOf(1), "a");
  EXPECT_EQ(a_->stats().rewritten, 1u);
}

TEST_F(KeeperCoreTest, ASessionThatAnotherGatewayConfirmsEndsHere) {
  b_ = Start("b");
  a_->Confirm(Client(1), kBackend);
  Advance();
  b_->Confirm(Client(1), kBackend);
  Advance(absl::Seconds(3));
  EXPECT_EQ(OwnerOf(1), "b");
  EXPECT_THAT(a_->gateway().superseded, ElementsAre(Client(1)));
  EXPECT_EQ(a_->stats().lost, 1u);
  EXPECT_NE(b_->gateway().Find(Client(1)), nullptr);
}

TEST_F(KeeperCoreTest, ASecondSessionOfAClientReplacesTheFirst) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_->End(Client(1), EndReason::kIdle);
  const uint64_t id = a_->Confirm(Client(1), kOtherBackend).info.id;
  Advance();
  ASSERT_TRUE(Record(1).has_value());
  EXPECT_EQ(Record(1)->token.session, id);
  EXPECT_EQ(Record(1)->backend, kOtherBackend);
}

TEST_F(KeeperCoreTest, ChangesOfAClientKeepTheirOrderWhileTheStoreIsSlow) {
  connections_['a']->SetLink(
      {absl::Milliseconds(200), absl::Milliseconds(200)});
  a_->Confirm(Client(1), kBackend);
  Advance(absl::Milliseconds(100));
  a_->End(Client(1), EndReason::kIdle);
  Advance();
  EXPECT_FALSE(Record(1).has_value());
  EXPECT_EQ(a_->stats().removed, 1u);
}

TEST_F(KeeperCoreTest, EventsThatWereDroppedAreMadeUpFor) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_->End(Client(1), EndReason::kIdle, /*is_told=*/false);
  a_->Confirm(Client(2), kBackend, /*is_told=*/false);
  a_->gateway().dropped_events = 2;
  Advance(absl::Seconds(5));
  EXPECT_FALSE(Record(1).has_value());
  EXPECT_EQ(OwnerOf(2), "a");
}

TEST_F(KeeperCoreTest, AGatewayThatListsNothingOnceKeepsItsRecords) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_->gateway().is_serving = false;
  Advance(3 * options_.sweep_interval);
  EXPECT_EQ(OwnerOf(1), "a");
}

TEST_F(KeeperCoreTest, TheQueueIsBoundedAndMadeUpFor) {
  a_.reset();
  options_.queue_max = 100;
  a_ = Start("a");
  Cut('a', true);
  for (int i = 0; i < 500; ++i) a_->Confirm(Client(i), kBackend);
  Advance(absl::Seconds(5));
  EXPECT_GT(a_->stats().changes_dropped, 0u);
  EXPECT_LE((*a_)->records().queue_depth(), 100u);
  EXPECT_EQ(a_->gateway().sessions.size(), 500u);
  Cut('a', false);
  Advance(3 * options_.sweep_interval);
  EXPECT_EQ(fleet_.store.sessions().size(), 500u);
}

TEST_F(KeeperCoreTest, NoSessionEndsWhileTheStoreIsAway) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  Cut('a', true);
  Advance(2 * options_.record_lifetime);
  EXPECT_NE(a_->gateway().Find(Client(1)), nullptr);
  EXPECT_FALSE(Record(1).has_value());
  EXPECT_FALSE(a_->stats().is_store_available);
  Cut('a', false);
  Advance(absl::Seconds(10));
  EXPECT_EQ(OwnerOf(1), "a");
}

TEST_F(KeeperCoreTest, AChangeOfTheRelayAddressIsWritten) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  const SocketAddress relay = SocketAddress::Ipv4Loopback(50'000);
  a_->gateway().Find(Client(1))->info.relay = relay;
  Advance(options_.sweep_interval + absl::Seconds(1));
  EXPECT_EQ(Record(1)->relay, relay);
}

TEST_F(KeeperCoreTest, AWriteThatComesTooLateLeavesNoRecordOfAnEndedSession) {
  connections_['a']->SetLink({absl::Seconds(4), absl::ZeroDuration()});
  a_->Confirm(Client(1), kBackend);
  Advance(absl::Milliseconds(1500));
  connections_['a']->SetLink({});
  a_->End(Client(1), EndReason::kIdle);
  Advance(absl::Seconds(4));
  EXPECT_EQ(OwnerOf(1), "a");  // the store was late
  Advance(absl::Seconds(30));
  EXPECT_FALSE(Record(1).has_value());
}

TEST_F(KeeperCoreTest, AProcessThatStartsAgainContinuesItsSessions) {
  const SocketAddress relay = a_->Confirm(Client(1), kBackend).info.relay;
  a_->Confirm(Client(2), kBackend);
  Advance(absl::Seconds(10));
  a_.reset();
  a_ = Start("a");
  a_->gateway().taken_relays.insert("127.0.0.1:40001");
  Advance(absl::Milliseconds(100));
  ASSERT_NE(a_->gateway().Find(Client(1)), nullptr);
  EXPECT_EQ(a_->gateway().Find(Client(1))->info.relay, relay);
  EXPECT_EQ(a_->gateway().Find(Client(1))->info.backend, kBackend);
  EXPECT_GE(a_->gateway().AgeOf(*a_->gateway().Find(Client(1))),
            absl::Seconds(9));
  EXPECT_EQ(Record(1)->token.run, (*a_)->run());
  EXPECT_EQ(a_->stats().recovered, 2u);
  EXPECT_EQ(a_->stats().adopted, 2u);
  Advance(absl::Minutes(1));
  EXPECT_EQ(a_->stats().lost, 0u);
  EXPECT_FALSE(a_->stats().is_fenced);
}

TEST_F(KeeperCoreTest, APortThatIsTakenIsLostAndTheBackendIsNot) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_.reset();
  a_ = Create("a");
  a_->gateway().taken_relays.insert("127.0.0.1:40000");
  a_->gateway().next_relay_port = 45'000;
  a_->Start();
  Advance();
  ASSERT_NE(a_->gateway().Find(Client(1)), nullptr);
  EXPECT_EQ(a_->gateway().Find(Client(1))->info.backend, kBackend);
  EXPECT_EQ(Record(1)->relay.port(), 45'000);
  EXPECT_EQ(a_->stats().recovered_on_other_port, 1u);
}

TEST_F(KeeperCoreTest, WhatAnotherHasAdoptedMeanwhileEndsHere) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_.reset();
  a_ = Create("a");
  connections_['a'] = &fleet_.last_connection();
  // What it reads is old by the time it adopts.
  connections_['a']->SetLink({absl::ZeroDuration(), absl::Milliseconds(400)});
  a_->Start();
  Advance(absl::Milliseconds(500));
  b_ = Start("b");
  b_->Confirm(Client(1), kBackend);
  Advance();
  EXPECT_EQ(OwnerOf(1), "b");
  EXPECT_EQ(a_->gateway().Find(Client(1)), nullptr);
}

TEST_F(KeeperCoreTest, RecoveryIsMadeUpForWhenTheStoreIsThere) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_.reset();
  a_ = Create("a");
  connections_['a'] = &fleet_.last_connection();
  Cut('a', true);
  a_->Start();
  Advance(absl::Seconds(5));
  EXPECT_TRUE(a_->gateway().sessions.empty());
  Cut('a', false);
  Advance(absl::Seconds(3));
  EXPECT_NE(a_->gateway().Find(Client(1)), nullptr);
}

TEST_F(KeeperCoreTest, AListOfManyRecordsMayTakeLong) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_.reset();
  a_ = Create("a");
  connections_['a'] = &fleet_.last_connection();
  connections_['a']->SetLink({absl::ZeroDuration(), absl::Milliseconds(5)});
  a_->Start();  // asks for its lease, and then for the list
  connections_['a']->SetLink(
      {absl::ZeroDuration(), absl::Seconds(60), absl::Seconds(90)});
  Advance(absl::Milliseconds(20));
  connections_['a']->SetLink({});
  const uint64_t calls = a_->stats().calls;
  Advance(absl::Seconds(55));
  EXPECT_EQ(a_->gateway().Find(Client(1)), nullptr);
  EXPECT_GT(a_->stats().calls, calls);
  Advance(absl::Seconds(6));
  EXPECT_NE(a_->gateway().Find(Client(1)), nullptr);
  EXPECT_EQ(a_->stats().calls_failed, 0u);
}

// As a store that connects while the gateway starts.
TEST_F(KeeperCoreTest, AStoreThatRefusesCallsAtFirstIsSoonAskedAgain) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_.reset();
  log_.clear();
  a_ = Create("a");
  connections_['a'] = &fleet_.last_connection();
  test::FakeSessionStore::Link link;
  link.is_cut = true;
  link.timeout = absl::ZeroDuration();
  connections_['a']->SetLink(link);
  a_->Start();
  Advance(absl::Milliseconds(20));
  EXPECT_EQ(a_->gateway().Find(Client(1)), nullptr);
  // It may only be not there yet.
  EXPECT_THAT(log_, IsEmpty());
  Cut('a', false);
  Advance(absl::Milliseconds(50));
  EXPECT_NE(a_->gateway().Find(Client(1)), nullptr);
}

TEST_F(KeeperCoreTest, AnotherProcessWithTheSameIdFencesBoth) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  b_ = Start("a");
  Advance(absl::Seconds(3));
  EXPECT_TRUE(a_->stats().is_fenced);
  EXPECT_TRUE(b_->stats().is_fenced);
  a_->Confirm(Client(2), kBackend);
  Advance(absl::Seconds(3));
  EXPECT_FALSE(Record(2).has_value());
  b_.reset();
  Advance(absl::Seconds(3));
  EXPECT_FALSE(a_->stats().is_fenced);
  EXPECT_EQ(OwnerOf(2), "a");
}

TEST_F(KeeperCoreTest, ALiveOwnerIsForwardedToIfBothForward) {
  options_.forward_address = "10.0.0.1:7000";
  a_ = Start("a");
  a_->Confirm(Client(1), kBackend);
  Advance();
  b_ = Start("b");
  const Verdict verdict = Ask(b_.get(), 1);
  EXPECT_EQ(verdict.kind, Verdict::Kind::kSameBackend);
  EXPECT_EQ(verdict.forward_to.ToString(), "10.0.0.1:7000");
  EXPECT_EQ(verdict.record.backend, kBackend);
  // Only one of them forwards.
  options_.forward_address.clear();
  b_ = Start("c");
  EXPECT_FALSE(Ask(b_.get(), 1).forward_to.is_valid());
  EXPECT_EQ(b_->stats().newcomers_forwarded, 0u);
  // A dead one is not forwarded to.
  a_.reset();
  options_.forward_address = "10.0.0.2:7000";
  b_ = Start("d");
  Advance(absl::Seconds(4));
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kAdopted);
}

TEST_F(KeeperCoreTest, AnAddressThatCannotBeForwardedToIsSaid) {
  options_.forward_address = "nowhere";
  a_ = Start("a");
  a_->Confirm(Client(1), kBackend);
  Advance();
  b_ = Start("b");
  EXPECT_FALSE(Ask(b_.get(), 1).forward_to.is_valid());
  EXPECT_EQ(b_->stats().invalid, 1u);
  EXPECT_THAT(log_, Contains("session store: the lease of a names no address "
                             "to forward to"));
}

TEST_F(KeeperCoreTest, ANewcomerOfADeadGatewayIsAdopted) {
  b_ = Start("b");
  a_->Confirm(Client(1), kBackend);
  Advance();
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kSameBackend);
  a_.reset();
  Advance(absl::Seconds(4));
  const Verdict verdict = Ask(b_.get(), 1);
  EXPECT_EQ(verdict.kind, Verdict::Kind::kAdopted);
  EXPECT_EQ(verdict.record.backend, kBackend);
  EXPECT_EQ(OwnerOf(1), "b");
  EXPECT_TRUE(IsClaim(Record(1)->token));
  const uint64_t id = b_->Confirm(Client(1), kBackend).info.id;
  Advance();
  EXPECT_EQ(Record(1)->token.session, id);
  EXPECT_EQ(Ask(b_.get(), 2).kind, Verdict::Kind::kNothing);
}

TEST_F(KeeperCoreTest, ANewcomerWhoseSessionHasEndedHereIsNotAdopted) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  Cut('a', true);
  a_->End(Client(1), EndReason::kIdle);
  Advance(absl::Seconds(2));
  // Whatever the store still has.
  connections_['a']->SetLink({});
  EXPECT_EQ(Ask(a_.get(), 1).kind, Verdict::Kind::kNothing);
}

TEST_F(KeeperCoreTest, ANewcomerWaitsNotLongerThanItsDeadline) {
  b_ = Start("b");
  a_->Confirm(Client(1), kBackend);
  Advance();
  connections_['b']->SetLink(
      {absl::ZeroDuration(), absl::Seconds(5), absl::Seconds(9)});
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kNothing);
  EXPECT_EQ(b_->stats().newcomers_timed_out, 1u);
}

TEST_F(KeeperCoreTest, ANewcomerHasTheAgeOfItsRecord) {
  b_ = Start("b");
  a_->Confirm(Client(1), kBackend);
  Advance(absl::Seconds(20));
  EXPECT_GE(Ask(b_.get(), 1).age, absl::Seconds(20));
}

TEST_F(KeeperCoreTest, AnEventThatComesWhileARecordIsAdoptedCounts) {
  b_ = Start("b");
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_.reset();
  Advance(absl::Seconds(4));
  // Found in time, and adopted too late.
  connections_['b']->SetLink({absl::ZeroDuration(), absl::Milliseconds(600)});
  absl::optional<Verdict> verdict;
  b_->SetTime();
  b_->core()->Ask(Client(1), absl::Seconds(1),
                  [&verdict](Verdict given) { verdict = std::move(given); });
  Advance(absl::Milliseconds(800));
  ASSERT_FALSE(verdict.has_value());
  Disconnect(b_.get(), DisconnectTarget::ForClient(Client(1)));
  Advance(absl::Milliseconds(300));
  ASSERT_TRUE(verdict.has_value());
  EXPECT_EQ(verdict->kind, Verdict::Kind::kNothing);
}

TEST_F(KeeperCoreTest, ADisconnectKeepsARecordFromBeingUsedAndRemovesIt) {
  b_ = Start("b");
  const std::vector<DisconnectTarget> targets = {
      DisconnectTarget::ForClient(Client(0)),
      DisconnectTarget::ForClientIp(Client(1)),
      DisconnectTarget::ForBackend(kBackend),
      DisconnectTarget::ForBackendText(kBackend.ToString()),
      DisconnectTarget::ForRelay(SocketAddress::Ipv4Loopback(40'004)),
      DisconnectTarget::ForRelayPort(40'005)};
  for (size_t i = 0; i < targets.size(); ++i) {
    a_->Confirm(Client(static_cast<int>(i)), kBackend);
  }
  Advance();
  // The gateway dies without having heard of it.
  for (size_t i = 0; i < targets.size(); ++i) {
    const int client = static_cast<int>(i);
    auto former = std::exchange(b_, Start("b"));
    Disconnect(b_.get(), targets[i]);
    EXPECT_EQ(Ask(b_.get(), client).kind, Verdict::Kind::kNothing) << i;
  }
  a_.reset();
  Disconnect(b_.get(), DisconnectTarget::ForClientIp(Client(1)));
  Advance(absl::Seconds(6));
  EXPECT_THAT(fleet_.store.sessions(), IsEmpty());
}

TEST_F(KeeperCoreTest, ASessionThatBeganAfterTheEventIsContinued) {
  b_ = Start("b");
  for (CoreHost* const host : {a_.get(), b_.get()}) {
    Disconnect(host, DisconnectTarget::ForClient(Client(1)));
  }
  Advance(absl::Milliseconds(20));
  a_->Confirm(Client(1), kOtherBackend);
  Advance();
  a_.reset();
  Advance(absl::Seconds(5));
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kAdopted);
}

TEST_F(KeeperCoreTest, AnOldEventNamesOnlyOlderSessions) {
  b_ = Start("b");
  a_->Confirm(Client(1), kBackend);
  Advance(absl::Seconds(60));
  a_->Confirm(Client(2), kBackend);
  Advance();
  a_.reset();
  Advance(absl::Seconds(5));
  DisconnectTarget target = DisconnectTarget::ForBackend(kBackend);
  target.set_age(absl::Seconds(30));
  Disconnect(b_.get(), target);
  Advance(absl::Seconds(3));
  EXPECT_EQ(OwnerOf(1), "nobody");
  EXPECT_EQ(OwnerOf(2), "a");
}

TEST_F(KeeperCoreTest, ARecordFromTheFutureIsSaidAndUsable) {
  b_ = Start("b");
  a_->clock_offset = absl::Hours(5);
  a_->Confirm(Client(1), kBackend);
  Advance();
  a_.reset();
  Advance(absl::Seconds(5));
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kAdopted);
  EXPECT_GT(b_->stats().from_future, 0u);
}

TEST_F(KeeperCoreTest, AfterAJumpOfTheClockRecordsSayTheNewTime) {
  a_->Confirm(Client(1), kBackend);
  Advance();
  const absl::Time since = Record(1)->since;
  a_->clock_offset = -absl::Hours(1);
  Advance();
  EXPECT_LT(Record(1)->since, since - absl::Minutes(59));
  EXPECT_EQ(a_->stats().clock_jumps, 1u);
}

TEST_F(KeeperCoreTest, RecordsOfNoUseAreCounted) {
  b_ = Start("b");
  a_->Confirm(Client(1), kBackend);
  Advance();
  connections_['b']->SetLie(test::FakeSessionStore::Lie::kForeign);
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kNothing);
  connections_['b']->SetLie(test::FakeSessionStore::Lie::kGarbled);
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kNothing);
  EXPECT_EQ(b_->stats().invalid, 2u);
  connections_['b']->SetLie(test::FakeSessionStore::Lie::kWrongCount);
  EXPECT_EQ(Ask(b_.get(), 1).kind, Verdict::Kind::kNothing);
  EXPECT_GT(b_->stats().calls_failed, 0u);
}

TEST_F(KeeperCoreTest, ATakeoverNeedsNoWrite) {
  a_->Confirm(Client(1), kBackend);
  Disconnect(a_.get(), DisconnectTarget::ForBackend(kOtherBackend));
  Advance();
  const std::string state = (*a_)->ExportRun();
  auto sessions = a_->gateway().sessions;
  std::unique_ptr<CoreHost> old = std::exchange(a_, Create("a"));
  a_->SetTime();
  ASSERT_TRUE((*a_)->ContinueRun(state).ok());
  a_->gateway().sessions = sessions;
  (*a_)->SetGateway(&a_->gateway());
  (*a_)->OnServing();
  (*old)->BeginStop(/*ends_run=*/false);
  old.reset();
  Advance(absl::Minutes(1));
  EXPECT_EQ(a_->stats().written, 0u);
  EXPECT_GT(a_->stats().refreshed, 0u);
  EXPECT_EQ(OwnerOf(1), "a");
  EXPECT_FALSE(a_->stats().is_fenced);
  EXPECT_EQ(a_->stats().disconnects_remembered, 1u);
}

TEST_F(KeeperCoreTest, AStateThatCannotBeReadIsNamed) {
  for (const char* const state :
       {"", "2 0000000000000001 serving\n", "1 01 serving\n",
        "1 0000000000000001\n", "1 000000000000000x serving\n",
        "1 0000000000000001 serving\nx", "1 0000000000000001 sleeping"}) {
    EXPECT_EQ((*a_)->ContinueRun(state).code(),
              absl::StatusCode::kInvalidArgument)
        << state;
  }
}

TEST_F(KeeperCoreTest, AStopEndsTheLeaseAfterTheLastChange) {
  a_->Confirm(Client(1), kBackend);
  a_->Confirm(Client(2), kBackend);
  Advance();
  a_->End(Client(1), EndReason::kIdle);
  a_->End(Client(2), EndReason::kStopped);
  (*a_)->BeginStop(/*ends_run=*/true);
  Advance(absl::Milliseconds(100));
  EXPECT_TRUE((*a_)->HasStopped());
  EXPECT_FALSE(fleet_.store.HasLease("a"));
  EXPECT_EQ(OwnerOf(1), "nobody");
  EXPECT_EQ(OwnerOf(2), "a");
}

}  // namespace
}  // namespace internal
}  // namespace store
}  // namespace udpgate
