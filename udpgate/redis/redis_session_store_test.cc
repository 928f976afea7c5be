// With a real redis-server.
#include "udpgate/redis/redis_session_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/session_store_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::KeyOf;
using test::KeysOf;
using test::kLongLife;
using test::RedisServer;
using test::RedisServerOptions;
using test::SessionOf;
using test::SessionsOf;
using test::StoreCalls;
using test::TextsOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class RedisSessionStoreTest : public test::RedisSessionStoreFixture {
 protected:
  void SetUp() override {
    ASSERT_TRUE(redis_.Start().ok());
    store_ = Make(redis_.tcp_address());
    calls_ = std::make_unique<StoreCalls>(store_.get());
    ASSERT_TRUE(AwaitHealthy(*store_));
  }
  std::string Redis(const std::vector<std::string>& command) {
    const auto reply = redis_.Command(command);
    return reply.ok() ? *reply : reply.status().ToString();
  }
  int64_t Number(const std::vector<std::string>& command) {
    int64_t number = -1;
    EXPECT_TRUE(absl::SimpleAtoi(Redis(command), &number));
    return number;
  }

  RedisServer redis_;
  std::shared_ptr<RedisSessionStore> store_;
  std::unique_ptr<StoreCalls> calls_;
};

TEST_F(RedisSessionStoreTest, WritesWhatTheDocumentsSay) {
  const StoredSession session = SessionOf(7, "gw-1", 0xabc);
  EXPECT_EQ(calls_->Write({session}), "D");
  const std::string key = "udp_gate:session:203.0.0.8:40001";
  EXPECT_EQ(Redis({"GET", key}),
            "1 0000000000000abc0000000000000007 gw-1 1700000000007 "
            "203.0.0.8:40001 198.51.100.1:19132 10.0.0.5:19132 10.0.0.1:1031 "
            "lobby-3.internal:19132 - -");
  EXPECT_LE(Number({"PTTL", key}), 600'000);
  EXPECT_GT(Number({"PTTL", key}), 500'000);
  EXPECT_EQ(Redis({"SMEMBERS", "udp_gate:session:@index:gw-1"}),
            "203.0.0.8:40001");
  EXPECT_EQ(Redis({"SMEMBERS", "udp_gate:session:@gateways"}), "gw-1");
  EXPECT_EQ(
      calls_->RenewLease({"gw-1", 0xabc, "10.0.0.1:7000"}, absl::Seconds(3)),
      "none");
  EXPECT_EQ(Redis({"GET", "udp_gate:session:@lease:gw-1"}),
            "1 0000000000000abc 10.0.0.1:7000");
  EXPECT_LE(Number({"PTTL", "udp_gate:session:@lease:gw-1"}), 3000);
  EXPECT_EQ(Number({"DBSIZE"}), 4);
  const std::vector<std::string> names =
      absl::StrSplit(Redis({"KEYS", "*"}), '\n');
  for (const std::string& name : names) {
    EXPECT_GT(Number({"PTTL", name}), 0) << name;
  }
}

TEST_F(RedisSessionStoreTest, ManyRecordsAreFewCommands) {
  const auto sessions = SessionsOf(1000);
  const uint64_t before = store_->GetStats().commands_sent;
  EXPECT_EQ(calls_->Write(sessions), std::string(1000, 'D'));
  EXPECT_EQ(calls_->Refresh(KeysOf(sessions)), std::string(1000, 'D'));
  EXPECT_EQ(store_->GetStats().commands_sent - before, 16u);
  EXPECT_EQ(calls_->List("a"), TextsOf(sessions));
  EXPECT_THAT(calls_->ListClients("a"), SizeIs(1000));
  EXPECT_EQ(calls_->Remove(KeysOf(sessions)), std::string(1000, 'D'));
  EXPECT_EQ(Number({"DBSIZE"}), 1);  // the set of gateways
}

TEST_F(RedisSessionStoreTest, RecordsOfSeveralGatewaysAreOneCall) {
  std::vector<StoredSession> sessions = {SessionOf(1, "a"), SessionOf(2, "b"),
                                         SessionOf(3, "b"), SessionOf(4, "a")};
  EXPECT_EQ(calls_->Write(sessions), "DDDD");
  EXPECT_THAT(calls_->List("a"), SizeIs(2));
  EXPECT_THAT(calls_->List("b"), SizeIs(2));
}

TEST_F(RedisSessionStoreTest, AnEmptyCallNeedsNoRedis) {
  redis_.Kill();
  EXPECT_EQ(calls_->Write({}), "");
  EXPECT_EQ(calls_->Refresh({}), "");
}

TEST_F(RedisSessionStoreTest, RecordsThatRanOutLeaveTheIndex) {
  ASSERT_EQ(calls_->Write({SessionOf(1)}, kLongLife), "D");
  ASSERT_EQ(calls_->Write(SessionsOf(300), absl::Milliseconds(1)),
            std::string(300, 'D'));
  ASSERT_EQ(calls_->Write({SessionOf(1)}, kLongLife), "D");
  ASSERT_TRUE(AwaitTrue(
      [&] { return calls_->FindOne(SessionOf(299).client) == "none"; }));
  EXPECT_EQ(Number({"SCARD", "udp_gate:session:@index:a"}), 300);
  EXPECT_EQ(calls_->List("a"),
            TextsOf(std::vector<StoredSession>{SessionOf(1)}));
  EXPECT_EQ(Number({"SCARD", "udp_gate:session:@index:a"}), 1);
}

TEST_F(RedisSessionStoreTest, TheLeaseKeepsTheIndexClean) {
  ASSERT_EQ(calls_->Write({SessionOf(1)}), "D");
  std::vector<std::string> add = {"SADD", "udp_gate:session:@index:a",
                                  "no client"};
  for (int i = 0; i < 300; ++i) {
    add.push_back(SessionOf(i + 2).client.ToString());
  }
  ASSERT_EQ(Redis(add), "301");
  ASSERT_EQ(Redis({"SADD", "udp_gate:session:@gateways", "gone"}), "1");
  EXPECT_TRUE(AwaitTrue([&] {
    calls_->RenewLease({"a", 1, ""});
    return store_->GetStats().index_entries_removed == 301;
  }));
  EXPECT_EQ(Redis({"SMEMBERS", "udp_gate:session:@index:a"}),
            SessionOf(1).client.ToString());
  EXPECT_EQ(Redis({"SMEMBERS", "udp_gate:session:@gateways"}), "a");
}

TEST_F(RedisSessionStoreTest, NothingIsLeftOfAFleetThatIsGone) {
  ASSERT_EQ(calls_->Write(SessionsOf(10), absl::Milliseconds(50)),
            std::string(10, 'D'));
  EXPECT_TRUE(AwaitTrue([&] { return Number({"DBSIZE"}) == 0; }));
}

TEST_F(RedisSessionStoreTest, AGatewayThatNeverComesBackIsForgotten) {
  ASSERT_EQ(calls_->Write({SessionOf(20, "b")}, kLongLife), "D");
  ASSERT_EQ(calls_->Write(SessionsOf(10, "a"), absl::Milliseconds(1)),
            std::string(10, 'D'));
  EXPECT_TRUE(AwaitTrue([&] {
    return calls_->ListGateways() == std::vector<std::string>{"b -"};
  }));
  EXPECT_EQ(Redis({"SMEMBERS", "udp_gate:session:@gateways"}), "b");
}

TEST_F(RedisSessionStoreTest, AShortLifeShortensNoIndex) {
  ASSERT_EQ(calls_->Write({SessionOf(1)}, kLongLife), "D");
  ASSERT_EQ(calls_->Write({SessionOf(2)}, absl::Milliseconds(1)), "D");
  ASSERT_EQ(calls_->Refresh({KeyOf(SessionOf(1))}, absl::Seconds(1)), "D");
  EXPECT_GT(Number({"PTTL", "udp_gate:session:@index:a"}), 500'000);
  EXPECT_GT(Number({"PTTL", "udp_gate:session:@gateways"}), 500'000);
}

TEST_F(RedisSessionStoreTest, ARefreshMakesALostIndexWhole) {
  const auto sessions = SessionsOf(200);
  ASSERT_EQ(calls_->Write(sessions), std::string(200, 'D'));
  ASSERT_EQ(
      Redis({"DEL", "udp_gate:session:@index:a", "udp_gate:session:@gateways"}),
      "2");
  ASSERT_EQ(calls_->Refresh(KeysOf(sessions)), std::string(200, 'D'));
  EXPECT_EQ(calls_->List("a"), TextsOf(sessions));
  EXPECT_THAT(calls_->ListGateways(), ElementsAre("a -"));
}

TEST_F(RedisSessionStoreTest, ASnapshotOfYesterdayIsRepaired) {
  // Of the snapshot: one session that has ended since, and one that another
  // gateway has had since.
  ASSERT_EQ(calls_->Write({SessionOf(1, "a"), SessionOf(2, "b", 2)}), "DD");
  ASSERT_EQ(Redis({"FLUSHALL"}), "OK");
  EXPECT_EQ(calls_->Refresh({KeyOf(SessionOf(1)), KeyOf(SessionOf(2))}), "AA");
  ASSERT_EQ(calls_->Write({SessionOf(1), SessionOf(2, "b", 2)}), "DD");
  EXPECT_EQ(calls_->Refresh({KeyOf(SessionOf(1)), KeyOf(SessionOf(2, "b", 1)),
                             KeyOf(SessionOf(3))}),
            "DOA");
  EXPECT_EQ(calls_->Write({SessionOf(2, "a", 3)}), "D");
  EXPECT_THAT(calls_->ListClients("b"), IsEmpty());
  EXPECT_THAT(calls_->ListClients("a"), SizeIs(2));
}

TEST_F(RedisSessionStoreTest, RecordsOfNoUseAreSaidAndCounted) {
  const StoredSession good = SessionOf(1);
  ASSERT_EQ(calls_->Write({good}), "D");
  const std::string record = EncodeStoredSession(good);
  const std::string p = test::kPrefix;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"1.2.3.4:1", "text"},
      {"1.2.3.4:2", std::string(1 << 20, 'x')},
      {"1.2.3.4:3", record},  // of another client
      {"1.2.3.4:4", "2" + record.substr(1)},
      {"1.2.3.4:5", "1 00000000000000010000000000000001 a 1"}};
  std::vector<SocketAddress> clients = {good.client};
  for (const auto& [client, value] : bad) {
    ASSERT_EQ(Redis({"SET", p + client, value}), "OK");
    ASSERT_EQ(Redis({"SADD", p + "@index:a", client}), "1");
    clients.push_back(test::Address(client));
  }
  ASSERT_EQ(Redis({"RPUSH", p + "1.2.3.4:6", "a list"}), "1");
  ASSERT_EQ(Redis({"SADD", p + "@index:a", "1.2.3.4:6", "no client"}), "2");
  clients.push_back(test::Address("1.2.3.4:6"));
  const auto found = calls_->Find(clients);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->front().session.has_value());
  for (size_t i = 1; i < found->size(); ++i) {
    EXPECT_FALSE((*found)[i].session.has_value()) << i;
    EXPECT_FALSE((*found)[i].owner.has_value()) << i;
  }
  EXPECT_EQ(store_->GetStats().records_invalid, 4u);
  EXPECT_EQ(store_->GetStats().records_of_other_version, 1u);
  EXPECT_EQ(log_.CountOf("the record of client 1.2.3.4:1 is ignored"), 1);
  EXPECT_EQ(log_.CountOf("is ignored"), 1);
  EXPECT_EQ(calls_->List("a"), TextsOf(std::vector<StoredSession>{good}));
  EXPECT_EQ(store_->GetStats().records_invalid, 8u);
  // A list and what is no client have left the index. What has another version
  // stays for those that can read it.
  EXPECT_EQ(Number({"SCARD", p + "@index:a"}), 6);
  EXPECT_EQ(
      calls_->Refresh({{clients[1], {}}, {clients[4], {}}, {clients[6], {}}}),
      "AAA");
}

TEST_F(RedisSessionStoreTest, ALeaseThatDoesNotParseCountsAsLiving) {
  ASSERT_EQ(calls_->Write({SessionOf(1)}), "D");
  const std::string record = EncodeStoredSession(SessionOf(1));
  ASSERT_EQ(Redis({"SET", "udp_gate:session:@lease:a", "2 something"}), "OK");
  EXPECT_EQ(calls_->FindOne(SessionOf(1).client),
            absl::StrCat(record, ", a run 0 at "));
  EXPECT_EQ(calls_->Adopt({{SessionOf(1, "b", 2), SessionOf(1).token, "a"}}),
            "L");
  EXPECT_THAT(calls_->ListGateways(), ElementsAre("a 0"));
  EXPECT_EQ(calls_->RenewLease({"a", 5, ""}), "0");
  EXPECT_EQ(calls_->RenewLease({"a", 5, ""}), "5");
}

TEST_F(RedisSessionStoreTest, EveryIdOfAGatewayWorks) {
  for (const std::string& id :
       {std::string("-"), std::string("50%"), std::string("%25"),
        std::string("%2d"), std::string("a:b@{c}"), std::string(64, 'i')}) {
    SCOPED_TRACE(id);
    ASSERT_EQ(Redis({"FLUSHALL"}), "OK");
    const StoredSession session = SessionOf(1, id);
    EXPECT_EQ(calls_->Write({session}), "D");
    EXPECT_EQ(calls_->RenewLease({id, 9, "f:1"}), "none");
    EXPECT_EQ(
        calls_->FindOne(session.client),
        absl::StrCat(EncodeStoredSession(session), ", ", id, " run 9 at f:1"));
    EXPECT_THAT(calls_->ListGateways(), ElementsAre(absl::StrCat(id, " 9")));
    EXPECT_EQ(calls_->Adopt({{SessionOf(1, "b", 2), session.token, id}}), "L");
    EXPECT_EQ(calls_->EndLease({id, 9, ""}), "D");
    EXPECT_EQ(calls_->Adopt({{SessionOf(1, "b", 2), session.token, id}}), "D");
    EXPECT_THAT(calls_->ListClients(id), IsEmpty());
  }
}

TEST_F(RedisSessionStoreTest, ClientsOfIpv6WithAScopeWork) {
  StoredSession session = SessionOf(1);
  session.client = test::Address("[fe80::1%lo]:1");
  session.local = test::Address("[fe80::2%lo]:2");
  ASSERT_EQ(calls_->Write({session}), "D");
  EXPECT_EQ(calls_->FindOne(session.client), EncodeStoredSession(session));
  EXPECT_EQ(calls_->List("a"), TextsOf(std::vector<StoredSession>{session}));
}

TEST_F(RedisSessionStoreTest, AListHasALimit) {
  options_.listed_records_max = 100;
  const auto store = Make(redis_.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  ASSERT_EQ(calls.Write(SessionsOf(101)), std::string(101, 'D'));
  EXPECT_THAT(calls.List("a"), ElementsAre(HasSubstr("RESOURCE_EXHAUSTED")));
  EXPECT_THAT(calls.ListClients("a"),
              ElementsAre(HasSubstr("RESOURCE_EXHAUSTED")));
  ASSERT_EQ(calls.Remove({KeyOf(SessionOf(0))}), "D");
  EXPECT_THAT(calls.List("a"), SizeIs(100));
}

TEST_F(RedisSessionStoreTest, TheQueueHasALimit) {
  options_.queue_records_max = 4096;
  const auto store = Make(redis_.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.Write(SessionsOf(4097)), HasSubstr("RESOURCE_EXHAUSTED"));
  EXPECT_EQ(store->GetStats().records_refused, 4097u);
  EXPECT_EQ(calls.Write(SessionsOf(4096)), std::string(4096, 'D'));
  EXPECT_EQ(store->GetStats().records_waiting, 0);
}

TEST_F(RedisSessionStoreTest, FiftyThousandAreListedFast) {
  const auto sessions = SessionsOf(50'000);
  ASSERT_EQ(calls_->Write(sessions), std::string(50'000, 'D'));
  const absl::Time begin = absl::Now();
  EXPECT_EQ(calls_->List("a"), TextsOf(sessions));
  const absl::Duration listed = absl::Now() - begin;
  EXPECT_THAT(calls_->ListClients("a"), SizeIs(50'000));
  const absl::Duration both = absl::Now() - begin;
  RecordProperty("list", absl::FormatDuration(listed));
  RecordProperty("list_clients", absl::FormatDuration(both - listed));
  std::printf("50,000 records: List %s, ListClients %s\n",
              absl::FormatDuration(listed).c_str(),
              absl::FormatDuration(both - listed).c_str());
}

// Of Redis' own, with the key, the index and the expiry.
TEST_F(RedisSessionStoreTest, ARecordTakesAtMost400Bytes) {
  constexpr int kCount = 50'000;
  const auto used = [&] {
    for (const absl::string_view line :
         absl::StrSplit(Redis({"INFO", "memory"}), "\r\n")) {
      int64_t bytes = 0;
      if (absl::StartsWith(line, "used_memory_dataset:") &&
          absl::SimpleAtoi(line.substr(line.find(':') + 1), &bytes)) {
        return bytes;
      }
    }
    return int64_t{0};
  };
  const int64_t before = used();
  const auto sessions = SessionsOf(kCount, "gateway-1.eu");
  ASSERT_EQ(calls_->Write(sessions), std::string(kCount, 'D'));
  const int64_t all = (used() - before) / kCount;
  const std::string key =
      absl::StrCat(test::kPrefix, sessions[777].client.ToString());
  const int64_t value = Number({"STRLEN", key});
  const int64_t record = Number({"MEMORY", "USAGE", key});
  const int64_t index =
      Number({"MEMORY", "USAGE", "udp_gate:session:@index:gateway-1.eu"}) /
      kCount;
  std::printf("a record: value %d, MEMORY USAGE %d, in the index %d, all %d\n",
              static_cast<int>(value), static_cast<int>(record),
              static_cast<int>(index), static_cast<int>(all));
  EXPECT_LE(record, 400);
  EXPECT_LE(all, 500);
}

}  // namespace
}  // namespace udpgate
