#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

using ProxyDisconnectTest = ProxyTest;

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyDisconnectTest, AllThreadCounts(),
                         NameOf);

TEST_P(ProxyDisconnectTest, ByClientReturnsTheNumberOfEndedSessions) {
  EchoBackend second("second");
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(backend_.address()))
      .WillOnce(ResolveWith(second.address()));
  Start();
  LoopbackPeer client, stranger;
  const auto target = DisconnectTarget::ForClient(client.address());
  EXPECT_EQ(Disconnect(target), 0);
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(stranger.address())), 0);
  EXPECT_EQ(Disconnect(target), 1);
  EXPECT_EQ(Disconnect(target), 0);
  EXPECT_EQ(Ask(client, "two"), "second:two");
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kDisconnected), 1u);
  EXPECT_EQ(stats.disconnects_received, 4u);
  EXPECT_EQ(stats.disconnects_unmatched, 3u);
  EXPECT_EQ(stats.disconnects_matched, 1u);
}

TEST_P(ProxyDisconnectTest, BySourcePortReturnsTheNumberOfEndedSessions) {
  Start();
  LoopbackPeer client, other;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  const uint16_t port = backend_.sources()[0].port();
  EXPECT_EQ(Ask(other, "other"), "echo:other");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(port)), 1);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(port)), 0);
  const std::vector<SessionInfo> left = Sessions();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].client, other.address());
}

// The sessions end in many event-loop iterations; new sessions are not
// affected.
TEST_P(ProxyDisconnectTest, NewClientsAreServedWhileSessionsOfABackendEnd) {
  constexpr int kClients = 300;
  constexpr int kNewClients = 20;
  std::atomic<int> resolves{0};
  EXPECT_CALL(*resolver_, Resolve)
      .WillRepeatedly(
          [&](const ResolveRequest& request, BackendResolver::Callback done) {
            ++resolves;
            ResolveWith(backend_.address())(request, std::move(done));
          });
  Start();
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "one"), "echo:one");
  }
  std::atomic<int64_t> ended_count{-1};
  proxy_->Disconnect(DisconnectTarget::ForBackend(backend_.address()),
                     [&](int64_t ended) { ended_count = ended; });
  std::vector<LoopbackPeer> new_clients(kNewClients);
  for (LoopbackPeer& new_client : new_clients) {
    EXPECT_EQ(Ask(new_client, "two"), "echo:two");
  }
  EXPECT_TRUE(AwaitTrue([&] { return ended_count != -1; }));
  EXPECT_EQ(ended_count, kClients);
  EXPECT_LE(resolves, kClients + 2 * kNewClients);
  EXPECT_EQ(proxy_->GetStats().sessions_active, uint64_t{kNewClients});
}

TEST_P(ProxyDisconnectTest, ByBackendLabelEndsAllMatchingSessions) {
  std::atomic<bool> is_moved{false};
  EXPECT_CALL(*resolver_, Resolve)
      .WillRepeatedly(
          [&](const ResolveRequest&, BackendResolver::Callback done) {
            done(ResolveResult{backend_.address(),
                               is_moved ? "lobby-2:1" : "lobby-1:1"});
          });
  Start();
  std::vector<LoopbackPeer> clients(20);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "one"), "echo:one");
  }
  is_moved = true;
  LoopbackPeer other;
  EXPECT_EQ(Ask(other, "one"), "echo:one");
  EXPECT_EQ(Disconnect(*DisconnectTarget::Parse("backend lobby-3:1")), 0);
  EXPECT_EQ(Disconnect(*DisconnectTarget::Parse("backend LOBBY-1:1")), 20);
  const std::vector<SessionInfo> left = Sessions();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].client, other.address());
}

TEST_P(ProxyDisconnectTest, ByClientIpOrBackendEndsAllMatchingSessions) {
  EchoBackend second("second");
  constexpr int kClients = 40;
  std::atomic<bool> is_moved{false};
  EXPECT_CALL(*resolver_, Resolve)
      .WillRepeatedly(
          [&](const ResolveRequest& request, BackendResolver::Callback done) {
            ResolveWith(is_moved ? second.address() : backend_.address())(
                request, std::move(done));
          });
  Start();
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "one"), "echo:one");
  }
  EXPECT_EQ(Disconnect(DisconnectTarget::ForBackend(second.address())), 0);
  is_moved = true;
  EXPECT_EQ(Disconnect(DisconnectTarget::ForBackend(backend_.address())),
            kClients);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "two"), "second:two");
  }
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClientIp(
                *SocketAddress::FromIpAndPort("127.0.0.2", 0))),
            0);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClientIp(clients[0].address())),
            kClients);
  EXPECT_EQ(Ask(clients[0], "three"), "second:three");
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kDisconnected), 2u * kClients);
  EXPECT_EQ(stats.disconnects_received, 4u);
  EXPECT_EQ(stats.disconnects_unmatched, 2u);
  EXPECT_EQ(stats.disconnects_matched, 2u);
}

