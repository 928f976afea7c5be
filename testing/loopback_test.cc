// The peers that tests play clients and backends with.
#include <string>

#include "gtest/gtest.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"

namespace udpgate {
namespace test {
namespace {

TEST(LoopbackPeerTest, SendsAndReceivesEverySize) {
  LoopbackPeer a;
  LoopbackPeer b;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{kDatagramBytesMax}}) {
    ASSERT_TRUE(a.Send(b.address(), std::string(size, 'x')).ok());
    absl::StatusOr<Datagram> datagram = b.Receive();
    ASSERT_TRUE(datagram.ok()) << datagram.status();
    EXPECT_EQ(datagram->payload.size(), size);
    EXPECT_EQ(datagram->from, a.address());
  }
}

TEST(LoopbackPeerTest, SaysThatNothingCame) {
  LoopbackPeer peer;
  EXPECT_EQ(peer.TryReceive().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(peer.Receive(absl::Milliseconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(LoopbackPeerTest, APortThatIsTakenIsAnError) {
  LoopbackPeer peer;
  EXPECT_FALSE(LoopbackPeer::Bind(peer.address()).ok());
}

TEST(LoopbackPeerTest, SpeaksIpv6) {
  LoopbackPeer a(SocketAddress::Ipv6Loopback(0));
  EchoBackend b("six", SocketAddress::Ipv6Loopback(0));
  EXPECT_EQ(*a.Ask(b.address(), "x"), "six:x");
}

TEST(EchoBackendTest, RemembersWhatCameFromWhom) {
  EchoBackend backend("lobby");
  LoopbackPeer a;
  LoopbackPeer b;
  EXPECT_EQ(*a.Ask(backend.address(), "1"), "lobby:1");
  EXPECT_EQ(*b.Ask(backend.address(), "2"), "lobby:2");
  EXPECT_EQ(*a.Ask(backend.address(), "3"), "lobby:3");
  ASSERT_EQ(backend.received_count(), 3u);
  EXPECT_EQ(backend.received()[1].payload, "2");
  EXPECT_EQ(backend.sources(),
            (std::vector<SocketAddress>{a.address(), b.address()}));
}

TEST(EchoBackendTest, IsSilentWhenToldTo) {
  EchoBackend backend;
  LoopbackPeer client;
  backend.set_silent(true);
  ASSERT_TRUE(client.Send(backend.address(), "psst").ok());
  ASSERT_TRUE(backend.AwaitReceived(1));
  backend.set_silent(false);
  // Had it answered the first, this would come second.
  EXPECT_EQ(*client.Ask(backend.address(), "hello"), "hello");
}

TEST(EchoBackendTest, ComesBackOnItsPort) {
  EchoBackend backend("lobby");
  LoopbackPeer client;
  const SocketAddress address = backend.address();
  backend.Stop();
  ASSERT_TRUE(client.Send(address, "lost").ok());
  backend.Start();
  EXPECT_EQ(backend.address(), address);
  EXPECT_EQ(*client.Ask(address, "hello"), "lobby:hello");
  EXPECT_EQ(backend.received_count(), 1u);
}

TEST(AwaitServedByTest, TellsWhoAnswers) {
  EchoBackend backend("lobby");
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, backend.address(), "lobby"));
  EXPECT_FALSE(AwaitServedBy(&client, backend.address(), "arena",
                             absl::Milliseconds(1)));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
