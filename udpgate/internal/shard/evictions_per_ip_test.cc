// MAX_SESSIONS_PER_IP: a new client replaces a silent session of its address.
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/evictions.h"
#include "udpgate/internal/shard/shard_fixture.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;

class EvictionsPerIpTest : public ShardTest {
 protected:
  static constexpr absl::Duration kSilent =
      absl::Nanoseconds(Evictions::kSilentNanoseconds);
  static constexpr absl::Duration kUnconfirmedSilent =
      absl::Nanoseconds(Evictions::kUnconfirmedSilentNanoseconds);

  void StartWithLimit(int64_t sessions_per_ip_max) {
    ProxyOptions options = IdleTimeoutOnly();
    options.limits.max_sessions_per_ip = sessions_per_ip_max;
    options.limits.session_idle_timeout = absl::Hours(1);
    Start(options);
  }
  bool IsLive(const LoopbackPeer& client) {
    bool is_live = false;
    for (const SessionInfo& session : ListSessions()) {
      is_live = is_live || session.client == client.address();
    }
    return is_live;
  }
};

TEST_F(EvictionsPerIpTest, ReplacesTheLongestSilentSession) {
  StartWithLimit(3);
  LoopbackPeer first, second, third, back;
  Confirm(&first);
  Confirm(&second);
  Confirm(&third);
  SendAndRead(first, "plays on");
  clock_.Advance(kSilent);
  SendAndRead(first, "plays on");
  ReceiveAll(&backend_);
  Connect(back);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 1u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
  EXPECT_FALSE(IsLive(second));
  EXPECT_TRUE(IsLive(first));
  EXPECT_TRUE(IsLive(third));
  EXPECT_TRUE(IsLive(back));
}

TEST_F(EvictionsPerIpTest, ReplacesAnUnconfirmedSessionFirst) {
  StartWithLimit(2);
  LoopbackPeer confirmed, unconfirmed, back;
  Confirm(&confirmed);
  clock_.Advance(6 * kSilent);
  Connect(unconfirmed);
  clock_.Advance(kUnconfirmedSilent);
  Connect(back);
  EXPECT_FALSE(IsLive(unconfirmed));
  EXPECT_TRUE(IsLive(confirmed));
}

// A forged datagram must not end the session of a client that plays.
TEST_F(EvictionsPerIpTest, NeverReplacesASessionWhoseClientSends) {
  StartWithLimit(1);
  Confirm(&client_);
  LoopbackPeer forger;
  for (int i = 0; i < 100; ++i) {
    clock_.Advance(kSilent - absl::Milliseconds(1));
    SendAndRead(forger, "mine");
    SendAndRead(client_, "plays");
  }
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimitPerIp), 100u);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 0u);
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
  // Datagrams of the backend do not keep the session.
  const auto last = backend_.TryReceive();
  clock_.Advance(kSilent);
  ASSERT_TRUE(backend_.Send(last->from, "push").ok());
  Poll();
  ReceiveAll(&backend_);
  Connect(forger);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 1u);
}

TEST_F(EvictionsPerIpTest, ReplacesAnUnconfirmedSessionSooner) {
  StartWithLimit(1);
  Connect(client_);
  LoopbackPeer back;
  clock_.Advance(kUnconfirmedSilent - absl::Milliseconds(1));
  SendAndRead(back, "too early");
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimitPerIp), 1u);
  clock_.Advance(absl::Nanoseconds(Admission::kLookPeriodNanoseconds));
  Connect(back);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 1u);
}

// What the kernel has relayed counts.
TEST_F(EvictionsPerIpTest, DatagramsOnTheFastPathCountAsSent) {
  offload_ = std::make_shared<test::FakeFlowOffload>();
  StartWithLimit(1);
  Confirm(&client_);
  ASSERT_EQ(offload_->flows().size(), 1u);
  clock_.Advance(2 * kSilent);
  DirectionActivity activity;
  activity.datagrams = 1;
  activity.last_relayed_nanoseconds = clock_.NowNanoseconds();
  offload_->SetActivity(0, FlowDirection::kFromClient, activity);
  LoopbackPeer forger;
  SendAndRead(forger, "mine");
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimitPerIp), 1u);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 0u);
}

// The limit was set by a reload.
TEST_F(EvictionsPerIpTest, FindsSessionsFromBeforeTheLimitWasSet) {
  StartWithLimit(0);
  LoopbackPeer other, back;
  Connect(client_);
  Connect(other);
  clock_.Advance(kUnconfirmedSilent + absl::Seconds(1));
  SendAndRead(other, "plays");
  ReceiveAll(&backend_);
  {
    MutexLock lock(&context_->limits_mutex);
    context_->limits.max_sessions_per_ip = 2;
    context_->admission.SetLimits(context_->limits, 1000);
  }
  context_->limits_version.fetch_add(1);
  Poll();
  Connect(back);
  EXPECT_FALSE(IsLive(client_));
  EXPECT_TRUE(IsLive(other));
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
