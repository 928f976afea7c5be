// The backend of a client, and disconnect events, with different numbers of
// workers.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/tcp_relay.h"

namespace udpgate {
namespace test {
namespace {

class AssignmentTest : public GateTest,
                       public ::testing::WithParamInterface<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, AssignmentTest,
                         ::testing::ValuesIn(kAllShapes), ShapeName);

TEST_P(AssignmentTest, AClientKeepsItsBackendWhenTheKeyChanges) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer early;
  EXPECT_TRUE(IsServedBy(&early, address(), "lobby", 5));
  SetBackend(arena);
  LoopbackPeer late;
  EXPECT_TRUE(IsServedBy(&late, address(), "arena", 5));
  EXPECT_TRUE(IsServedBy(&early, address(), "lobby", 5));
  ASSERT_TRUE(redis().Command({"DEL", kBackendKey}).ok());
  EXPECT_TRUE(IsServedBy(&early, address(), "lobby", 5));
  EXPECT_TRUE(IsServedBy(&late, address(), "arena", 5));
  // Each session keeps its source port.
  EXPECT_EQ(lobby.sources().size(), 1u);
  EXPECT_EQ(arena.sources().size(), 1u);
}

TEST_P(AssignmentTest, ADisconnectNamesTheClientsAddress) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer moved;
  LoopbackPeer stays;
  ASSERT_TRUE(IsServedBy(&moved, address(), "lobby"));
  ASSERT_TRUE(IsServedBy(&stays, address(), "lobby"));
  SetBackend(arena);
  Publish(moved.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&moved, address(), "arena"));
  EXPECT_TRUE(IsServedBy(&moved, address(), "arena", 5));
  EXPECT_TRUE(IsServedBy(&stays, address(), "lobby", 5));
  EXPECT_EQ(arena.sources().size(), 1u);
}

TEST_P(AssignmentTest, ADisconnectNamesTheRelayPort) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer moved;
  ASSERT_TRUE(IsServedBy(&moved, address(), "lobby"));
  LoopbackPeer stays;
  ASSERT_TRUE(IsServedBy(&stays, address(), "lobby"));
  SetBackend(arena);
  // What the backend sees of the first client.
  Publish(absl::StrCat(lobby.sources().front().port()));
  EXPECT_TRUE(AwaitServedBy(&moved, address(), "arena"));
  EXPECT_TRUE(IsServedBy(&moved, address(), "arena", 5));
  EXPECT_TRUE(IsServedBy(&stays, address(), "lobby", 5));
}

TEST_P(AssignmentTest, AnInvalidDisconnectEndsNothing) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  SetBackend(arena);
  const std::string port = absl::StrCat(lobby.sources().front().port());
  for (const std::string& payload : std::vector<std::string>{
           "", " ", "0", "-1", "65536", "99999999999999999999",
           absl::StrCat("-", port), absl::StrCat(port, ".0"),
           absl::StrCat(port, "x"), absl::StrCat("0x", port), "nonsense",
           "127.0.0.1", "[::1]", "127.0.0.1:", "127.0.0.1:0x1",
           "localhost:1234", "{\"client\": \"127.0.0.1:1\"}",
           absl::StrCat(client.address().ToString(), ","),
           std::string("\0\xff\r\n*1", 6), std::string(10000, '7'),
           // Valid, but no such session.
           "192.0.2.1:4", "[2001:db8::1]:4", "1"}) {
    Publish(payload);
  }
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 20));
  // Events are handled in order: after this one, all are done.
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
  EXPECT_EQ(lobby.sources().size(), 1u);
  EXPECT_EQ(arena.sources().size(), 1u);
}

TEST_P(AssignmentTest, AnOversizedDisconnectEndsNothing) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  SetBackend(arena);
  ASSERT_TRUE(gate().AwaitLog("subscribed"));
  const size_t log_before = gate().log().size();
  Publish(std::string(1 << 20, '7'));
  // The gateway reconnects.
  ASSERT_TRUE(gate().AwaitLog("subscribed", kAwaitTimeout, log_before));
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 20));
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_P(AssignmentTest, WhiteSpaceAroundADisconnectIsIgnored) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  SetBackend(arena);
  Publish(absl::StrCat("\t ", client.address().ToString(), "\r\n"));
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

