#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "testing/mock_disconnect_source.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace test {
namespace {

using ProxyLifecycleTest = ProxyTest;

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyLifecycleTest, AllThreadCounts(),
                         NameOf);

TEST_P(ProxyLifecycleTest, StartsOnlyOnce) {
  Start();
  EXPECT_EQ(proxy_->Start().code(), absl::StatusCode::kFailedPrecondition);
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
}

TEST_P(ProxyLifecycleTest, DoesNotStartAfterStop) {
  Create();
  proxy_->Stop();
  EXPECT_EQ(proxy_->Start().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_P(ProxyLifecycleTest, StartFailsIfTheDisconnectSourceFails) {
  EXPECT_CALL(*disconnects_, Start)
      .WillOnce(FailToStart(absl::PermissionDeniedError("no bus")));
  Create();
  const absl::Status status = proxy_->Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(absl::StrContains(status.message(), "no bus")) << status;
}

TEST_P(ProxyLifecycleTest, StopEndsSessionsAndKeepsStatistics) {
  EXPECT_CALL(*disconnects_, Stop).Times(::testing::AtLeast(1));
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  proxy_->Stop();
  proxy_->Stop();
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kStopped), 1u);
  EXPECT_EQ(stats.sessions_active, 0u);
  EXPECT_EQ(stats.datagrams_held, 0u);
  EXPECT_EQ(stats.relay_ports_in_use, 0u);
  EXPECT_EQ(stats.client_datagrams_forwarded, 1u);
  EXPECT_TRUE(IsAccounted(stats));
  EXPECT_TRUE(Sessions().empty());
}

TEST_P(ProxyLifecycleTest, StopMayBeCalledFromSeveralThreads) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { proxy_->Stop(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(proxy_->GetStats().ended(EndReason::kStopped), 1u);
}

TEST_P(ProxyLifecycleTest, IsAliveBetweenStartAndStop) {
  Create();
  EXPECT_FALSE(proxy_->IsAlive(absl::ZeroDuration()));
  ASSERT_TRUE(proxy_->Start().ok());
  // First idle, then with traffic.
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(proxy_->IsAlive(kAwaitTimeout));
  LoopbackPeer client;
  for (int i = 0; i < 20; ++i) {
    Send(client, "more");
    EXPECT_TRUE(proxy_->IsAlive(kAwaitTimeout));
  }
  proxy_->Stop();
  EXPECT_FALSE(proxy_->IsAlive(kAwaitTimeout));
}

TEST_P(ProxyLifecycleTest, IsNotAliveWhileAWorkerHangs) {
  std::atomic<bool> hangs{false};
  std::promise<void> may_go_on;
  EXPECT_CALL(*resolver_, Resolve).WillOnce([&](auto&&...) {
    hangs = true;
    may_go_on.get_future().wait();
  });
  Start();
  LoopbackPeer client;
  Send(client, "hello");
  ASSERT_TRUE(AwaitTrue([&] { return hangs.load(); }));
  EXPECT_FALSE(proxy_->IsAlive(absl::Milliseconds(50)));
  may_go_on.set_value();
  EXPECT_TRUE(proxy_->IsAlive(kAwaitTimeout));
}

TEST_P(ProxyLifecycleTest, DrainRefusesNewClientsAndKeepsSessions) {
  Start();
  LoopbackPeer live, late;
  EXPECT_EQ(Ask(live, "one"), "echo:one");
  proxy_->Drain();
  Send(late, "refused");
  EXPECT_TRUE(AwaitDropped(DropReason::kDraining, 1));
  EXPECT_EQ(Ask(live, "two"), "echo:two");
  EXPECT_EQ(proxy_->GetStats().sessions_active, 1u);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(live.address())), 1);
  Send(live, "refused, too");
  EXPECT_TRUE(AwaitDropped(DropReason::kDraining, 2));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
