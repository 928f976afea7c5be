// Disconnect events.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/endings.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class DisconnectTest : public ShardTest {
 protected:
  static constexpr uint64_t kPerIteration = Endings::kEndsPerIteration;
};

TEST_F(DisconnectTest, EndsTheSessionOfThatClientOnly) {
  Start();
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  Connect(other);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);

  // The next datagram creates a session with another port.
  SendAndRead(client_, "again");
  ASSERT_EQ(resolver_->pending.size(), 1u);
  ResolveTo(backend_.address());
  absl::StatusOr<test::Datagram> again = backend_.TryReceive();
  ASSERT_TRUE(again.ok());
  EXPECT_NE(again->from, relay);
}

TEST_F(DisconnectTest, ReferenceToAnEndedSessionEndsNothing) {
  Start();
  const SocketAddress relay = Connect(client_);
  const RelayOwner owner = context_->relay_ports.Find(relay.port()).at(0);
  PostDisconnect(ShardMessage::Kind::kEndSession, {}, owner.session);
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);
  Connect(client_);
  PostDisconnect(ShardMessage::Kind::kEndSession, {}, owner.session);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
}

TEST_F(DisconnectTest, CountsUnknownClientsAsUnmatched) {
  Start();
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
}

// An event that waits during a takeover; its client may have reconnected
// meanwhile.
TEST_F(DisconnectTest, KeepsASessionCreatedAfterTheEventArrived) {
  Start();
  const int64_t came_nanoseconds = clock_.NowNanoseconds();
  clock_.Advance(absl::Milliseconds(1));
  Connect(client_);
  for (const ShardMessage::Kind kind : {ShardMessage::Kind::kDisconnectClient,
                                        ShardMessage::Kind::kEndBackend}) {
    ShardMessage message;
    message.kind = kind;
    message.client = client_.address();
    if (kind == ShardMessage::Kind::kEndBackend) {
      message.address = backend_.address();
    }
    message.came_nanoseconds = came_nanoseconds;
    worker_->inbox()->PostDisconnect(std::move(message));
    Poll();
    EXPECT_EQ(Stats().sessions_active, 1u);
  }
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
}

// Many sessions end over several iterations; a client that reconnects meanwhile
// keeps its new session.
TEST_F(DisconnectTest, KeepsSessionsCreatedWhileManyEnd) {
  Start();
  constexpr int kClients = 2 * Endings::kEndsPerIteration + 2;
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) Connect(client);
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEndBackend;
  message.address = backend_.address();
  worker_->inbox()->PostDisconnect(std::move(message));
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), kPerIteration);
  SendAndRead(clients[0], "hello again");
  Poll();  // ends some more, and then handles the datagram
  ResolveTo(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello again"));
  for (int i = 0; i < kClients; ++i) Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), uint64_t{kClients});
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_FALSE(worker_->inbox()->HasDisconnects());
}

TEST_F(DisconnectTest, ByTextEndsTheSessionsThatWereResolvedToIt) {
  Start();
  LoopbackPeer other, pending, address;
  LoopbackPeer other_backend;
  SendAndRead(client_, "one");
  FinishResolve(ResolveResult{backend_.address(), "Lobby.test:1"});
  // The name resolves to another backend by now.
  SendAndRead(other, "two");
  FinishResolve(ResolveResult{other_backend.address(), "lobby.test:1"});
  SendAndRead(address, "three");
  ResolveTo(backend_.address());
  SendAndRead(pending, "four");
  clock_.Advance(absl::Milliseconds(1));
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEndBackendText;
  message.text = std::make_shared<const std::string>("lobby.test:1");
  message.came_nanoseconds = clock_.NowNanoseconds();
  worker_->inbox()->PostDisconnect(std::move(message));
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 2u);
  EXPECT_EQ(Stats().sessions_active, 1u);
  // The pending resolution may give the backend that is to be avoided.
  FinishResolve(ResolveResult{backend_.address(), "lobby.test:1"});
  EXPECT_EQ(Stats().sessions_pending, 1u);
  ASSERT_EQ(resolver_->pending.size(), 1u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
