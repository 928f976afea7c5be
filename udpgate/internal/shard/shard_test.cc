// The event-loop iteration: what it does at most, and after a stall.
#include "udpgate/internal/shard/shard.h"

#include <utility>
#include <vector>

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

class ShardLoopTest : public ShardTest {};

// Datagrams of live sessions do not wait for a burst of results.
TEST_F(ShardLoopTest, HandlesAFewResultsPerIteration) {
  Start();
  std::vector<LoopbackPeer> clients(10 * Shard::kMessagesPerIteration);
  for (const LoopbackPeer& client : clients) SendAndRead(client, "first");
  ASSERT_EQ(resolver_->pending.size(), clients.size());
  for (HeldResolver::Resolution& resolution : resolver_->pending) {
    resolution.done(ResolveResult{backend_.address(), ""});
  }
  uint64_t active_before = 0;
  for (int i = 0; i < 10; ++i) {
    Poll();
    const uint64_t active = Stats().sessions_active;
    EXPECT_LE(active - active_before, uint64_t{Shard::kMessagesPerIteration})
        << "too many in one iteration";
    EXPECT_GT(active, active_before);
    active_before = active;
  }
  EXPECT_EQ(active_before, clients.size());
}

// The session of a ready socket may have ended before the socket is handled.
TEST_F(ShardLoopTest, IgnoresEventsOfAnEndedSession) {
  Start();
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "too late").ok());
  ShardMessage message;
  message.kind = ShardMessage::Kind::kDisconnectClient;
  message.client = client_.address();
  ASSERT_TRUE(worker_->inbox()->PostDisconnect(std::move(message)));
  // It waits behind the message, for the same iteration, and gets the same
  // slot.
  LoopbackPeer newcomer;
  SendAndRead(newcomer, "x");
  ASSERT_EQ(worker_->inbox()->datagrams_waiting(), 1);
  sys_calls_.Reset();
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);
  EXPECT_EQ(Stats().sessions_pending, 1u);
  EXPECT_EQ(sys_calls_.calls(Call::kRecvMmsg), 0) << "no reply is read";
}

// After a worker stood still (SIGSTOP, a frozen virtual machine).
TEST_F(ShardLoopTest, ReadsWhatWaitsAfterAStallBeforeSessionsExpire) {
  ProxyOptions options = IdleTimeoutOnly();
  options.batch_size = 4;
  const absl::Duration silence =
      options.limits.session_idle_timeout + absl::Seconds(5);
  Start(options);
  std::vector<LoopbackPeer> clients(200);
  std::vector<SocketAddress> relays;
  for (const LoopbackPeer& client : clients) relays.push_back(Connect(client));
  for (int i = 0; i < 20; ++i) Poll();
  clock_.Advance(silence);
  for (size_t i = 0; i < clients.size(); ++i) {
    if (i % 2 == 0) {
      Send(clients[i], "x");
    } else {
      ASSERT_TRUE(backend_.Send(relays[i], "x").ok());
    }
  }
  for (int i = 0; i < 300; ++i) {
    Poll();
    Read();
  }
  EXPECT_EQ(Stats().sessions_active, 200u);
  // Sessions that are silent end all the same.
  clock_.Advance(silence);
  for (int i = 0; i < 300; ++i) {
    Poll();
    clock_.Advance(absl::Milliseconds(10));
  }
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 200u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
