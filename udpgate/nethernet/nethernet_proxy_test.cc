// A Proxy whose resolver knows joins: real sockets, and checks as ICE agents
// send them.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"
#include "udpgate/clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join_fixture.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/nethernet/nethernet_resolver.h"
#include "udpgate/proxy_fixture.h"

namespace udpgate {
namespace nethernet {
namespace test {
namespace {

using ::testing::Each;
using ::testing::Field;
using ::testing::SizeIs;
using ::udpgate::test::EchoBackend;
using ::udpgate::test::LoopbackPeer;
using ::udpgate::test::NameOf;
using ::udpgate::test::ResolveWith;
using ::udpgate::test::ThreadCounts;

// Of two network interfaces.
constexpr uint32_t kWifi = 1000;
constexpr uint32_t kMobile = 900;

// `backend_` is where the joins' media goes; `raknet_` is what the other
// resolver names.
class NetherNetProxyTest : public ::udpgate::test::ProxyTest {
 protected:
  NetherNetProxyTest() {
    dependencies_.resolver =
        std::make_shared<NetherNetResolver>(resolver_, joins_);
    ON_CALL(*resolver_, Resolve).WillByDefault(ResolveWith(raknet_.address()));
  }

  void AddJoin(absl::string_view ufrag) {
    Join join = JoinWith(ufrag, "127.0.0.1:1");
    join.media = backend_.address();
    const absl::Status status = Add(std::move(join), joins_.get());
    ASSERT_TRUE(status.ok()) << status;
  }
  // Whether a check of this client reaches the join's backend.
  bool IsServed(LoopbackPeer& client, absl::string_view ufrag,
                uint32_t priority = kWifi) {
    const std::string check = CheckOf(ufrag, priority);
    return Ask(client, check) == "echo:" + check;
  }

  EchoBackend raknet_{"raknet"};
  std::shared_ptr<JoinTable> joins_ =
      std::make_shared<JoinTable>(JoinTableOptions(), Clock::Monotonic());
};

INSTANTIATE_TEST_SUITE_P(ThreadCounts, NetherNetProxyTest,
                         ::testing::Values(ThreadCounts{0, 1},
                                           ThreadCounts{4, 2}),
                         NameOf);

TEST_P(NetherNetProxyTest, ACheckOpensASessionThatIsConfirmedAtOnce) {
  EXPECT_CALL(*resolver_, Resolve).Times(0);
  AddJoin("abcd");
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServed(client, "abcd"));
  EXPECT_EQ(proxy_->GetStats().sessions_confirmed, 1);
  const std::vector<SessionInfo> sessions = Sessions();
  ASSERT_THAT(sessions, SizeIs(1));
  EXPECT_EQ(sessions[0].tag, "player-abcd");
  EXPECT_EQ(sessions[0].label, "lobby.internal:19132");
  // Far beyond what an unconfirmed client gets for its datagram.
  const SocketAddress relay = backend_.sources()[0];
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(backend_.Send(relay, std::string(1000, 'x')).ok());
    ASSERT_TRUE(client.Receive().ok());
  }
  EXPECT_EQ(proxy_->GetStats().dropped_total(), 0u);
}

TEST_P(NetherNetProxyTest, OtherClientsAreResolvedAsEver) {
  AddJoin("abcd");
  Start();
  LoopbackPeer old_client, new_client;
  EXPECT_EQ(Ask(old_client, "\x05 RakNet"), "raknet:\x05 RakNet");
  EXPECT_TRUE(IsServed(new_client, "abcd"));
  EXPECT_EQ(Ask(old_client, "more"), "raknet:more");
  stun::BindingRequestOptions options;
  const std::string not_ice = stun::BuildBindingRequest(options);
  LoopbackPeer other;
  EXPECT_EQ(Ask(other, not_ice), "raknet:" + not_ice);
}

TEST_P(NetherNetProxyTest, WhatBelongsToNoJoinIsDroppedWithoutAQuestion) {
  EXPECT_CALL(*resolver_, Resolve).Times(0);
  AddJoin("abcd");
  Start();
  LoopbackPeer client;
  Send(client, CheckOf("efgh"));
  stun::BindingRequestOptions guess;
  guess.username = "abcd:offer";
  guess.password = "guess";
  Send(client, stun::BuildBindingRequest(guess));
  Send(client, "\x16\xfe\xfd DTLS");
  EXPECT_TRUE(AwaitDropped(DropReason::kStunUnknownUfrag, 1));
  EXPECT_TRUE(AwaitDropped(DropReason::kStunWrongIntegrity, 1));
  EXPECT_TRUE(AwaitDropped(DropReason::kDtlsWithoutSession, 1));
  EXPECT_EQ(proxy_->GetStats().sessions_created, 0u);
  EXPECT_TRUE(IsAccounted(proxy_->GetStats()));
  // A session's own DTLS passes.
  ASSERT_TRUE(IsServed(client, "abcd"));
  EXPECT_EQ(Ask(client, "\x16\xfe\xfd DTLS"), "echo:\x16\xfe\xfd DTLS");
}

TEST_P(NetherNetProxyTest, SeveralAddressesOfAPlayerReachOneBackend) {
  AddJoin("abcd");
  Start();
  LoopbackPeer wifi, mobile;
  LoopbackPeer other(*SocketAddress::Parse("127.0.0.2:0"));
  EXPECT_TRUE(IsServed(wifi, "abcd", kWifi));
  EXPECT_TRUE(IsServed(mobile, "abcd", kMobile));
  EXPECT_TRUE(IsServed(other, "abcd", kWifi));
  EXPECT_TRUE(IsServed(wifi, "abcd", kWifi));
  EXPECT_THAT(backend_.sources(), SizeIs(3));
  EXPECT_THAT(Sessions(), SizeIs(3));
  EXPECT_THAT(Sessions(), Each(Field(&SessionInfo::tag, "player-abcd")));
  ASSERT_THAT(joins_->List(), SizeIs(1));
  EXPECT_EQ(joins_->List()[0].session_count, 3);
}

TEST_P(NetherNetProxyTest, APlayerWhoMovesKeepsItsSourcePort) {
  AddJoin("abcd");
  Start();
  LoopbackPeer before, after;
  ASSERT_TRUE(IsServed(before, "abcd"));
  ASSERT_TRUE(IsServed(after, "abcd"));
  EXPECT_THAT(backend_.sources(), SizeIs(1));
  EXPECT_TRUE(AwaitEnded(EndReason::kClientMoved, 1));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 1);
  EXPECT_EQ(joins_->stats().clients_moved, 1u);
  EXPECT_EQ(joins_->List()[0].session_count, 1);
  // What the backend sends goes to the new address.
  ASSERT_TRUE(backend_.Send(backend_.sources()[0], "news").ok());
  const auto received = after.Receive();
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(received->payload, "news");
}

// A network may translate one socket of the player to a port for each address
// of the gateway.
TEST_P(NetherNetProxyTest, AddressesThatAreBothInUseBothKeepTheirSessions) {
  AddJoin("abcd");
  Start();
  LoopbackPeer first, second;
  ASSERT_TRUE(IsServed(first, "abcd"));
  ASSERT_TRUE(IsServed(second, "abcd"));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(IsServed(first, "abcd"));
    ASSERT_TRUE(IsServed(second, "abcd"));
  }
  EXPECT_EQ(joins_->stats().clients_moved, 1u);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 2);
  EXPECT_EQ(proxy_->GetStats().sessions_created, 3u);
}