// A client that sends continuously, without waiting for replies.
class BusyClient {
 public:
  explicit BusyClient(const SocketAddress& gate) : gate_(gate) {
    thread_ = std::thread([this] { Run(); });
  }
  ~BusyClient() { Stop(); }

  void Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  LoopbackPeer* peer() { return &peer_; }
  // The first letter of the last reply.
  char last_backend() const { return last_backend_; }

 private:
  void Run() {
    int number = 0;
    while (!stopping_) {
      peer_.Send(gate_, absl::StrCat(number++)).IgnoreError();
      // At most 1 ms per datagram.
      for (absl::StatusOr<Datagram> reply =
               peer_.Receive(absl::Milliseconds(1));
           reply.ok(); reply = peer_.TryReceive()) {
        last_backend_ = reply->payload[0];
      }
    }
  }

  const SocketAddress gate_;
  LoopbackPeer peer_;
  std::atomic<bool> stopping_{false};
  std::atomic<char> last_backend_{'?'};
  std::thread thread_;
};

TEST_P(AssignmentTest, FiftyDisconnectsOfABusyClientCreateFiftySessions) {
  constexpr int kDisconnects = 50;
  EchoBackend even("even");
  EchoBackend odd("odd");
  SetBackend(even);
  StartGate(GetParam());
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  BusyClient client(address());
  ASSERT_TRUE(AwaitTrue([&] { return client.last_backend() == 'e'; }));
  for (int i = 1; i <= kDisconnects; ++i) {
    SetBackend(i % 2 == 0 ? even : odd);
    // Alternates between the address and the port.
    const EchoBackend& current = i % 2 == 0 ? odd : even;
    Publish(i % 4 < 2 ? client.peer()->address().ToString()
                      : absl::StrCat(current.sources().back().port()));
    ASSERT_TRUE(AwaitTrue([&] {
      return client.last_backend() == (i % 2 == 0 ? 'e' : 'o');
    })) << "disconnect "
        << i;
  }
  client.Stop();
  EXPECT_TRUE(AwaitServedBy(client.peer(), address(), "even"));
  EXPECT_TRUE(IsServedBy(client.peer(), address(), "even", 20));
  // A late event that ended a new session would have created one more.
  EXPECT_EQ(even.sources().size() + odd.sources().size(),
            size_t{kDisconnects + 1});
}

TEST_P(AssignmentTest, TheNextDatagramAfterAMissingKeyRetries) {
  EchoBackend lobby("lobby");
  StartGate(GetParam());
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "too early").ok());
  EXPECT_TRUE(gate().AwaitLog("dropped (no_backend)")) << gate().log();
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 5));
  EXPECT_EQ(lobby.sources().size(), 1u);
}

// A relay that holds replies back.
class PendingTest : public AssignmentTest {
 protected:
  void StartBehindRelay() {
    SetBackend(lobby_);
    StartGate(GetParam(), {{"REDIS_ADDR", relay_.address()},
                           {"REDIS_TIMEOUT_MS", "30000"},
                           {"RESOLVE_TIMEOUT_MS", "30000"}});
    // Both connections are established and idle now.
    LoopbackPeer first;
    ASSERT_TRUE(AwaitServedBy(&first, address(), "lobby"));
    ASSERT_TRUE(AwaitSubscriber(&redis()));
  }

  size_t gets() const { return relay_.CountRequests("GET"); }

  EchoBackend lobby_{"lobby"};
  TcpRelay relay_{redis().port()};
};

INSTANTIATE_TEST_SUITE_P(Shapes, PendingTest, ::testing::ValuesIn(kAllShapes),
                         ShapeName);

TEST_P(PendingTest, BufferedDatagramsAreSentInOrder) {
  StartBehindRelay();
  const size_t gets_before = gets();
  relay_.HoldReplies();
  LoopbackPeer client;
  for (int i = 0; i < 16; ++i) {
    ASSERT_TRUE(client.Send(address(), absl::StrCat(i)).ok());
  }
  ASSERT_TRUE(relay_.AwaitRequests("GET", gets_before + 1));
  relay_.ReleaseReplies();
  for (int i = 0; i < 16; ++i) {
    absl::StatusOr<Datagram> reply = client.Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, absl::StrCat("lobby:", i));
  }
  // One resolution for all of them.
  EXPECT_EQ(gets(), gets_before + 1);
}

