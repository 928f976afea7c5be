// Many clients, many datagrams, all sizes, and nonsense: nothing crosses,
// nothing overtakes, nothing is changed, everything is counted.
#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

std::string RandomBytes(std::mt19937* random, size_t size) {
  std::string bytes(size, '\0');
  std::uniform_int_distribution<int> byte(0, 255);
  for (char& c : bytes) c = static_cast<char>(byte(*random));
  return bytes;
}

class TrafficTest : public GateTest,
                    public ::testing::WithParamInterface<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, TrafficTest, ::testing::ValuesIn(kAllShapes),
                         ShapeName);

TEST_P(TrafficTest, RepliesOfAThousandClientsDoNotCross) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate(GetParam(), {{"MAX_UNCONFIRMED_SESSIONS_PER_IP", "0"}});
  std::vector<LoopbackPeer> clients(1000);
  constexpr size_t kAtOnce = 100;
  for (int round = 0; round < 3; ++round) {
    for (size_t begin = 0; begin < clients.size(); begin += kAtOnce) {
      for (size_t i = begin; i < begin + kAtOnce; ++i) {
        ASSERT_TRUE(
            clients[i].Send(address(), absl::StrCat(i, " ", round)).ok());
      }
      for (size_t i = begin; i < begin + kAtOnce; ++i) {
        absl::StatusOr<Datagram> reply = clients[i].Receive();
        ASSERT_TRUE(reply.ok()) << i << ": " << reply.status();
        ASSERT_EQ(reply->payload, absl::StrCat("lobby:", i, " ", round));
        ASSERT_EQ(reply->from, address());
      }
    }
  }
  for (LoopbackPeer& client : clients) {
    EXPECT_FALSE(client.TryReceive().ok());
  }
  EXPECT_EQ(lobby.sources().size(), clients.size());
}

// Sends `count` numbered datagrams with at most `window` of them unanswered,
// and checks that the echoes come in order and complete.
::testing::AssertionResult StreamsInOrder(LoopbackPeer* client,
                                          const SocketAddress& gate,
                                          int client_number, int count,
                                          int window) {
  int sent = 0;
  for (int answered = 0; answered < count; ++answered) {
    // The first one alone, since few wait while the gate asks for a backend;
    // then bursts of half a window.
    int sent_max = answered > 0 ? answered + window : 1;
    if (sent > answered + window / 2) sent_max = sent;
    while (sent < std::min(count, sent_max)) {
      absl::Status status =
          client->Send(gate, absl::StrCat(client_number, " ", sent));
      if (!status.ok()) return ::testing::AssertionFailure() << status;
      ++sent;
    }
    absl::StatusOr<Datagram> reply = client->Receive();
    if (!reply.ok()) {
      return ::testing::AssertionFailure() << answered << " " << reply.status();
    }
    if (reply->payload != absl::StrCat(client_number, " ", answered)) {
      return ::testing::AssertionFailure()
             << answered << ": " << reply->payload;
    }
  }
  return ::testing::AssertionSuccess();
}

// What the backend got must be in order for each client, too.
::testing::AssertionResult ArrivedInOrder(const EchoBackend& backend,
                                          int client_count, int count) {
  std::map<std::string, int> next;
  for (const Datagram& datagram : backend.received()) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(datagram.payload, ' ');
    int number = -1;
    if (!absl::SimpleAtoi(parts.second, &number) ||
        number != next[parts.first]++) {
      return ::testing::AssertionFailure() << datagram.payload;
    }
  }
  for (int i = 0; i < client_count; ++i) {
    if (next[absl::StrCat(i)] != count) {
      return ::testing::AssertionFailure()
             << "client " << i << ": " << next[absl::StrCat(i)];
    }
  }
  return ::testing::AssertionSuccess();
}

// The contract's number; fewer where a sanitizer makes each dear.
constexpr int kStreamDatagrams = 20000 / kSlowness;

class StreamTest : public TrafficTest {};

INSTANTIATE_TEST_SUITE_P(Shapes, StreamTest,
                         ::testing::Values(Shape{0, 1}, Shape{4, 1},
                                           Shape{0, 3}, Shape{4, 3}),
                         ShapeName);

TEST_P(StreamTest, TwentyThousandDatagramsOfOneClientArriveInOrder) {
  EchoBackend lobby;
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer client;
  EXPECT_TRUE(StreamsInOrder(&client, address(), 0, kStreamDatagrams, 200));
  EXPECT_TRUE(ArrivedInOrder(lobby, 1, kStreamDatagrams));
}

