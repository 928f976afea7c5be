// Pacing: ends of sessions are spread over time.
#include <cstdint>
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
using ::testing::Contains;
using ::testing::ElementsAre;

// To close a socket takes time: after some ends a worker takes a break, in
// which it only forwards.
class PacingTest : public ShardTest {
 protected:
  static constexpr uint64_t kPerIteration = Endings::kEndsPerIteration;
  static constexpr size_t kClients = 2 * kPerIteration + 1;
  static constexpr int64_t kCloseNanoseconds = 10'000;
  // After as many ends as an iteration may make.
  static constexpr absl::Duration kBreak = absl::Nanoseconds(
      Endings::kBreakFactor * Endings::kEndsPerIteration * kCloseNanoseconds);

  void StartSlow(ProxyOptions options = ProxyOptions()) {
    Start(options);
    for (const LoopbackPeer& client : clients_) Connect(client);
    sys_calls_.before_close = [this] { clock_.Advance(close_time_); };
  }

  void TearDown() override {
    sys_calls_.before_close = nullptr;
    ShardTest::TearDown();
  }

  void DisconnectAll() {
    for (const LoopbackPeer& client : clients_) {
      ShardMessage message;
      message.kind = ShardMessage::Kind::kDisconnectClient;
      message.client = client.address();
      message.came_nanoseconds = clock_.NowNanoseconds();
      worker_->inbox()->PostDisconnect(std::move(message));
    }
  }

  absl::Duration close_time_ = absl::Nanoseconds(kCloseNanoseconds);
  std::vector<LoopbackPeer> clients_{kClients};
};

TEST_F(PacingTest, DisconnectsLeaveTimeForLiveSessions) {
  StartSlow();
  const SocketAddress relay = Connect(client_);
  DisconnectAll();
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), kPerIteration);

  // Datagrams of both directions pass meanwhile.
  clock_.Advance(kBreak - absl::Nanoseconds(1));
  SendAndRead(client_, "ping");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("ping"));
  ASSERT_TRUE(backend_.Send(relay, "pong").ok());
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, kBreak)
      << "disconnects wait, the worker sleeps";
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("pong"));
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), kPerIteration);

  clock_.Advance(absl::Nanoseconds(1));
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 2 * kPerIteration);
  clock_.Advance(kBreak);
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), kClients);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(PacingTest, IdleTimeoutsLeaveTimeForLiveSessions) {
  ProxyOptions options = IdleTimeoutOnly();
  options.limits.session_idle_timeout = absl::Seconds(1);
  StartSlow(options);
  clock_.Advance(absl::Seconds(2));
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kIdle), kPerIteration);
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, kBreak);
  EXPECT_EQ(Stats().ended(EndReason::kIdle), kPerIteration);
  clock_.Advance(kBreak);
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 2 * kPerIteration);
}

TEST_F(PacingTest, UnconfirmedTimeoutsLeaveTimeForLiveSessions) {
  ProxyOptions options;
  options.limits.unconfirmed_timeout = absl::Seconds(1);
  StartSlow(options);
  clock_.Advance(absl::Seconds(2));
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), kPerIteration);
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), kPerIteration);
  clock_.Advance(kBreak);
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 2 * kPerIteration);
}

// Whatever else the iteration did.
TEST_F(PacingTest, TheBreakDependsOnTheEndsAlone) {
  StartSlow();
  sys_calls_.after_receive = [this](msghdr*) {
    clock_.Advance(absl::Milliseconds(1));
  };
  const SocketAddress relay = Connect(client_);
  DisconnectAll();
  ASSERT_TRUE(backend_.Send(relay, "pong").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("pong"));
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, kBreak);
}

// The thread had no processor for a while: that is no reason for a long break.
TEST_F(PacingTest, TheBreakHasAnUpperBound) {
  StartSlow();
  close_time_ = absl::Seconds(1);
  DisconnectAll();
  Poll();
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait,
            absl::Nanoseconds(Endings::kBreakNanosecondsMax));
}