TEST_P(PendingTest, AResultIsNewerThanItsResolution) {
  EchoBackend arena("arena");
  StartBehindRelay();
  const size_t gets_before = gets();
  relay_.HoldReplies();
  LoopbackPeer early;
  ASSERT_TRUE(early.Send(address(), "early").ok());
  ASSERT_TRUE(relay_.AwaitRequests("GET", gets_before + 1));
  // The held reply may have the old value, which new clients must not get.
  SetBackend(arena);
  std::vector<LoopbackPeer> late(20);
  for (LoopbackPeer& client : late) {
    ASSERT_TRUE(client.Send(address(), "late").ok());
  }
  ASSERT_TRUE(relay_.AwaitRequests("GET", gets_before + 2));
  relay_.ReleaseReplies();
  for (LoopbackPeer& client : late) {
    absl::StatusOr<Datagram> reply = client.Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, "arena:late");
  }
  EXPECT_TRUE(early.Receive().ok());
}

using InProcessAssignmentTest = InProcessGateTest;

TEST_F(InProcessAssignmentTest, ADisconnectRepeatsAPendingResolution) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  TcpRelay relay(redis().port());
  options_.redis.address = relay.address();
  options_.redis.command_timeout = absl::Seconds(30);
  options_.proxy.limits.resolve_timeout = absl::Seconds(30);
  SetBackend(lobby);
  StartInProcess();
  LoopbackPeer first;
  ASSERT_TRUE(AwaitServedBy(&first, in_process().address(), "lobby"));
  const size_t gets_before = relay.CountRequests("GET");
  relay.HoldReplies();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  ASSERT_TRUE(relay.AwaitRequests("GET", gets_before + 1));
  SetBackend(arena);
  std::atomic<int64_t> ended_count{-1};
  in_process().proxy().Disconnect(DisconnectTarget::ForClient(client.address()),
                                  [&](int64_t count) { ended_count = count; });
  ASSERT_TRUE(AwaitTrue([&] { return ended_count == 1; }));
  relay.ReleaseReplies();
  ASSERT_TRUE(relay.AwaitRequests("GET", gets_before + 2));
  // The buffered datagrams go to the backend of the newer result.
  absl::StatusOr<Datagram> reply = client.Receive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->payload, "arena:hello");
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "arena", 5));
}

TEST_F(InProcessAssignmentTest, BufferedDatagramsAreLimited) {
  EchoBackend lobby("lobby");
  options_.proxy.limits.pending_datagrams_max = 4;
  options_.proxy.limits.resolve_timeout = absl::Seconds(30);
  options_.redis.command_timeout = absl::Seconds(30);
  TcpRelay relay(redis().port());
  options_.redis.address = relay.address();
  SetBackend(lobby);
  relay.HoldReplies();
  StartInProcess();
  LoopbackPeer client;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(client.Send(in_process().address(), absl::StrCat(i)).ok());
  }
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kPendingFull) == 16 &&
           stats.datagrams_held == 4 && stats.sessions_pending == 1;
  }));
  relay.ReleaseReplies();
  // The oldest are kept.
  for (int i = 0; i < 4; ++i) {
    absl::StatusOr<Datagram> reply = client.Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, absl::StrCat("lobby:", i));
  }
}

TEST_F(InProcessAssignmentTest, DisconnectsAreCountedByResult) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartInProcess();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, in_process().address(), "lobby"));
  Publish("nonsense");
  Publish("");
  Publish("192.0.2.1:4");
  Publish(client.address().ToString());
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.ended(EndReason::kDisconnected) == 1 &&
           stats.disconnects_received == 4 && stats.disconnects_invalid == 2 &&
           stats.disconnects_unmatched == 1 && stats.sessions_active == 0;
  })) << Describe(in_process().stats());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