TEST_P(StreamTest, TwentyThousandDatagramsOfSeveralClientsArriveInOrder) {
  constexpr int kClients = 8;
  EchoBackend lobby;
  SetBackend(lobby);
  StartGate(GetParam());
  std::vector<LoopbackPeer> clients(kClients);
  std::vector<::testing::AssertionResult> results(
      kClients, ::testing::AssertionFailure());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kClients; ++i) {
    threads.emplace_back([&, i] {
      // The backend's socket buffer must hold all windows together.
      results[i] = StreamsInOrder(&clients[i], address(), static_cast<int>(i),
                                  kStreamDatagrams / kClients, 50);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const ::testing::AssertionResult& result : results) EXPECT_TRUE(result);
  EXPECT_TRUE(ArrivedInOrder(lobby, kClients, kStreamDatagrams / kClients));
}

TEST_P(TrafficTest, EverySizePassesUnchangedBothWays) {
  std::mt19937 random(1);
  EchoBackend lobby;
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer client;
  for (const size_t size :
       {0, 1, 2, 100, 1200, 1472, 1473, 9000, 32768, 65506, 65507, 0, 65507}) {
    const std::string payload = RandomBytes(&random, size);
    // As the first datagram of a client, which waits for its backend.
    LoopbackPeer newcomer;
    for (LoopbackPeer* peer : {&newcomer, &client}) {
      absl::StatusOr<std::string> reply = peer->Ask(address(), payload);
      ASSERT_TRUE(reply.ok()) << size << " " << reply.status();
      ASSERT_EQ(reply->size(), size);
      EXPECT_TRUE(*reply == payload) << size;
    }
  }
  for (const Datagram& datagram : lobby.received()) {
    EXPECT_LE(datagram.payload.size(), size_t{kDatagramBytesMax});
  }
}

TEST_P(TrafficTest, ABurstOfMixedSizesIsNeitherMergedNorCut) {
  std::mt19937 random(2);
  EchoBackend lobby;
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer client;
  std::uniform_int_distribution<size_t> sizes(0, 3000);
  for (int round = 0; round < 10; ++round) {
    std::vector<std::string> burst;
    // Runs of one size are what a kernel likes to merge (UDP GRO).
    for (int i = 0; i < 20; ++i) burst.push_back(RandomBytes(&random, 1200));
    for (int i = 0; i < 20; ++i) {
      burst.push_back(RandomBytes(&random, sizes(random)));
    }
    if (round == 0) burst.resize(10);  // pending datagrams are bounded
    for (const std::string& payload : burst) {
      ASSERT_TRUE(client.Send(address(), payload).ok());
    }
    for (const std::string& payload : burst) {
      absl::StatusOr<Datagram> reply = client.Receive();
      ASSERT_TRUE(reply.ok()) << reply.status();
      ASSERT_TRUE(reply->payload == payload);
    }
  }
}

TEST_P(TrafficTest, NonsenseFromEverywhereLeavesTheGateAlive) {
  std::mt19937 random(3);
  EchoBackend lobby("lobby");
  EchoBackend sink;
  sink.set_silent(true);
  SetBackend(lobby);
  StartGate(GetParam());
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  LoopbackPeer player;
  ASSERT_TRUE(IsServedBy(&player, address(), "lobby"));
  SetBackend(sink);
  std::vector<LoopbackPeer> crowd(50);
  std::uniform_int_distribution<size_t> sizes(0, 2000);
  for (int round = 0; round < 20; ++round) {
    for (LoopbackPeer& client : crowd) {
      ASSERT_TRUE(
          client.Send(address(), RandomBytes(&random, sizes(random))).ok());
    }
    Publish(RandomBytes(&random, sizes(random)));
    SetBackendText(RandomBytes(&random, sizes(random) / 20));
    // Unsolicited replies, to all ports that the backend knows.
    for (const SocketAddress& relay : sink.sources()) {
      ASSERT_TRUE(sink.Send(relay, RandomBytes(&random, sizes(random))).ok());
    }
    ASSERT_TRUE(IsServedBy(&player, address(), "lobby", 3));
  }
  SetBackend(lobby);
  LoopbackPeer newcomer;
  EXPECT_TRUE(AwaitServedBy(&newcomer, address(), "lobby"));
}

class AccountingTest : public InProcessGateTest,
                       public ::testing::WithParamInterface<Shape> {
 protected:
  void Start() {
    options_.proxy.worker_count = GetParam().worker_count;
    options_.proxy.listener_count = GetParam().listener_count;
    StartInProcess();
  }
  const SocketAddress& address() { return in_process().address(); }
};

INSTANTIATE_TEST_SUITE_P(Shapes, AccountingTest,
                         ::testing::ValuesIn(kAllShapes), ShapeName);

TEST_P(AccountingTest, EveryDatagramIsAccountedForWhenTrafficRests) {
  std::mt19937 random(4);
  EchoBackend lobby("lobby");
  EchoBackend dead("dead");
  dead.Stop();
  options_.proxy.queue_size_datagrams = 8;  // small, so that it overflows
  Start();
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  std::vector<LoopbackPeer> clients(60);
  uint64_t sent = 0;
  std::uniform_int_distribution<size_t> sizes(0, 4000);
  const std::vector<std::string> values = {
      lobby.address().ToString(), dead.address().ToString(), "nonsense",
      lobby.address().ToString()};
  for (size_t round = 0; round < 12; ++round) {
    SetBackendText(values[round % values.size()]);
    for (LoopbackPeer& client : clients) {
      ASSERT_TRUE(
          client.Send(address(), RandomBytes(&random, sizes(random))).ok());
      ++sent;
    }
    for (size_t i = 0; i < 5; ++i) {
      Publish(clients[(round * 5 + i) % clients.size()].address().ToString());
    }
    Publish("nonsense");
  }
  // At rest, and then the law holds.
  EXPECT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
    return stats.client_datagrams_received == sent &&
           stats.datagrams_held == 0 && stats.sessions_pending == 0 &&
           stats.disconnects_received == 12 * 6 && AccountsForAll(stats);
  })) << Describe(in_process().stats());
  const ProxyStats stats = in_process().stats();
  EXPECT_EQ(stats.disconnects_invalid, 12u);
  EXPECT_LE(lobby.received_count(), stats.client_datagrams_forwarded);
  EXPECT_GE(lobby.received_count(), stats.backend_datagrams_received);
}

