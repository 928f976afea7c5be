// Confirmed sessions, and the anti-amplification limit of others.
#include "udpgate/internal/shard/address_validation.h"

#include <errno.h>

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;

class AddressValidationTest : public ShardTest {
 protected:
  static constexpr absl::Duration kProofTime =
      absl::Nanoseconds(AddressValidation::kProofNanoseconds);
  // Two replies of so many bytes fit into the limit, three do not.
  static constexpr size_t kReplyBytes =
      AddressValidation::kUnconfirmedReplyBytes * 2 / 5;

  // How many of `count` replies of `bytes` reach the client.
  size_t Replies(const SocketAddress& relay, int count,
                 size_t bytes = kReplyBytes) {
    for (int i = 0; i < count; ++i) {
      EXPECT_TRUE(backend_.Send(relay, std::string(bytes, 'r')).ok());
    }
    return Received();
  }
  size_t Received() {
    Poll();
    Poll();
    return ReceiveAll(&client_).size();
  }
};

TEST_F(AddressValidationTest, ConfirmsAClientThatAnswersRepliesForLongEnough) {
  Start();
  const SocketAddress relay = Connect(client_);
  // Datagrams without replies between them are no proof.
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(kProofTime);
    SendAndRead(client_, "x");
  }
  EXPECT_EQ(Stats().sessions_confirmed, 0u);
  for (int i = 0; i < Lifecycle::kProofCount + 2; ++i) {
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Poll();
    SendAndRead(client_, "x");
    EXPECT_EQ(Stats().sessions_confirmed, 0u) << "too soon";
  }
  clock_.Advance(kProofTime);
  ASSERT_TRUE(backend_.Send(relay, "x").ok());
  Poll();
  SendAndRead(client_, "x");
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

// The client cannot have seen such a reply.
TEST_F(AddressValidationTest, DroppedRepliesDoNotConfirm) {
  ProxyOptions options;
  options.limits.paused_sessions_max = 0;
  options.limits.session_idle_timeout = absl::Hours(1);
  options.limits.backend_silent_timeout = absl::ZeroDuration();
  options.limits.client_silent_timeout = absl::ZeroDuration();
  Start(options);
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(backend_.Send(relay, std::string(60000, 'r')).ok());
    Poll();
    clock_.Advance(absl::Seconds(1));
    SendAndRead(client_, "x");
  }
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedReplyLimit), 10u);
  EXPECT_EQ(Stats().sessions_confirmed, 0u);
  // Yet the backend knows the port, so it is put into quarantine.
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(context_->relay_ports.quarantined(clock_.NowNanoseconds()), 1);
}

TEST_F(AddressValidationTest, LimitsRepliesByWhatTheClientHasSent) {
  constexpr size_t kClientBytes = 300;
  ProxyOptions options;
  // Three replies of so much.
  options.limits.unconfirmed_reply_factor = 10;
  options.limits.paused_sessions_max = 0;
  Start(options);
  SendAndRead(client_, std::string(kClientBytes, 'q'));
  ResolveTo(backend_.address());
  const SocketAddress relay = backend_.TryReceive()->from;
  EXPECT_EQ(Replies(relay, 5, kClientBytes * 10 / 3), 3u);
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedReplyLimit), 2u);
  Confirm(&client_);
  EXPECT_EQ(Replies(relay, 20), 20u);
}

