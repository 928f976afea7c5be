// The silence of backends towards players with several sessions.
#include <memory>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/endings.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;

constexpr absl::Duration kTimeout = absl::Seconds(10);
// More than two sweeps more.
constexpr absl::Duration kAtLatest = absl::Seconds(13);

class EndingsTagsTest : public ShardTest {
 protected:
  void StartWithTimeout() {
    ProxyOptions options = IdleTimeoutOnly();
    options.limits.backend_silent_timeout = kTimeout;
    options.limits.session_idle_timeout = absl::Hours(1);
    Start(options);
  }
  // The address of its upstream socket.
  SocketAddress ConnectTagged(const LoopbackPeer& client) {
    SendAndRead(client, "hello");
    ResolveResult result{backend_.address(), "lobby"};
    result.is_client_proven = true;
    result.tag = tag_;
    FinishResolve(std::move(result));
    const auto first = backend_.TryReceive();
    EXPECT_TRUE(first.ok()) << first.status();
    return first.ok() ? first->from : SocketAddress();
  }
  // Both clients send, and the backend replies to the first or to none.
  void Exchange(absl::Duration time, const SocketAddress& replies_to = {}) {
    for (absl::Duration passed; passed < time; passed += absl::Seconds(1)) {
      clock_.Advance(absl::Seconds(1));
      SendAndRead(client_, "check");
      SendAndRead(spare_, "check");
      if (replies_to.is_valid()) {
        ASSERT_TRUE(backend_.Send(replies_to, "reply").ok());
      }
      Poll();
      resolver_->pending.clear();
    }
  }

  LoopbackPeer spare_;
  std::shared_ptr<RecordingTag> tag_ = std::make_shared<RecordingTag>("7");
};

TEST_F(EndingsTagsTest, ASpareAddressThatTheBackendIgnoresStays) {
  StartWithTimeout();
  const SocketAddress relay = ConnectTagged(client_);
  ConnectTagged(spare_);
  Exchange(5 * kTimeout, relay);
  EXPECT_EQ(Stats().sessions_active, 2u);
  EXPECT_EQ(Stats().ended_total(), 0u);
}

TEST_F(EndingsTagsTest, ATagWithoutAnyReplyEndsAsUsual) {
  StartWithTimeout();
  ConnectTagged(client_);
  ConnectTagged(spare_);
  Exchange(kAtLatest);
  EXPECT_EQ(Stats().ended(EndReason::kBackendSilent), 2u);
}

TEST_F(EndingsTagsTest, OnceTheBackendIsSilentToAllAllEnd) {
  StartWithTimeout();
  const SocketAddress relay = ConnectTagged(client_);
  ConnectTagged(spare_);
  Exchange(2 * kTimeout, relay);
  ASSERT_EQ(Stats().sessions_active, 2u);
  Exchange(kTimeout - absl::Seconds(2));
  EXPECT_EQ(Stats().sessions_active, 2u);
  Exchange(kAtLatest);
  EXPECT_EQ(Stats().ended(EndReason::kBackendSilent), 2u);
}

TEST_F(EndingsTagsTest, RepliesToAnotherPlayerDoNotCount) {
  StartWithTimeout();
  const SocketAddress relay = ConnectTagged(client_);
  tag_ = std::make_shared<RecordingTag>("8");
  ConnectTagged(spare_);
  Exchange(kAtLatest, relay);
  EXPECT_EQ(Stats().ended(EndReason::kBackendSilent), 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(EndingsTagsTest, SessionsWithoutATagDoNotCount) {
  StartWithTimeout();
  tag_ = nullptr;
  const SocketAddress relay = ConnectTagged(client_);
  ConnectTagged(spare_);
  Exchange(kAtLatest, relay);
  EXPECT_EQ(Stats().ended(EndReason::kBackendSilent), 1u);
}

TEST_F(EndingsTagsTest, RepliesOnTheFastPathCount) {
  offload_ = std::make_shared<test::FakeFlowOffload>();
  StartWithTimeout();
  ConnectTagged(client_);
  ConnectTagged(spare_);
  ASSERT_EQ(offload_->flows().size(), 2u);
  for (uint64_t i = 1; i <= 50; ++i) {
    clock_.Advance(absl::Seconds(1));
    const int64_t now_nanoseconds = clock_.NowNanoseconds();
    offload_->SetActivity(0, FlowDirection::kFromClient,
                          {i, 100 * i, now_nanoseconds - 1});
    offload_->SetActivity(0, FlowDirection::kFromBackend,
                          {i, 100 * i, now_nanoseconds});
    SendAndRead(spare_, "check");
    Poll();
  }
  EXPECT_EQ(Stats().sessions_active, 2u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
