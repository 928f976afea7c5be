#include "udpgate/internal/session/session_table.h"

#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "udpgate/internal/net/client_hash.h"

namespace udpgate {
namespace internal {
namespace {

const ClientHash kHash(3);

SocketAddress Client(int i) {
  return SocketAddress::Ipv4Loopback(static_cast<uint16_t>(i));
}

Session* Insert(SessionTable* table, int i) {
  return table->Insert(Client(i), kHash(Client(i)), /*now_nanoseconds=*/7);
}

Session* Find(SessionTable* table, int i) {
  return table->Find(Client(i), kHash(Client(i)));
}

TEST(SessionTableTest, FindsWhatWasInserted) {
  SessionTable table(5);
  EXPECT_EQ(Find(&table, 1), nullptr);
  Session* session = Insert(&table, 1);
  EXPECT_EQ(session->state, SessionState::kPending);
  EXPECT_EQ(session->created_nanoseconds, 7);
  EXPECT_EQ(session->id & 0xff, 5u) << "the shard is part of the id";
  EXPECT_EQ(Find(&table, 1), session);
  EXPECT_EQ(Find(&table, 2), nullptr);
  EXPECT_EQ(table.Find(session->ref()), session);
  EXPECT_EQ(table.FindSlot(session->slot), session);
  EXPECT_EQ(table.FindSlot(1000), nullptr);
}

TEST(SessionTableTest, AnIdNeverNamesASuccessor) {
  SessionTable table(0);
  std::set<uint64_t> ids;
  SessionRef old_ref;
  for (int i = 0; i < 1000; ++i) {
    Session* session = Insert(&table, 1);
    EXPECT_TRUE(ids.insert(session->id).second);
    EXPECT_EQ(table.Find(old_ref), nullptr);
    old_ref = session->ref();
    table.Erase(session);
    EXPECT_EQ(table.Find(old_ref), nullptr);
  }
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.slot_count(), 1u) << "the slot was not used again";
}

TEST(SessionTableTest, AnAdoptedSessionKeepsItsIdAndNewOnesCountOnFromThere) {
  SessionTable table(/*shard=*/1);
  const uint64_t id = (uint64_t{500} << 8) | 7;  // of another shard there
  table.SetSessionNumber(SessionTable::NumberOf(id));
  Session* session = table.Adopt(Client(1), kHash(Client(1)), id);
  EXPECT_EQ(session->id, id);
  EXPECT_EQ(Find(&table, 1), session);
  EXPECT_GE(table.newest_id(), id) << "a disconnect of many concerns it";
  EXPECT_EQ(Insert(&table, 2)->id, (uint64_t{501} << 8) | 1);
  EXPECT_EQ(table.session_number(), 501u);
}

TEST(SessionTableTest, SessionsStayWhereTheyAreWhileTheTableGrows) {
  SessionTable table(0);
  std::vector<Session*> sessions;
  for (int i = 1; i <= 5000; ++i) sessions.push_back(Insert(&table, i));
  for (int i = 1; i <= 5000; ++i) {
    ASSERT_EQ(Find(&table, i), sessions[i - 1]);
    ASSERT_EQ(sessions[i - 1]->client, Client(i));
  }
  for (int i = 1; i <= 5000; i += 2) table.Erase(sessions[i - 1]);
  for (int i = 1; i <= 5000; ++i) {
    ASSERT_EQ(Find(&table, i) != nullptr, i % 2 == 0) << i;
  }
  EXPECT_EQ(table.size(), 2500u);
}

TEST(SessionTableTest, TellsClientsWithTheSameHashApart) {
  SessionTable table(0);
  Session* one = table.Insert(Client(1), /*hash=*/42, 0);
  Session* two = table.Insert(Client(2), /*hash=*/42, 0);
  EXPECT_EQ(table.Find(Client(1), 42), one);
  EXPECT_EQ(table.Find(Client(2), 42), two);
  EXPECT_EQ(table.Find(Client(3), 42), nullptr);
  table.Erase(one);
  EXPECT_EQ(table.Find(Client(1), 42), nullptr);
  EXPECT_EQ(table.Find(Client(2), 42), two);
}

TEST(SessionTableTest, AFreedSlotKeepsNothing) {
  SessionTable table(0);
  Session* session = Insert(&table, 1);
  session->refusals = 2;
  session->label = "old";
  session->state = SessionState::kConfirmed;
  table.Erase(session);
  Session* next = Insert(&table, 2);
  ASSERT_EQ(next, session);
  EXPECT_EQ(next->refusals, 0);
  EXPECT_EQ(next->label, "");
  EXPECT_EQ(next->state, SessionState::kPending);
}

TEST(NetworkIndexTest, KnowsTheSessionsOfANetworkInTheirOrder) {
  SessionTable table(0);
  NetworkIndex index(&table);
  std::vector<Session*> sessions;
  const auto insert = [&](const char* text) {
    const SocketAddress client = *SocketAddress::Parse(text);
    sessions.push_back(table.Insert(client, kHash(client), 0));
    index.Add(sessions.back());
  };
  const auto ports = [&](const char* text, int count_max = 100) {
    std::vector<int> found;
    index.ForEach(
        *SocketAddress::Parse(text), count_max,
        [&](Session* session) { found.push_back(session->client.port()); });
    return found;
  };
  insert("1.0.0.1:1");
  EXPECT_EQ(ports("1.0.0.1:9"), std::vector<int>()) << "it is off";
  index.SetOn(true);
  insert("1.0.0.2:7");
  insert("1.0.0.1:2");
  insert("1.0.0.1:3");
  insert("[2001:db8::1]:4");
  insert("[2001:db8::2]:5");
  EXPECT_EQ(ports("1.0.0.1:9"), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(ports("1.0.0.1:9", 2), (std::vector<int>{1, 2}));
  EXPECT_EQ(ports("1.0.0.2:9"), (std::vector<int>{7}));
  EXPECT_EQ(ports("[2001:db8::3]:9"), (std::vector<int>{4, 5}));
  const auto erase = [&](size_t i) {
    index.Remove(sessions[i]);
    table.Erase(sessions[i]);
  };
  erase(2);
  EXPECT_EQ(ports("1.0.0.1:9"), (std::vector<int>{1, 3}));
  erase(0);
  EXPECT_EQ(ports("1.0.0.1:9"), (std::vector<int>{3}));
  insert("1.0.0.1:8");
  EXPECT_EQ(ports("1.0.0.1:9"), (std::vector<int>{3, 8}));
  erase(3);
  erase(6);
  EXPECT_EQ(ports("1.0.0.1:9"), std::vector<int>());
  index.SetOn(false);
  erase(1);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