TEST_P(ProxyDisconnectTest, BySourceAddressComparesIpAndPort) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  const SocketAddress relay = backend_.sources()[0];
  const SocketAddress elsewhere =
      *SocketAddress::FromIpAndPort("127.0.0.99", relay.port());
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelay(elsewhere)), 0);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelay(relay)), 1);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelay(relay)), 0);
  EXPECT_EQ(proxy_->GetStats().disconnects_unmatched, 2u);
}

// One port with two source addresses: the port alone matches two sessions.
TEST_P(ProxyDisconnectTest, AmbiguousSourcePortEndsNoSession) {
  const SocketAddress spare = LoopbackPeer().address();
  options_.relay_ports = {spare.port()};
  EchoBackend ipv6_backend("v6", SocketAddress::Ipv6Loopback(0));
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(backend_.address()))
      .WillOnce(ResolveWith(ipv6_backend.address()));
  Start();
  LoopbackPeer first, second;
  EXPECT_EQ(Ask(first, "one"), "echo:one");
  EXPECT_EQ(Ask(second, "two"), "v6:two");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(spare.port())), 0);
  EXPECT_EQ(proxy_->GetStats().disconnects_ambiguous, 1u);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 2u);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(first.address())), 1);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(spare.port())), 1);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
}

TEST_P(ProxyDisconnectTest, CallbackIsOptional) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  proxy_->Disconnect(DisconnectTarget::ForClient(client.address()));
  EXPECT_TRUE(AwaitEnded(EndReason::kDisconnected, 1));
}

TEST_P(ProxyDisconnectTest, CallbackIsDestroyedAfterStop) {
  Start();
  proxy_->Stop();
  auto token = std::make_shared<int>(0);
  std::weak_ptr<int> alive = token;
  proxy_->Disconnect(DisconnectTarget::ForRelayPort(4000),
                     [token = std::move(token)](int64_t) { ADD_FAILURE(); });
  proxy_.reset();
  EXPECT_TRUE(alive.expired());
}

TEST_P(ProxyDisconnectTest, EventsOfTheSourceAreCounted) {
  Start();
  ASSERT_TRUE(disconnect_handler_);
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  disconnect_handler_(absl::InvalidArgumentError("garbage"));
  disconnect_handler_(DisconnectTarget::ForRelayPort(1));
  disconnect_handler_(DisconnectTarget::ForClient(client.address()));
  EXPECT_TRUE(AwaitEnded(EndReason::kDisconnected, 1));
  EXPECT_TRUE(AwaitTrue([&] {
    const ProxyStats stats = proxy_->GetStats();
    return stats.disconnects_received == 3 && stats.disconnects_invalid == 1 &&
           stats.disconnects_unmatched == 1;
  }));
}

TEST_P(ProxyDisconnectTest, SourceIsOptional) {
  dependencies_.disconnects = nullptr;
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(client.address())), 1);
}

TEST_P(ProxyDisconnectTest, ALateEventEndsWhatIsContinuedFromBeforeIt) {
  ON_CALL(*resolver_, Resolve)
      .WillByDefault([this](const ResolveRequest& request,
                            BackendResolver::Callback done) {
        ResolveResult result{backend_.address(), "lobby"};
        if (request.first_datagram.size() == 3) result.age = absl::Hours(1);
        done(std::move(result));
      });
  Start();
  LoopbackPeer continued;
  LoopbackPeer fresh;
  Ask(continued, "old");
  Ask(fresh, "fresh");
  DisconnectTarget target = DisconnectTarget::ForBackend(backend_.address());
  target.set_age(absl::Minutes(1));
  disconnect_handler_(target);
  EXPECT_TRUE(AwaitEnded(EndReason::kDisconnected, 1));
  ASSERT_EQ(Sessions().size(), 1u);
  EXPECT_EQ(Sessions()[0].client, fresh.address());
  Ask(continued, "old");
  target = DisconnectTarget::ForClient(continued.address());
  target.set_age(absl::Hours(2));
  disconnect_handler_(target);
  target.set_age(absl::Minutes(1));
  disconnect_handler_(target);
  EXPECT_TRUE(AwaitEnded(EndReason::kDisconnected, 2));
  EXPECT_EQ(proxy_->GetStats().disconnects_unmatched, 1u);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
