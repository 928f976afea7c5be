// What each SessionStore must do: the same cases with the fake that other tests
// use, with Redis, and with a Redis Cluster.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "testing/fake_session_store.h"
#include "testing/internal/support/redis_cluster_servers.h"
#include "testing/simulated_clock.h"
#include "udpgate/redis/redis_cluster.h"
#include "udpgate/redis/session_store_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::FakeSessionStore;
using test::KeyOf;
using test::KeysOf;
using test::kLongLife;
using test::RedisClusterServers;
using test::RedisServer;
using test::SessionOf;
using test::SessionsOf;
using test::StoreCalls;
using test::TextsOf;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kShortLife = absl::Milliseconds(20);

// A store with two connections, as two gateways have.
class Rig {
 public:
  virtual ~Rig() = default;
  virtual SessionStore* first() = 0;
  virtual SessionStore* second() = 0;
  // As a store that starts empty.
  virtual void Clear() = 0;
  virtual void PutText(const SocketAddress& client,
                       const std::string& text) = 0;
  // Lets time pass until `condition` is true. False if it never is.
  virtual bool AwaitPassed(const std::function<bool()>& condition) = 0;
};

class FakeRig final : public Rig {
 public:
  SessionStore* first() override { return first_.get(); }
  SessionStore* second() override { return second_.get(); }
  void Clear() override { store_.Clear(); }
  void PutText(const SocketAddress& client, const std::string& text) override {
    store_.PutText(client, text, kLongLife);
  }
  bool AwaitPassed(const std::function<bool()>& condition) override {
    for (int i = 0; i < 100; ++i) {
      if (condition()) return true;
      clock_.Advance(absl::Milliseconds(1));
    }
    return false;
  }

 private:
  test::SimulatedClock clock_;
  FakeSessionStore store_{&clock_};
  std::shared_ptr<test::FakeStoreConnection> first_ = store_.Connect();
  std::shared_ptr<test::FakeStoreConnection> second_ = store_.Connect();
};

class RedisRig final : public Rig {
 public:
  RedisRig() {
    EXPECT_TRUE(redis_.Start().ok());
    for (std::shared_ptr<RedisSessionStore>* store : {&first_, &second_}) {
      RedisOptions options;
      options.address = redis_.tcp_address();
      options.command_timeout = absl::Seconds(10);
      *store = *RedisSessionStore::Create(options, {}, *HostLookup::Create({}));
      EXPECT_TRUE((*store)->Start().ok());
      EXPECT_TRUE(AwaitTrue([&] { return (*store)->Health().ok(); }));
    }
  }
  SessionStore* first() override { return first_.get(); }
  SessionStore* second() override { return second_.get(); }
  void Clear() override { EXPECT_TRUE(redis_.Command({"FLUSHALL"}).ok()); }
  void PutText(const SocketAddress& client, const std::string& text) override {
    EXPECT_TRUE(
        redis_.Command({"SET", test::kPrefix + client.ToString(), text}).ok());
  }
  bool AwaitPassed(const std::function<bool()>& condition) override {
    return AwaitTrue(condition);
  }

 private:
  RedisServer redis_;
  std::shared_ptr<RedisSessionStore> first_;
  std::shared_ptr<RedisSessionStore> second_;
};

// All records are on one of the three masters.
class ClusterRig final : public Rig {
 public:
  static constexpr char kTaggedPrefix[] = "{udp_gate}:session:";