// As the spare addresses of libwebrtc do, which it checks every 25 s.
TEST_P(NetherNetProxyTest, AnAddressThatComesBackKeepsItsSourcePort) {
  options_.limits.session_idle_timeout = absl::Milliseconds(50);
  AddJoin("abcd");
  Start();
  LoopbackPeer client;
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(IsServed(client, "abcd"));
    ASSERT_TRUE(AwaitEnded(EndReason::kIdle, i));
  }
  EXPECT_THAT(backend_.sources(), SizeIs(1));
  EXPECT_EQ(joins_->stats().joins_begun, 1u);
}

TEST_P(NetherNetProxyTest, ADisconnectEndsTheJoinWithAllOfItsSessions) {
  EXPECT_CALL(*resolver_, Resolve).Times(0);
  AddJoin("abcd");
  AddJoin("efgh");
  Start();
  LoopbackPeer first, another;
  LoopbackPeer spare(*SocketAddress::Parse("127.0.0.2:0"));
  ASSERT_TRUE(IsServed(first, "abcd"));
  ASSERT_TRUE(IsServed(spare, "abcd"));
  ASSERT_TRUE(IsServed(another, "efgh"));
  // All that a backend sees of the player.
  const uint16_t port = backend_.sources()[0].port();
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(port)), 2);
  EXPECT_TRUE(AwaitEnded(EndReason::kDisconnected, 2));
  Send(first, CheckOf("abcd"));
  Send(spare, CheckOf("abcd"));
  EXPECT_TRUE(AwaitDropped(DropReason::kStunUnknownUfrag, 2));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 1);
  EXPECT_TRUE(IsServed(another, "efgh"));
  // The player joins again.
  AddJoin("ijkl");
  EXPECT_TRUE(IsServed(first, "ijkl"));
}

TEST_P(NetherNetProxyTest, ADisconnectByTheBackendsNameEndsTheSessions) {
  AddJoin("abcd");
  AddJoin("wait");
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServed(client, "abcd"));
  // The address of the backend that Redis named, which is not the media's.
  EXPECT_EQ(Disconnect(DisconnectTarget::ForBackend(Address("10.0.0.5:19132"))),
            1);
  Send(client, CheckOf("abcd"));
  Send(client, CheckOf("wait"));
  EXPECT_TRUE(AwaitDropped(DropReason::kStunUnknownUfrag, 2));
}

TEST_P(NetherNetProxyTest, ADrainServesFurtherAddressesOfPlayers) {
  AddJoin("abcd");
  Start();
  LoopbackPeer first, second, stranger;
  ASSERT_TRUE(IsServed(first, "abcd"));
  proxy_->Drain();
  EXPECT_TRUE(IsServed(second, "abcd", kMobile));
  Send(stranger, "\x05 RakNet");
  EXPECT_TRUE(AwaitDropped(DropReason::kDraining, 1));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 2);
}

TEST_P(NetherNetProxyTest, LimitsHoldForPlayersToo) {
  options_.limits.max_sessions_per_ip = 2;
  AddJoin("aaaa");
  AddJoin("bbbb");
  AddJoin("cccc");
  Start();
  LoopbackPeer a, b, c;
  EXPECT_TRUE(IsServed(a, "aaaa"));
  EXPECT_TRUE(IsServed(b, "bbbb"));
  Send(c, CheckOf("cccc"));
  EXPECT_TRUE(AwaitDropped(DropReason::kSessionLimitPerIp, 1));
  // Its join waits still.
  EXPECT_EQ(joins_->stats().joins_waiting, 1);
}

TEST_P(NetherNetProxyTest, ASessionEndsWithTheProxyBeforeTheJoin) {
  AddJoin("abcd");
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServed(client, "abcd"));
  proxy_->Stop();
  EXPECT_EQ(joins_->stats().joins_lingering, 1);
  EXPECT_EQ(joins_->List()[0].session_count, 0);
}

}  // namespace
}  // namespace test
}  // namespace nethernet
}  // namespace udpgate