// A program that downloads with its first datagram (kcptun): no reply is lost.
TEST_F(AddressValidationTest, PausesASessionBeyondTheLimit) {
  Start();
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(Replies(relay, 100), 2u);
  EXPECT_EQ(Stats().sessions_paused, 1u);
  EXPECT_EQ(Stats().reply_pauses, 1u);
  SendAndRead(client_, "x");
  EXPECT_EQ(Received(), 98u);
  EXPECT_EQ(Stats().sessions_paused, 0u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

// Round trips count, not time: a forger can wait, too.
TEST_F(AddressValidationTest, LiftsTheLimitAfterAllSteps) {
  ProxyOptions options;
  options.limits.paused_sessions_max = 0;
  Start(options);
  const SocketAddress relay = Connect(client_);
  constexpr size_t kBytes = 60000;
  uint64_t passed_bytes = 0;
  const auto pass = [&] {
    EXPECT_EQ(Replies(relay, 1), 1u);
    SendAndRead(client_, "x");
  };
  pass();
  for (int i = 0; i < 300; ++i)
    passed_bytes += Replies(relay, 1, kBytes) * kBytes;
  EXPECT_LE(passed_bytes, AddressValidation::kAnsweringReplyBytes)
      << "after one answer";
  EXPECT_GE(passed_bytes, AddressValidation::kAnsweringReplyBytes - 2 * kBytes);
  SendAndRead(client_, "x");
  passed_bytes = 0;
  EXPECT_EQ(Replies(relay, 1), 1u);
  SendAndRead(client_, "x");
  for (int i = 0; i < 300; ++i)
    passed_bytes += Replies(relay, 1, kBytes) * kBytes;
  EXPECT_EQ(passed_bytes, 300 * kBytes) << "after all";
  EXPECT_EQ(Stats().sessions_confirmed, 0u) << "which takes its time";
}

TEST_F(AddressValidationTest, PausedSessionGetsOneReplyPerSweep) {
  Start();
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(
      Replies(relay, 50, AddressValidation::kUnconfirmedReplyBytes * 3 / 4),
      1u);
  size_t passed = 0;
  for (int i = 0; i < 28; ++i) {
    clock_.Advance(absl::Seconds(1));
    passed += Received();
  }
  EXPECT_GE(passed, 5u);
  EXPECT_LE(passed, 9u) << "some four seconds each";
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

// Also a reply that is larger than all of the limit.
TEST_F(AddressValidationTest, ForwardsAReplyLargerThanTheLimitInTheEnd) {
  Start();
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(Replies(relay, 1, 60000), 0u);
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(absl::Seconds(1));
    Poll();
  }
  EXPECT_EQ(ReceiveAll(&client_).size(), 1u);
}

// Replies that wait take memory of the kernel.
TEST_F(AddressValidationTest, LimitsPausedSessions) {
  ProxyOptions options;
  options.limits.paused_sessions_max = 1;
  Start(options);
  const SocketAddress relay = Connect(client_);
  LoopbackPeer other;
  const SocketAddress other_relay = Connect(other);
  EXPECT_EQ(Replies(relay, 5), 2u);
  EXPECT_EQ(Replies(other_relay, 5), 0u);
  EXPECT_EQ(ReceiveAll(&other).size(), 2u);
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedReplyLimit), 3u);
  // The end of a session makes room.
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(Stats().sessions_paused, 0u);
  EXPECT_EQ(Replies(other_relay, 5), 0u);
  EXPECT_EQ(Stats().sessions_paused, 1u);
}

// An error on a socket that is not watched must not keep the worker awake.
TEST_F(AddressValidationTest, PausedSessionNoticesRefusals) {
  Start();
  auto backend = std::make_unique<LoopbackPeer>();
  SendAndRead(client_, "hello");
  ResolveTo(backend->address());
  const SocketAddress relay = backend->TryReceive()->from;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(backend->Send(relay, std::string(kReplyBytes, 'r')).ok());
  }
  Poll();
  Poll();
  ASSERT_EQ(Stats().sessions_paused, 1u);
  backend.reset();
  sys_calls_.FailAll(Call::kEpollControl, EIO);  // it stays paused
  SendAndRead(client_, "x");
  Poll();
  EXPECT_EQ(Stats().backend_refusals, 1u);
  for (int i = 0; i < 10; ++i) worker_->PollOnce(INT64_MAX);
  EXPECT_GT(sys_calls_.last_wait, absl::Milliseconds(100));
  sys_calls_.Reset();
}

// Replies take all memory of the socket, so the error queue has no room.
TEST_F(AddressValidationTest, PausedSessionWithAFullBufferNoticesRefusals) {
  ProxyOptions options;
  options.receive_buffer_bytes = 65536;
  Start(options);
  auto backend = std::make_unique<LoopbackPeer>();
  SendAndRead(client_, "hello");
  ResolveTo(backend->address());
  const SocketAddress relay = backend->TryReceive()->from;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(backend->Send(relay, std::string(kReplyBytes, 'r')).ok());
  }
  Poll();
  Poll();
  ASSERT_EQ(Stats().sessions_paused, 1u);
  // Fills what the replies that were read have left.
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(backend->Send(relay, "r").ok());
  }
  backend.reset();
  sys_calls_.FailAll(Call::kEpollControl, EIO);  // it stays paused
  SendAndRead(client_, "x");
  Poll();
  EXPECT_EQ(Stats().backend_refusals, 1u);
  for (int i = 0; i < 10; ++i) worker_->PollOnce(INT64_MAX);
  EXPECT_GT(sys_calls_.last_wait, absl::Milliseconds(100));
  sys_calls_.Reset();
}

TEST_F(AddressValidationTest, FactorZeroDisablesTheLimit) {
  ProxyOptions options;
  options.limits.unconfirmed_reply_factor = 0;
  Start(options);
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, std::string(60000, 'r')).ok());
  Poll();
  EXPECT_EQ(ReceiveAll(&client_).size(), 1u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
