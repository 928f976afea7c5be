// Sessions that get the source port which their resolver asks for.
#include <memory>

#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/newcomers.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;

class RelayPreferenceTest : public ShardTest {
 protected:
  // The address of its upstream socket.
  SocketAddress ConnectBy(const LoopbackPeer& client,
                          const SocketAddress& preferred) {
    SendAndRead(client, "hello");
    ResolveResult result{backend_.address(), "lobby"};
    result.relay = preferred;
    FinishResolve(std::move(result));
    const auto first = backend_.TryReceive();
    EXPECT_TRUE(first.ok()) << first.status();
    return first.ok() ? first->from : SocketAddress();
  }
  void Disconnect(const LoopbackPeer& client) {
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client.address());
  }

  LoopbackPeer other_;
};

TEST_F(RelayPreferenceTest, APlayerComesBackFromItsPortInQuarantine) {
  Start();
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  Poll();
  Disconnect(client_);
  ASSERT_EQ(context_->relay_ports.quarantined(clock_.NowNanoseconds()), 1);
  EXPECT_EQ(ConnectBy(other_, relay), relay);
  EXPECT_EQ(context_->relay_ports.quarantined_ports_taken(), 0u);
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  Poll();
  EXPECT_EQ(ReceiveAll(&other_).size(), 1u);
}

TEST_F(RelayPreferenceTest, APortOfAnotherSessionIsNotTakenFromIt) {
  Start();
  const SocketAddress relay = Connect(client_);
  const SocketAddress other = ConnectBy(other_, relay);
  EXPECT_NE(other, relay);
  EXPECT_TRUE(other.is_valid());
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  Poll();
  EXPECT_EQ(ReceiveAll(&client_).size(), 1u);
}

TEST_F(RelayPreferenceTest, APortThatCannotBeHadIsReplacedByAnother) {
  const LoopbackPeer program;  // another one, which has a port of the range
  local_ports_.push_back(program.address().port());
  Start();
  const SocketAddress wishes[] = {
      program.address(), SocketAddress::Ipv6Loopback(40000),
      *SocketAddress::Parse("203.0.113.7:40000"),
      SocketAddress::Ipv4Loopback(1), SocketAddress::Ipv4Loopback(0)};
  for (const SocketAddress& wish : wishes) {
    const SocketAddress relay = ConnectBy(client_, wish);
    EXPECT_TRUE(relay.is_valid()) << wish.ToString();
    EXPECT_NE(relay, wish);
    Disconnect(client_);
  }
  EXPECT_EQ(context_->relay_ports.in_use(), 0);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