  // `servers` run, and outlive it.
  explicit ClusterRig(RedisClusterServers* servers) : servers_(servers) {
    Clear();
    const std::vector<std::string> seeds =
        absl::StrSplit(servers->addresses(), ',');
    for (std::shared_ptr<RedisSessionStore>* store : {&first_, &second_}) {
      RedisOptions options;
      options.address = servers->addresses();
      options.command_timeout = absl::Seconds(10);
      auto lookup = *HostLookup::Create({});
      std::shared_ptr<RedisCluster> cluster =
          *RedisCluster::Create(options, seeds, lookup);
      RedisCluster::SetSource(cluster, &options);
      RedisSessionStoreOptions store_options;
      store_options.prefix = kTaggedPrefix;
      *store = *RedisSessionStore::Create(options, store_options, lookup);
      EXPECT_TRUE((*store)->Start().ok());
      // The first seed may not be the owner of the records.
      StoreCalls calls(store->get());
      EXPECT_TRUE(AwaitTrue([&] {
        return cluster->is_cluster() &&
               calls.Refresh({KeyOf(SessionOf(1))}) == "A";
      }));
    }
  }
  SessionStore* first() override { return first_.get(); }
  SessionStore* second() override { return second_.get(); }
  void Clear() override {
    for (size_t i = 0; i < servers_->size(); ++i) {
      EXPECT_TRUE(servers_->server(i).Command({"FLUSHALL"}).ok());
    }
  }
  void PutText(const SocketAddress& client, const std::string& text) override {
    const std::string key = absl::StrCat(kTaggedPrefix, client.ToString());
    EXPECT_TRUE(servers_->Command({"SET", key, text}).ok());
  }
  bool AwaitPassed(const std::function<bool()>& condition) override {
    return AwaitTrue(condition);
  }

 private:
  RedisClusterServers* const servers_;
  std::shared_ptr<RedisSessionStore> first_;
  std::shared_ptr<RedisSessionStore> second_;
};

class SessionStoreContractTest : public ::testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() {
    delete cluster_servers_;
    cluster_servers_ = nullptr;
  }
  SessionStoreContractTest() {
    if (absl::string_view(GetParam()) == "Fake") {
      rig_ = std::make_unique<FakeRig>();
    } else if (absl::string_view(GetParam()) == "Redis") {
      rig_ = std::make_unique<RedisRig>();
    } else {
      rig_ = std::make_unique<ClusterRig>(ClusterServers());
    }
    a_ = std::make_unique<StoreCalls>(rig_->first());
    b_ = std::make_unique<StoreCalls>(rig_->second());
  }

  // One Cluster for all tests, since it takes seconds to start.
  static RedisClusterServers* ClusterServers() {
    if (cluster_servers_ == nullptr) {
      cluster_servers_ = new RedisClusterServers({});
      const absl::Status started = cluster_servers_->Start();
      EXPECT_TRUE(started.ok()) << started;
    }
    return cluster_servers_;
  }

  static RedisClusterServers* cluster_servers_;
  std::unique_ptr<Rig> rig_;
  std::unique_ptr<StoreCalls> a_;
  std::unique_ptr<StoreCalls> b_;
};

RedisClusterServers* SessionStoreContractTest::cluster_servers_ = nullptr;

TEST_P(SessionStoreContractTest, ARecordIsReadAsItIsWritten) {
  StoredSession full = SessionOf(1, "gateway-1.eu", ~uint64_t{0});
  full.client = test::Address("[2001:db8::7]:54321");
  full.local = test::Address("[2001:db8::1]:19132");
  full.relay = SocketAddress();
  full.label = "a b % \xc3\xa9";
  full.tag_key = std::string("\0\xff key", 6);
  full.tag_text = "network id";
  EXPECT_EQ(a_->Write({full, SessionOf(2)}), "DD");
  EXPECT_EQ(b_->FindOne(full.client), EncodeStoredSession(full));
  const auto found = b_->Find({SessionOf(3).client, SessionOf(2).client});
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 2u);
  EXPECT_FALSE((*found)[0].session.has_value());
  EXPECT_EQ((*found)[1].session->token, SessionOf(2).token);
  EXPECT_EQ((*found)[1].session->since, SessionOf(2).since);
  EXPECT_FALSE((*found)[1].owner.has_value());
}

