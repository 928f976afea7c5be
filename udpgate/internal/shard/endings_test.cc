// Timeouts: idle and unconfirmed sessions, silent backends and clients.
#include "udpgate/internal/shard/endings.h"

#include <errno.h>

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;

class EndingsTest : public ShardTest {
 protected:
  // A session is found silent between once and one and a quarter of a timeout.
  static constexpr double kLate = 1.25;
  // Of a client that plays.
  static constexpr absl::Duration kStep = absl::Milliseconds(500);

  // The client sends each `kStep`, on one socket, as games do, until a session
  // ends for `reason`, or for `at_most`. Returns the time passed.
  absl::Duration SendUntil(EndReason reason, absl::Duration at_most) {
    const uint64_t ended_before = Stats().ended(reason);
    absl::Duration passed;
    while (Stats().ended(reason) == ended_before && passed < at_most) {
      clock_.Advance(kStep);
      passed += kStep;
      SendAndRead(client_, "again");
      Poll();
    }
    return passed;
  }

  // A session of `client_` whose first reply is more than it may get yet: the
  // session is paused, and the reply waits.
  void ConnectWithAWaitingReply() {
    const SocketAddress relay = Connect(client_);
    const std::string reply(2 * AddressValidation::kUnconfirmedReplyBytes, 'r');
    ASSERT_TRUE(backend_.Send(relay, reply).ok());
    Poll();
    ASSERT_EQ(Stats().sessions_paused, 1u);
  }
};

TEST_F(EndingsTest, IdleSessionEndsInTime) {
  const ProxyOptions options = IdleTimeoutOnly();
  const absl::Duration timeout = options.limits.session_idle_timeout;
  Start(options);
  Connect(client_);
  const absl::Duration step = absl::Milliseconds(100);
  absl::Duration idle;
  while (Stats().sessions_active == 1 && idle < 2 * timeout) {
    clock_.Advance(step);
    idle += step;
    Poll();
  }
  EXPECT_GE(idle, timeout);
  EXPECT_LE(idle, kLate * timeout);
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 1u);
}

TEST_F(EndingsTest, DatagramsOfEitherDirectionKeepASession) {
  const ProxyOptions options = IdleTimeoutOnly();
  Start(options);
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 6; ++i) {
    clock_.Advance(0.8 * options.limits.session_idle_timeout);
    if (i % 2 == 0) {
      SendAndRead(client_, "ping");
    } else {
      ASSERT_TRUE(backend_.Send(relay, "pong").ok());
    }
    Poll();
    EXPECT_EQ(Stats().sessions_active, 1u) << "after datagram " << i;
  }
}

TEST_F(EndingsTest, ManyIdleSessionsEndAFewPerIteration) {
  ProxyOptions options;
  options.limits.session_idle_timeout = absl::Seconds(1);
  Start(options);
  std::vector<LoopbackPeer> clients(300);
  for (const LoopbackPeer& client : clients) Connect(client);
  clock_.Advance(absl::Milliseconds(990));
  Poll();
  EXPECT_EQ(Stats().sessions_active, clients.size());
  uint64_t ended_before = 0;
  for (int i = 0; i < 26; ++i) {
    clock_.Advance(absl::Milliseconds(10));
    // Several iterations: if one leaves sessions over, the next one does not
    // wait.
    for (int iteration = 0; iteration < 20; ++iteration) {
      Poll();
      const uint64_t ended = Stats().ended(EndReason::kIdle);
      EXPECT_LE(ended - ended_before, uint64_t{Endings::kEndsPerIteration})
          << "too many in one iteration";
      ended_before = ended;
    }
  }
  EXPECT_EQ(Stats().sessions_active, 0u);
}

// The client waited for its backend for longer than the idle timeout.
TEST_F(EndingsTest, TimeSpentPendingIsNotIdleTime) {
  ProxyOptions options;
  options.limits.session_idle_timeout = absl::Seconds(1);
  Start(options);
  SendAndRead(client_, "x");
  clock_.Advance(absl::Seconds(2));
  sys_calls_.FailAll(Call::kSendMmsg, EAGAIN);
  ResolveTo(backend_.address());
  Poll();
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(EndingsTest, UnconfirmedSessionEndsIfItsClientIsSilent) {
  ProxyOptions options;
  options.limits.session_idle_timeout = absl::Hours(1);
  options.limits.backend_silent_timeout = absl::ZeroDuration();
  Start(options);
  LoopbackPeer steady, player;
  const SocketAddress relay = Connect(client_);
  Connect(steady);
  Confirm(&player);
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(0.4 * options.limits.unconfirmed_timeout);
    // Datagrams of the backend do not keep it.
    ASSERT_TRUE(backend_.Send(relay, "anybody there?").ok());
    SendAndRead(steady, "here I am");
    Poll();
    Poll();  // after a stall what waits is read first
    EXPECT_EQ(Stats().sessions_active, i < 2 ? 3u : 2u);
  }
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 1u);
  clock_.Advance(options.limits.unconfirmed_timeout);
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 2u);
  EXPECT_EQ(Stats().sessions_confirmed, 1u) << "the confirmed one stays";
}

