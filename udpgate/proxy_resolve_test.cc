#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

using ProxyResolveTest = ProxyTest;

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyResolveTest, AllThreadCounts(),
                         NameOf);

struct Failure {
  absl::Status status;
  DropReason drop_reason;
  EndReason end_reason;
};

TEST_P(ProxyResolveTest, DroppedResolutionTimesOut) {
  options_.limits.resolve_timeout = absl::Milliseconds(20);
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce([](const ResolveRequest& request,
                   BackendResolver::Callback /*done*/) {
        EXPECT_EQ(request.timeout, absl::Milliseconds(20));
      })
      .WillOnce(ResolveWith(backend_.address()));
  Start();
  LoopbackPeer client;
  Send(client, "lost");
  EXPECT_TRUE(AwaitDropped(DropReason::kResolveTimedOut, 1));
  EXPECT_TRUE(AwaitEnded(EndReason::kResolveTimedOut, 1));
  EXPECT_EQ(proxy_->GetStats().resolves_timed_out, 1u);
  EXPECT_EQ(Ask(client, "retry"), "echo:retry");
}

TEST_P(ProxyResolveTest, StopDoesNotWaitForTheResolver) {
  EXPECT_CALL(*resolver_, Resolve).WillOnce(HoldResolveIn(&held_));
  Start();
  LoopbackPeer client;
  Send(client, "hello");
  absl::StatusOr<HeldResolve> resolve = held_.Take();
  ASSERT_TRUE(resolve.ok()) << resolve.status();
  const absl::Time begin = absl::Now();
  proxy_->Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kStopped), 1u);
  EXPECT_EQ(stats.dropped(DropReason::kSessionEnded), 1u);
  EXPECT_TRUE(IsAccounted(stats));
  resolve->done(ResolveResult{backend_.address(), "late"});
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
}

TEST_P(ProxyResolveTest, ResultMayOutliveTheProxy) {
  EXPECT_CALL(*resolver_, Resolve)
      .Times(2)
      .WillRepeatedly(HoldResolveIn(&held_));
  Start();
  LoopbackPeer clients[2];
  for (LoopbackPeer& client : clients) Send(client, "hello");
  absl::StatusOr<HeldResolve> answered = held_.Take();
  absl::StatusOr<HeldResolve> dropped = held_.Take();
  ASSERT_TRUE(answered.ok() && dropped.ok());
  proxy_.reset();
  answered->done(ResolveResult{backend_.address(), "late"});
  dropped->done = nullptr;
}

TEST_P(ProxyResolveTest, ResultsMayRaceWithStop) {
  ON_CALL(*resolver_, Resolve).WillByDefault(HoldResolveIn(&held_));
  for (int round = 0; round < 10; ++round) {
    Start();
    LoopbackPeer client;
    Send(client, "hello");
    absl::StatusOr<HeldResolve> resolve = held_.Take();
    ASSERT_TRUE(resolve.ok()) << resolve.status();
    std::thread resolver_thread([&] {
      resolve->done(ResolveResult{backend_.address(), "racing"});
    });
    proxy_->Stop();
    EXPECT_TRUE(IsAccounted(proxy_->GetStats()));
    proxy_.reset();
    resolver_thread.join();
  }
}

TEST_P(ProxyResolveTest, ProxyReleasesTheResolver) {
  Start();
  std::weak_ptr<BackendResolver> alive = resolver_;
  dependencies_ = {};
  resolver_.reset();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  proxy_.reset();
  EXPECT_TRUE(alive.expired());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