TEST_P(AccountingTest, BytesAreCountedAsTheyPass) {
  EchoBackend lobby;
  SetBackend(lobby);
  Start();
  LoopbackPeer client;
  uint64_t bytes = 0;
  for (const size_t size : {0, 1, 1200, 65507}) {
    ASSERT_TRUE(client.Ask(address(), std::string(size, 'x')).ok());
    bytes += size;
  }
  EXPECT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
    return stats.client_datagrams_received == 4 &&
           stats.client_bytes_received == bytes &&
           stats.client_bytes_forwarded == bytes &&
           stats.backend_datagrams_received == 4 &&
           stats.backend_bytes_received == bytes &&
           stats.backend_bytes_forwarded == bytes;
  })) << Describe(in_process().stats());
  EXPECT_EQ(in_process().stats().dropped_total(), 0u);
}

TEST_P(AccountingTest, SessionsAreLimited) {
  options_.proxy.limits.max_sessions = 5;
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  Start();
  std::vector<LoopbackPeer> clients(5);
  // Until all are confirmed: a confirmed session is not evicted.
  ASSERT_TRUE(AwaitTrue([&] {
    for (LoopbackPeer& client : clients) {
      EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
    }
    return in_process().stats().sessions_confirmed == clients.size();
  }));
  LoopbackPeer late;
  ASSERT_TRUE(late.Send(address(), "room for one more?").ok());
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kSessionLimit) == 1;
  }));
  EXPECT_EQ(in_process().stats().sessions_active, 5u);
  for (LoopbackPeer& client : clients) {
    EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  }
  Publish(clients[2].address().ToString());
  EXPECT_TRUE(AwaitServedBy(&late, address(), "lobby"));
  EXPECT_EQ(in_process().stats().sessions_active, 5u);
}

TEST_P(AccountingTest, ADrainingGateKeepsItsSessionsAndTakesNoNewOnes) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  in_process().proxy().Drain();
  LoopbackPeer late;
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(late.Send(address(), "hello").ok());
    return in_process().stats().dropped(DropReason::kDraining) > 0;
  }));
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 5));
  EXPECT_EQ(in_process().stats().sessions_active, 1u);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