TEST_P(SessionStoreContractTest, AWriteReplacesWhatWasThere) {
  ASSERT_EQ(a_->Write({SessionOf(1, "a", 1)}), "D");
  ASSERT_EQ(b_->Write({SessionOf(1, "b", 2)}), "D");
  EXPECT_EQ(a_->FindOne(SessionOf(1).client),
            EncodeStoredSession(SessionOf(1, "b", 2)));
  EXPECT_THAT(a_->List("a"), IsEmpty());
  EXPECT_THAT(a_->ListClients("a"), IsEmpty());
  EXPECT_THAT(a_->List("b"),
              ElementsAre(EncodeStoredSession(SessionOf(1, "b", 2))));
  rig_->PutText(SessionOf(2).client, "no record");
  EXPECT_EQ(a_->Write({SessionOf(2)}), "D");
  EXPECT_EQ(a_->FindOne(SessionOf(2).client),
            EncodeStoredSession(SessionOf(2)));
}

TEST_P(SessionStoreContractTest, ARecordRunsOut) {
  ASSERT_EQ(a_->Write({SessionOf(1)}, kShortLife), "D");
  ASSERT_EQ(a_->Write({SessionOf(2)}, kLongLife), "D");
  EXPECT_TRUE(rig_->AwaitPassed(
      [&] { return b_->FindOne(SessionOf(1).client) == "none"; }));
  EXPECT_THAT(b_->List("a"), ElementsAre(EncodeStoredSession(SessionOf(2))));
  EXPECT_EQ(a_->Refresh({KeyOf(SessionOf(1))}), "A");
}

TEST_P(SessionStoreContractTest, ARefreshProlongsARecord) {
  ASSERT_EQ(a_->Write({SessionOf(1), SessionOf(2)}, kLongLife), "DD");
  ASSERT_EQ(a_->Refresh({KeyOf(SessionOf(1))}, kShortLife), "D");
  EXPECT_TRUE(rig_->AwaitPassed(
      [&] { return b_->FindOne(SessionOf(1).client) == "none"; }));
  EXPECT_NE(b_->FindOne(SessionOf(2).client), "none");
}

TEST_P(SessionStoreContractTest, OnlyTheOwnerRefreshesAndRemoves) {
  ASSERT_EQ(a_->Write({SessionOf(1), SessionOf(2)}), "DD");
  // A successor has written the record since.
  ASSERT_EQ(b_->Write({SessionOf(1, "b", 2)}), "D");
  const std::vector<SessionStore::SessionKey> keys = {
      KeyOf(SessionOf(1)), KeyOf(SessionOf(2)), KeyOf(SessionOf(3))};
  EXPECT_EQ(a_->Refresh(keys), "ODA");
  EXPECT_EQ(a_->Remove(keys), "ODA");
  EXPECT_EQ(a_->Remove(keys), "OAA");
  EXPECT_THAT(b_->ListClients("a"), IsEmpty());
  EXPECT_EQ(b_->FindOne(SessionOf(1).client),
            EncodeStoredSession(SessionOf(1, "b", 2)));
  // The same run with another session is another owner as well.
  EXPECT_EQ(b_->Remove({{SessionOf(1).client, {2, 7}}}), "O");
  EXPECT_EQ(b_->Remove({KeyOf(SessionOf(1, "b", 2))}), "D");
}

TEST_P(SessionStoreContractTest, WhatDoesNotParseIsAbsent) {
  const SocketAddress client = SessionOf(1).client;
  rig_->PutText(client, "no record");
  EXPECT_EQ(a_->FindOne(client), "none");
  EXPECT_EQ(a_->Refresh({KeyOf(SessionOf(1))}), "A");
  EXPECT_EQ(a_->Adopt({{SessionOf(1, "b", 2), {0, 0}, ""}}), "A");
  EXPECT_EQ(a_->Remove({KeyOf(SessionOf(1))}), "A");
}