// Nobody waits longer than allowed because a worker rests.
TEST_F(PacingTest, ResolutionsTimeOutDuringABreak) {
  ProxyOptions options;
  options.limits.resolve_timeout = absl::Milliseconds(1);
  StartSlow(options);
  SendAndRead(client_, "hello");
  // The ends take less than the timeout, the break lasts beyond it.
  close_time_ = absl::Microseconds(200);
  const absl::Duration left =
      options.limits.resolve_timeout - kPerIteration * close_time_;
  DisconnectAll();
  Poll();
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, left);
  clock_.Advance(left);
  Poll();
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), kPerIteration);
}

// Nor is a newcomer's answer handled late.
TEST_F(PacingTest, ResultsAreHandledDuringABreak) {
  StartSlow();
  SendAndRead(client_, "hello");
  DisconnectAll();
  Poll();
  ResolveTo(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), Contains("hello"));
  EXPECT_EQ(Stats().sessions_active, clients_.size() - kPerIteration + 1);
  // A new client does not cause more ends.
  LoopbackPeer newcomer;
  SendAndRead(newcomer, "hello");
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), kPerIteration);
}

// A new client waits for them.
TEST_F(PacingTest, EvictionsCauseNoBreak) {
  ProxyOptions options = IdleTimeoutOnly();
  options.limits.max_sessions = static_cast<int64_t>(clients_.size());
  StartSlow(options);
  for (int i = 0; i < 2; ++i) {
    LoopbackPeer newcomer;
    Connect(newcomer);
  }
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 2u);
  EXPECT_EQ(Stats().sessions_active, clients_.size());
}

// The worker would leave the disconnects alone, too, so the reader need not
// queue.
TEST_F(PacingTest, AReaderForwardsWhileDisconnectsWait) {
  StartSlow();
  Connect(client_);
  DisconnectAll();
  Poll();
  ASSERT_TRUE(worker_->inbox()->HasDisconnects());
  SendAndRead(client_, "ping");
  EXPECT_EQ(worker_->inbox()->datagrams_waiting(), 0);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("ping"));
}

// The disconnect of a pending client waits behind others; the result of its
// resolution comes after it.
class PacingPendingTest
    : public PacingTest,
      public ::testing::WithParamInterface<ShardMessage::Kind> {};

INSTANTIATE_TEST_SUITE_P(
    Kinds, PacingPendingTest,
    ::testing::Values(ShardMessage::Kind::kDisconnectClient,
                      ShardMessage::Kind::kEndClientIp,
                      ShardMessage::Kind::kEndBackend));

TEST_P(PacingPendingTest, AWaitingDisconnectMakesALaterResultStale) {
  StartSlow();
  LoopbackPeer old_backend;
  LoopbackPeer pending;
  SendAndRead(pending, "hello");
  clock_.Advance(absl::Milliseconds(1));
  DisconnectAll();
  ShardMessage message;
  message.kind = GetParam();
  message.came_nanoseconds = clock_.NowNanoseconds();
  if (message.kind == ShardMessage::Kind::kDisconnectClient) {
    message.client = pending.address();
  } else if (message.kind == ShardMessage::Kind::kEndClientIp) {
    message.address = pending.address().WithPort(0);
  } else {
    message.address = old_backend.address();
  }
  worker_->inbox()->PostDisconnect(std::move(message));
  Poll();
  ASSERT_EQ(Stats().ended(EndReason::kDisconnected), kPerIteration);
  ResolveTo(old_backend.address());
  EXPECT_THAT(ReceiveAll(&old_backend), ::testing::IsEmpty());

  // The next resolution counts, and its session stays.
  ASSERT_EQ(resolver_->pending.size(), 1u);
  ResolveTo(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), Contains("hello"));
  for (int i = 0; i < 40; ++i) {
    clock_.Advance(absl::Milliseconds(1));
    Poll();
  }
  EXPECT_FALSE(worker_->inbox()->HasDisconnects());
  SendAndRead(pending, "again");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("again"));
  EXPECT_EQ(Stats().sessions_created, clients_.size() + 1);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
