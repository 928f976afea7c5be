#include "testing/fake_session_store.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/mock_session_store.h"
#include "testing/simulated_clock.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::NiceMock;
using Outcome = SessionStore::Outcome;
using Outcomes = std::vector<Outcome>;
using Lie = FakeSessionStore::Lie;

constexpr absl::Duration kLifetime = absl::Minutes(1);

StoredSession Session(uint16_t port, absl::string_view gateway, uint64_t run) {
  StoredSession session;
  session.client = SocketAddress::Ipv4Loopback(port);
  session.local = SocketAddress::Ipv4Loopback(19132);
  session.backend = SocketAddress::Ipv4Loopback(9);
  session.relay = SocketAddress::Ipv4Loopback(40000);
  session.gateway_id = std::string(gateway);
  session.token = {run, port};
  session.since = absl::FromUnixSeconds(1'700'000'000);
  return session;
}

// Keeps what a call results in.
template <typename T>
class Result {
 public:
  SessionStore::Done<T> Done() {
    return [this](absl::StatusOr<T> result) {
      result_ = std::move(result);
      ++count_;
    };
  }
  const T& value() const { return *result_; }
  absl::StatusCode code() const { return result_.status().code(); }
  int count() const { return count_; }

 private:
  absl::StatusOr<T> result_ = absl::UnknownError("no result");
  int count_ = 0;
};

class FakeSessionStoreTest : public ::testing::Test {
 protected:
  Outcomes Write(std::vector<StoredSession> sessions) {
    Result<Outcomes> result;
    a_->Write(std::move(sessions), kLifetime, result.Done());
    return result.value();
  }
  Outcomes Adopt(SessionStore::Adoption adoption) {
    Result<Outcomes> result;
    b_->Adopt({std::move(adoption)}, kLifetime, result.Done());
    return result.value();
  }
  std::vector<SessionStore::Found> Find(uint16_t port) {
    Result<std::vector<SessionStore::Found>> result;
    b_->Find({SocketAddress::Ipv4Loopback(port)}, result.Done());
    return result.value();
  }
  void Renew(absl::string_view id, uint64_t run) {
    Result<absl::optional<GatewayLease>> result;
    a_->RenewLease({std::string(id), run, ""}, absl::Seconds(3), result.Done());
    former_ = result.value();
  }
  void Advance(absl::Duration time) {
    clock_.Advance(time);
    store_.Run();
  }

  SimulatedClock clock_;
  FakeSessionStore store_{&clock_};
  std::shared_ptr<FakeStoreConnection> a_ = store_.Connect();
  std::shared_ptr<FakeStoreConnection> b_ = store_.Connect();
  absl::optional<GatewayLease> former_;
};

TEST_F(FakeSessionStoreTest, WhatOneWritesTheOtherFinds) {
  EXPECT_THAT(Write({Session(1, "a", 7)}), ElementsAre(Outcome::kDone));
  ASSERT_TRUE(Find(1)[0].session.has_value());
  EXPECT_EQ(Find(1)[0].session->token, (SessionToken{7, 1}));
  EXPECT_FALSE(Find(1)[0].owner.has_value());
  EXPECT_FALSE(Find(2)[0].session.has_value());
  Renew("a", 7);
  EXPECT_EQ(Find(1)[0].owner->run, 7u);
}

TEST_F(FakeSessionStoreTest, RecordsAndLeasesRunOut) {
  Write({Session(1, "a", 7)});
  Renew("a", 7);
  EXPECT_FALSE(former_.has_value());
  Renew("a", 8);
  EXPECT_EQ(former_->run, 7u);
  Advance(absl::Seconds(3));
  EXPECT_FALSE(store_.HasLease("a"));
  EXPECT_TRUE(store_.Find(SocketAddress::Ipv4Loopback(1)).has_value());
  Advance(kLifetime);
  EXPECT_THAT(store_.sessions(), IsEmpty());
}

TEST_F(FakeSessionStoreTest, RefreshAndRemoveCompareTheToken) {
  Write({Session(1, "a", 7)});
  const SocketAddress client = SocketAddress::Ipv4Loopback(1);
  const std::vector<SessionStore::SessionKey> keys = {
      {client, {8, 1}}, {client, {7, 1}}, {client.WithPort(2), {7, 2}}};
  Result<Outcomes> result;
  a_->Refresh(keys, kLifetime, result.Done());
  EXPECT_THAT(result.value(), ElementsAre(Outcome::kOtherOwner, Outcome::kDone,
                                          Outcome::kAbsent));
  a_->Remove(keys, result.Done());
  EXPECT_THAT(result.value(), ElementsAre(Outcome::kOtherOwner, Outcome::kDone,
                                          Outcome::kAbsent));
}

TEST_F(FakeSessionStoreTest, AdoptComparesTheTokenAndAsksForTheLease) {
  Write({Session(1, "a", 7)});
  Renew("a", 7);
  EXPECT_THAT(Adopt({Session(1, "b", 8), {7, 1}, "a"}),
              ElementsAre(Outcome::kOwnerLives));
  EXPECT_THAT(Adopt({Session(1, "b", 8), {6, 1}, ""}),
              ElementsAre(Outcome::kOtherOwner));
  EXPECT_THAT(Adopt({Session(2, "b", 8), {7, 2}, ""}),
              ElementsAre(Outcome::kAbsent));
  EXPECT_THAT(Adopt({Session(1, "b", 8), {7, 1}, ""}),
              ElementsAre(Outcome::kDone));
  // Repeated.
  EXPECT_THAT(Adopt({Session(1, "b", 8), {7, 1}, "a"}),
              ElementsAre(Outcome::kDone));
  EXPECT_EQ(Find(1)[0].session->gateway_id, "b");
}

TEST_F(FakeSessionStoreTest, GatewaysAreThoseWithRecordsOrALease) {
  Write({Session(1, "a", 7), Session(2, "b", 8)});
  Renew("b", 8);
  Renew("c", 9);
  Result<std::vector<SessionStore::Gateway>> gateways;
  a_->ListGateways(gateways.Done());
  ASSERT_EQ(gateways.value().size(), 3u);
  EXPECT_FALSE(gateways.value()[0].lease.has_value());
  EXPECT_TRUE(gateways.value()[1].lease.has_value());
  Result<std::vector<StoredSession>> sessions;
  a_->List("a", sessions.Done());
  ASSERT_EQ(sessions.value().size(), 1u);
  Result<std::vector<SocketAddress>> clients;
  a_->ListClients("b", clients.Done());
  EXPECT_THAT(clients.value(), ElementsAre(SocketAddress::Ipv4Loopback(2)));
  Result<Outcome> ended;
  a_->EndLease({"b", 7, ""}, ended.Done());
  EXPECT_EQ(ended.value(), Outcome::kOtherOwner);
  a_->EndLease({"b", 8, ""}, ended.Done());
  EXPECT_EQ(ended.value(), Outcome::kDone);
  EXPECT_FALSE(store_.HasLease("b"));
}

TEST_F(FakeSessionStoreTest, ASlowLinkGivesTheResultLater) {
  a_->SetLink({absl::Milliseconds(10), absl::Milliseconds(20)});
  Result<Outcomes> result;
  a_->Write({Session(1, "a", 7)}, kLifetime, result.Done());
  EXPECT_EQ(store_.sessions().size(), 0u);
  Advance(absl::Milliseconds(10));
  EXPECT_EQ(store_.sessions().size(), 1u);
  EXPECT_EQ(result.count(), 0);
  Advance(absl::Milliseconds(20));
  EXPECT_EQ(result.count(), 1);
  EXPECT_THAT(result.value(), ElementsAre(Outcome::kDone));
  EXPECT_FALSE(store_.next_nanoseconds().has_value());
}

TEST_F(FakeSessionStoreTest, ALateCallIsExecutedAfterItsError) {
  a_->SetLink({absl::Seconds(2), absl::ZeroDuration()});
  Result<Outcomes> result;
  a_->Write({Session(1, "a", 7)}, kLifetime, result.Done());
  Advance(absl::Seconds(1));
  EXPECT_EQ(result.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store_.sessions().size(), 0u);
  Advance(absl::Seconds(1));
  EXPECT_EQ(store_.sessions().size(), 1u);
}

TEST_F(FakeSessionStoreTest,
       ACutLinkExecutesNothingAndLostRepliesAreNoResults) {
  Result<Outcomes> result;
  FakeSessionStore::Link link;
  link.is_cut = true;
  a_->SetLink(link);
  EXPECT_FALSE(a_->Health().ok());
  a_->Write({Session(1, "a", 7)}, kLifetime, result.Done());
  Advance(absl::Seconds(1));
  EXPECT_EQ(result.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store_.sessions().size(), 0u);
  link.is_cut = false;
  link.loses_replies = true;
  a_->SetLink(link);
  a_->Write({Session(1, "a", 7)}, kLifetime, result.Done());
  Advance(absl::Seconds(1));
  EXPECT_EQ(result.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(result.count(), 2);
  EXPECT_EQ(store_.sessions().size(), 1u);
}

TEST_F(FakeSessionStoreTest, NoResultComesAfterStop) {
  a_->SetLink({absl::Milliseconds(10), absl::ZeroDuration()});
  Result<Outcomes> result;
  a_->Write({Session(1, "a", 7)}, kLifetime, result.Done());
  a_->Stop();
  Advance(absl::Seconds(1));
  a_->Write({Session(1, "a", 7)}, kLifetime, result.Done());
  EXPECT_EQ(result.count(), 0);
}

TEST_F(FakeSessionStoreTest, ASnapshotIsRestoredWithoutWhatHasRunOut) {
  Write({Session(1, "a", 7)});
  const FakeSessionStore::Snapshot snapshot = store_.TakeSnapshot();
  Advance(kLifetime / 2);
  Write({Session(1, "a", 8), Session(2, "a", 8)});
  store_.Restore(snapshot);
  ASSERT_EQ(store_.sessions().size(), 1u);
  EXPECT_EQ(store_.sessions()[0].token.run, 7u);
  Advance(kLifetime / 2);
  EXPECT_EQ(store_.sessions().size(), 0u);
  store_.Restore(snapshot);
  EXPECT_EQ(store_.sessions().size(), 0u);
}

TEST_F(FakeSessionStoreTest, ItLiesWhereItIsTold) {
  Write({Session(1, "a", 7)});
  Write({Session(1, "a", 8)});
  b_->SetLie(Lie::kStale);
  EXPECT_EQ(Find(1)[0].session->token.run, 7u);
  b_->SetLie(Lie::kForeign);
  EXPECT_NE(Find(1)[0].session->client, SocketAddress::Ipv4Loopback(1));
  b_->SetLie(Lie::kGarbled);
  EXPECT_FALSE(Find(1)[0].session->backend.is_valid());
  b_->SetLie(Lie::kWrongCount);
  EXPECT_THAT(Find(1), IsEmpty());
}

TEST_F(FakeSessionStoreTest, ARecordThatDoesNotParseIsAbsentAndCounted) {
  store_.PutText(SocketAddress::Ipv4Loopback(1), "nonsense", kLifetime);
  EXPECT_FALSE(Find(1)[0].session.has_value());
  EXPECT_EQ(store_.invalid_count(), 1u);
}

TEST(MockSessionStoreTest, FailsAsTold) {
  NiceMock<MockSessionStore> store;
  ON_CALL(store, Find).WillByDefault(FailWith(absl::UnavailableError("away")));
  ON_CALL(store, Write).WillByDefault(FailWith(absl::UnavailableError("away")));
  Result<std::vector<SessionStore::Found>> found;
  store.Find({}, found.Done());
  EXPECT_EQ(found.code(), absl::StatusCode::kUnavailable);
  Result<Outcomes> written;
  store.Write({}, kLifetime, written.Done());
  EXPECT_EQ(written.code(), absl::StatusCode::kUnavailable);
  Result<Outcomes> removed;
  store.Remove({}, removed.Done());
  EXPECT_EQ(removed.count(), 0);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