TEST_P(SessionStoreContractTest, AdoptsFromADeadOwner) {
  ASSERT_EQ(a_->Write({SessionOf(1), SessionOf(2)}), "DD");
  ASSERT_EQ(a_->RenewLease({"a", 1, ""}, kShortLife), "none");
  const StoredSession adopted = SessionOf(1, "b", 2);
  ASSERT_TRUE(rig_->AwaitPassed([&] {
    return b_->Adopt({{adopted, SessionOf(1).token, "a"}}) == "D";
  }));
  EXPECT_EQ(b_->FindOne(adopted.client), EncodeStoredSession(adopted));
  EXPECT_THAT(b_->ListClients("a"), ElementsAre("203.0.0.3:40001"));
  EXPECT_THAT(b_->ListClients("b"), ElementsAre("203.0.0.2:40001"));
  // The former owner, if it lives after all, learns of it.
  EXPECT_EQ(a_->Refresh({KeyOf(SessionOf(1))}), "O");
  EXPECT_EQ(b_->Refresh({KeyOf(adopted)}), "D");
}

TEST_P(SessionStoreContractTest, AnAdoptionMayBeRepeated) {
  ASSERT_EQ(a_->Write({SessionOf(1)}), "D");
  ASSERT_EQ(a_->RenewLease({"b", 2, ""}), "none");
  const SessionStore::Adoption adoption = {SessionOf(1, "b", 2),
                                           SessionOf(1).token, "a"};
  EXPECT_EQ(b_->Adopt({adoption}), "D");
  EXPECT_EQ(b_->Adopt({adoption}), "D");
  EXPECT_EQ(b_->Adopt({{SessionOf(1, "c", 3), SessionOf(1).token, ""}}), "O");
}

TEST_P(SessionStoreContractTest, AdoptsFromALivingOwnerOnlyIfAsked) {
  ASSERT_EQ(a_->Write({SessionOf(1), SessionOf(2)}), "DD");
  ASSERT_EQ(a_->RenewLease({"a", 1, ""}), "none");
  const StoredSession adopted = SessionOf(1, "b", 2);
  EXPECT_EQ(b_->Adopt({{adopted, SessionOf(1).token, "a"},
                       {SessionOf(2, "b", 2), {9, 9}, "a"},
                       {SessionOf(3, "b", 2), {1, 3}, "a"}}),
            "LOA");
  EXPECT_EQ(b_->Adopt({{adopted, SessionOf(1).token, ""}}), "D");
  EXPECT_EQ(a_->Refresh({KeyOf(SessionOf(1)), KeyOf(SessionOf(2))}), "OD");
}

TEST_P(SessionStoreContractTest, FindTellsWhetherTheOwnerLives) {
  ASSERT_EQ(a_->Write({SessionOf(1)}), "D");
  const std::string record = EncodeStoredSession(SessionOf(1));
  EXPECT_EQ(b_->FindOne(SessionOf(1).client), record);
  // Of another run: the record is one of a former process of the owner.
  ASSERT_EQ(a_->RenewLease({"a", 7, "10.0.0.1:7000"}, kShortLife), "none");
  EXPECT_EQ(b_->FindOne(SessionOf(1).client),
            absl::StrCat(record, ", a run 7 at 10.0.0.1:7000"));
  EXPECT_TRUE(rig_->AwaitPassed(
      [&] { return b_->FindOne(SessionOf(1).client) == record; }));
}

TEST_P(SessionStoreContractTest, ALeaseTellsOfTheOneBefore) {
  EXPECT_EQ(a_->RenewLease({"a", 1, ""}), "none");
  EXPECT_EQ(a_->RenewLease({"a", 1, ""}), "1");
  EXPECT_EQ(b_->RenewLease({"a", 2, ""}), "1");
  EXPECT_EQ(a_->RenewLease({"a", 1, ""}, kShortLife), "2");
  EXPECT_TRUE(rig_->AwaitPassed([&] { return b_->ListGateways().empty(); }));
  EXPECT_EQ(a_->RenewLease({"a", 3, ""}), "none");
}

TEST_P(SessionStoreContractTest, OnlyTheSameRunEndsALease) {
  EXPECT_EQ(a_->EndLease({"a", 1, ""}), "A");
  ASSERT_EQ(a_->RenewLease({"a", 1, "x"}), "none");
  EXPECT_EQ(b_->EndLease({"a", 2, ""}), "O");
  EXPECT_EQ(b_->EndLease({"b", 1, ""}), "A");
  EXPECT_EQ(a_->RenewLease({"a", 1, ""}), "1");
  EXPECT_EQ(a_->EndLease({"a", 1, ""}), "D");
  EXPECT_EQ(a_->RenewLease({"a", 1, ""}), "none");
}