TEST_F(EndingsTest, SilentBackendEndsTheSession) {
  const absl::Duration timeout = ProxyLimits().backend_silent_timeout;
  for (const bool is_confirmed : {false, true}) {
    if (worker_ == nullptr) Start();
    if (is_confirmed) {
      Confirm(&client_);
    } else {
      Connect(client_);
    }
    const absl::Duration passed =
        SendUntil(EndReason::kBackendSilent, 4 * timeout);
    EXPECT_GE(passed, timeout - kStep) << is_confirmed;
    EXPECT_LE(passed, kLate * timeout) << is_confirmed;
    SendAndRead(client_, "again");
    EXPECT_EQ(resolver_->pending.size(), 1u)
        << "the next datagram starts a resolution";
    ResolveTo(backend_.address());
    ReceiveAll(&backend_);
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
}

TEST_F(EndingsTest, RareRepliesKeepTheSession) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 20; ++i) {
    SendUntil(EndReason::kBackendSilent,
              ProxyLimits().backend_silent_timeout * 14 / 15);
    ASSERT_TRUE(backend_.Send(relay, "still here").ok());
    Poll();
  }
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(EndingsTest, ABackendWhoseReplyWaitsIsNotSilent) {
  ProxyOptions options;
  options.limits.backend_silent_timeout = absl::Seconds(1);
  Start(options);
  ConnectWithAWaitingReply();
  EXPECT_GE(SendUntil(EndReason::kBackendSilent, absl::Seconds(1.8)),
            absl::Seconds(1.8));
  EXPECT_EQ(Stats().sessions_active, 1u);
  SendUntil(EndReason::kBackendSilent, absl::Seconds(0.8));
  EXPECT_EQ(ReceiveAll(&client_).size(), 1u);
  EXPECT_LE(SendUntil(EndReason::kBackendSilent, absl::Seconds(5)),
            absl::Seconds(1.5));
  EXPECT_EQ(Stats().ended(EndReason::kBackendSilent), 1u);
}

TEST_F(EndingsTest, AWaitingReplyDoesNotKeepTheSessionOfASilentClient) {
  ProxyOptions options;
  options.limits.backend_silent_timeout = absl::Seconds(1);
  options.limits.client_silent_timeout = absl::Seconds(1);
  Start(options);
  ConnectWithAWaitingReply();
  clock_.Advance(absl::Seconds(2));
  Poll();
  Poll();  // after a stall what waits is read first
  EXPECT_EQ(Stats().ended(EndReason::kClientSilent), 1u);
}

TEST_F(EndingsTest, ZeroDisablesTheBackendSilentTimeout) {
  ProxyOptions options;
  options.limits.backend_silent_timeout = absl::ZeroDuration();
  Start(options);
  Connect(client_);
  SendUntil(EndReason::kBackendSilent,
            20 * ProxyLimits().backend_silent_timeout);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(EndingsTest, AReloadChangesTheTimeout) {
  const absl::Duration timeout = ProxyLimits().backend_silent_timeout / 6;
  Start();
  Connect(client_);
  {
    MutexLock lock(&context_->limits_mutex);
    context_->limits.backend_silent_timeout = timeout;
  }
  context_->limits_version.fetch_add(1);
  EXPECT_LE(SendUntil(EndReason::kBackendSilent, 12 * timeout),
            kLate * timeout + kStep);
}

TEST_F(EndingsTest, RepliesDoNotKeepTheSessionOfASilentClient) {
  const absl::Duration timeout = ProxyLimits().client_silent_timeout;
  Start();
  Confirm(&client_);
  SendAndRead(client_, "x");
  const SocketAddress relay = backend_.TryReceive()->from;
  absl::Duration passed;
  while (Stats().sessions_active == 1 && passed < 2 * timeout) {
    clock_.Advance(absl::Seconds(1));
    passed += absl::Seconds(1);
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Poll();
  }
  EXPECT_EQ(Stats().ended(EndReason::kClientSilent), 1u);
  EXPECT_GE(passed, timeout);
  EXPECT_LE(passed, kLate * timeout);
}

TEST_F(EndingsTest, RefusalsOfTheClientsHostEndASilentSessionSooner) {
  // After some silence one refusal counts in each interval.
  constexpr absl::Duration interval =
      absl::Nanoseconds(Endings::kClientRefusalNanoseconds);
  const absl::Duration expected =
      absl::Nanoseconds(Endings::kClientQuietNanoseconds) +
      (ProxyLimits().backend_refusals_max - 1) * interval;
  Start();
  Confirm(&client_);
  SendAndRead(client_, "x");
  const SocketAddress relay = backend_.TryReceive()->from;
  client_ = LoopbackPeer();
  absl::Duration passed;
  while (Stats().sessions_active == 1 &&
         passed < ProxyLimits().client_silent_timeout) {
    clock_.Advance(absl::Milliseconds(50));
    passed += absl::Milliseconds(50);
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Poll();
    reader_->TakeClientErrors();
    Poll();
  }
  EXPECT_EQ(Stats().ended(EndReason::kClientSilent), 1u);
  EXPECT_GE(passed, expected);
  EXPECT_LE(passed, expected + interval);
}

// Such an ICMP message can be forged.
TEST_F(EndingsTest, RefusalsDoNotEndTheSessionOfAClientThatSends) {
  Start();
  Confirm(&client_);
  for (int i = 0; i < 100; ++i) {
    clock_.Advance(absl::Seconds(1));
    SendAndRead(client_, "x");
    ShardMessage message;
    message.kind = ShardMessage::Kind::kClientRefused;
    message.client = client_.address();
    context_->client_refusals_under_way.fetch_add(1);
    worker_->inbox()->Post(std::move(message));
    Poll();
    ReceiveAll(&backend_);
    if (i % 20 == 0) {
      SendAndRead(client_, "ping");
      const auto ping = backend_.TryReceive();
      ASSERT_TRUE(ping.ok());
      ASSERT_TRUE(backend_.Send(ping->from, "pong").ok());
      Poll();
    }
  }
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
