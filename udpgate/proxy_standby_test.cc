// A gateway that waits until it may serve.
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/session_restore.h"

namespace udpgate {
namespace test {
namespace {

class ProxyStandbyTest : public ProxyTest {};

INSTANTIATE_TEST_SUITE_P(Threads, ProxyStandbyTest, AllThreadCounts(), NameOf);

TEST_P(ProxyStandbyTest, NobodyIsServedUntilItIsLeft) {
  EXPECT_CALL(*resolver_, Resolve).Times(0);
  Create();
  EXPECT_FALSE(proxy_->is_standby());
  proxy_->SetStandby(true);
  EXPECT_TRUE(proxy_->is_standby());
  ASSERT_TRUE(proxy_->Start().ok());
  LoopbackPeer client;
  Send(client, "x");
  Send(client, "x");
  EXPECT_TRUE(AwaitDropped(DropReason::kStandby, 2));
  ::testing::Mock::VerifyAndClearExpectations(resolver_.get());
  ON_CALL(*resolver_, Resolve).WillByDefault(ResolveWith(backend_.address()));
  proxy_->SetStandby(false);
  EXPECT_FALSE(proxy_->is_standby());
  EXPECT_EQ(Ask(client, "x"), "echo:x");
  EXPECT_EQ(proxy_->GetStats().dropped(DropReason::kStandby), 2u);
}

TEST_P(ProxyStandbyTest, EnteringItEndsAllSessions) {
  Start();
  std::vector<LoopbackPeer> clients(50);
  for (LoopbackPeer& client : clients) EXPECT_EQ(Ask(client, "x"), "echo:x");
  proxy_->SetStandby(true);
  EXPECT_TRUE(AwaitEnded(EndReason::kSuperseded, clients.size()));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
  for (const LoopbackPeer& client : clients) Send(client, "x");
  EXPECT_TRUE(AwaitDropped(DropReason::kStandby, clients.size()));
  proxy_->SetStandby(false);
  for (LoopbackPeer& client : clients) EXPECT_EQ(Ask(client, "x"), "echo:x");
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

TEST_P(ProxyStandbyTest, SessionsThatAreRestoredBeforeItIsLeftAreServed) {
  Create();
  proxy_->SetStandby(true);
  ASSERT_TRUE(proxy_->Start().ok());
  std::vector<LoopbackPeer> clients(50);
  std::vector<RestorableSession> sessions(clients.size());
  for (size_t i = 0; i < clients.size(); ++i) {
    sessions[i].client = clients[i].address();
    sessions[i].local = listen_address();
    sessions[i].backend = backend_.address();
  }
  // Also if it was left and entered again in between.
  proxy_->SetStandby(false);
  proxy_->SetStandby(true);
  const auto restored = proxy_->Restore(sessions);
  ASSERT_TRUE(restored.ok()) << restored.status();
  for (LoopbackPeer& client : clients) EXPECT_EQ(Ask(client, "x"), "echo:x");
  proxy_->SetStandby(false);
  EXPECT_EQ(proxy_->GetStats().sessions_active, clients.size());
  EXPECT_EQ(proxy_->GetStats().ended_total(), 0u);
}

// Documentation addresses (RFC 5737, RFC 3849), which no host has.
TEST(AbsentAddressTest, ListeningSocketsMayBeBoundToIt) {
  for (const char* text : {"192.0.2.7:0", "[2001:db8::7]:0"}) {
    ProxyOptions options = LoopbackOptions();
    options.listen_address = *SocketAddress::Parse(text);
    EXPECT_FALSE(Proxy::Create(options, FixedBackend()).ok()) << text;
    options.binds_absent_addresses = true;
    options.listener_count = 2;
    const auto proxy = Proxy::Create(options, FixedBackend());
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    EXPECT_EQ((*proxy)->listen_addresses()[0].IpToString(),
              options.listen_address.IpToString());
    EXPECT_NE((*proxy)->listen_addresses()[0].port(), 0);
  }
}

TEST(AbsentAddressTest, UpstreamSocketsUseTheAddressesThatAreHere) {
  EchoBackend backend{"echo"};
  ProxyOptions options = LoopbackOptions();
  options.upstream_bind_addresses = {*SocketAddress::Parse("192.0.2.7:0"),
                                     *SocketAddress::Parse("127.0.0.3:0")};
  EXPECT_FALSE(Proxy::Create(options, FixedBackend()).ok());
  options.binds_absent_addresses = true;
  auto proxy = Proxy::Create(options, FixedBackend());
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  LoopbackPeer client;
  RestorableSession session;
  session.client = client.address();
  session.local = (*proxy)->listen_addresses()[0];
  session.backend = backend.address();
  session.relay = *SocketAddress::Parse("192.0.2.7:40000");
  const auto restored = (*proxy)->Restore({session});
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->front().outcome, RestoredSession::Outcome::kOnOtherRelay);
  EXPECT_EQ(restored->front().relay.IpToString(), "127.0.0.3");
  ASSERT_TRUE((*proxy)->Start().ok());
  EXPECT_EQ(*client.Ask(session.local, "x"), "echo:x");
}

}  // namespace
}  // namespace test
}  // namespace udpgate