TEST_P(SessionStoreContractTest, ListsGatewaysWithRecordsOrALease) {
  EXPECT_THAT(a_->ListGateways(), IsEmpty());
  ASSERT_EQ(a_->Write({SessionOf(1, "a"), SessionOf(2, "b")}), "DD");
  ASSERT_EQ(a_->RenewLease({"b", 2, ""}), "none");
  ASSERT_EQ(a_->RenewLease({"c", 3, ""}), "none");
  EXPECT_THAT(b_->ListGateways(), ElementsAre("a -", "b 2", "c 3"));
  ASSERT_EQ(a_->Remove({KeyOf(SessionOf(1, "a"))}), "D");
  ASSERT_EQ(a_->EndLease({"c", 3, ""}), "D");
  EXPECT_THAT(b_->ListGateways(), ElementsAre("b 2"));
}

TEST_P(SessionStoreContractTest, ManyRecordsAreOneCall) {
  const auto sessions = SessionsOf(700);
  EXPECT_EQ(a_->Write(sessions), std::string(700, 'D'));
  EXPECT_EQ(b_->List("a"), TextsOf(sessions));
  EXPECT_EQ(b_->ListClients("a").size(), 700u);
  std::vector<SocketAddress> clients;
  for (const StoredSession& session : sessions) {
    clients.push_back(session.client);
  }
  const auto found = b_->Find(clients);
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < sessions.size(); ++i) {
    ASSERT_TRUE((*found)[i].session.has_value()) << i;
    EXPECT_EQ((*found)[i].session->token, sessions[i].token);
  }
  std::vector<SessionStore::Adoption> adoptions;
  for (const StoredSession& session : sessions) {
    adoptions.push_back({session, session.token, ""});
    adoptions.back().adopted.gateway_id = "b";
    adoptions.back().adopted.token.run = 2;
  }
  // In the order of the arguments.
  adoptions[300].from.run = 5;
  std::string expected(700, 'D');
  expected[300] = 'O';
  EXPECT_EQ(b_->Adopt(adoptions), expected);
  EXPECT_EQ(a_->Refresh(KeysOf(sessions)),
            std::string(300, 'O') + "D" + std::string(399, 'O'));
  EXPECT_THAT(a_->List("a"), ElementsAre(EncodeStoredSession(sessions[300])));
}

TEST_P(SessionStoreContractTest, WhatIsLostIsWrittenAgain) {
  ASSERT_EQ(a_->Write({SessionOf(1), SessionOf(2)}), "DD");
  rig_->Clear();
  EXPECT_EQ(a_->Refresh({KeyOf(SessionOf(1))}), "A");
  EXPECT_EQ(a_->Remove({KeyOf(SessionOf(2))}), "A");
  EXPECT_THAT(a_->List("a"), IsEmpty());
  EXPECT_THAT(a_->ListGateways(), IsEmpty());
  EXPECT_EQ(a_->Write({SessionOf(1)}), "D");
  EXPECT_THAT(b_->List("a"), ElementsAre(EncodeStoredSession(SessionOf(1))));
}

TEST_P(SessionStoreContractTest, EmptyCallsDoNothing) {
  EXPECT_EQ(a_->Write({}), "");
  EXPECT_EQ(a_->Refresh({}), "");
  EXPECT_EQ(a_->Remove({}), "");
  EXPECT_EQ(a_->Adopt({}), "");
  const auto found = a_->Find({});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->empty());
}

INSTANTIATE_TEST_SUITE_P(Stores, SessionStoreContractTest,
                         ::testing::Values("Fake", "Redis", "Cluster"),
                         [](const auto& instance) {
                           return std::string(instance.param);
                         });

}  // namespace
}  // namespace udpgate
