// The choice among the addresses of a backend: one that refuses or is silent is
// held off for a while.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/newcomers.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class NewcomersHoldoffTest : public ShardTest {};

// A name with two addresses, of which the first refuses.
TEST_F(NewcomersHoldoffTest, RefusalsHoldOffAnAddressForAWhile) {
  const ProxyOptions options;
  Start(options);
  LoopbackPeer second;
  const SocketAddress address = backend_.address();
  const ResolveResult result{address, "lobby:1", {second.address()}};
  backend_ = LoopbackPeer();
  SendAndRead(client_, "hello");
  FinishResolve(result);
  for (int i = 0;
       i < options.limits.backend_refusals_max && Stats().sessions_active == 1;
       ++i) {
    SendAndRead(client_, "x");
    Poll();
  }
  ASSERT_EQ(Stats().ended(EndReason::kBackendRefused), 1u);
  EXPECT_THAT(ReceiveAll(&second), ElementsAre());
  SendAndRead(client_, "again");
  FinishResolve(result);
  EXPECT_THAT(ReceiveAll(&second), ElementsAre("again"));
  EXPECT_EQ(Stats().backend_alternatives_used, 1u);
  // A later client gets the first address again.
  clock_.Advance(options.backend_holdoff);
  backend_ = LoopbackPeer(address);
  LoopbackPeer late;
  SendAndRead(late, "late");
  FinishResolve(result);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("late"));
  EXPECT_EQ(Stats().backend_alternatives_used, 1u);
}

TEST_F(NewcomersHoldoffTest, SilenceHoldsOffAnAddressForAWhile) {
  Start();
  LoopbackPeer second;
  const ResolveResult result{backend_.address(), "lobby:1", {second.address()}};
  SendAndRead(client_, "hello");
  FinishResolve(result);
  const absl::Duration step = ProxyLimits().backend_silent_timeout / 60;
  for (int i = 0; i < 120 && Stats().sessions_active == 1; ++i) {
    clock_.Advance(step);
    SendAndRead(client_, "x");
    Poll();
  }
  ASSERT_EQ(Stats().ended(EndReason::kBackendSilent), 1u);
  ReceiveAll(&backend_);
  LoopbackPeer other;
  SendAndRead(other, "again");
  FinishResolve(result);
  EXPECT_THAT(ReceiveAll(&second), ElementsAre("again"));
  EXPECT_EQ(Stats().backend_alternatives_used, 1u);
}

TEST_F(NewcomersHoldoffTest, AReplyEndsTheHoldoff) {
  Start();
  LoopbackPeer second;
  const ResolveResult result{backend_.address(), "lobby:1", {second.address()}};
  const SocketAddress relay = Connect(client_);
  context_->backend_holdoff.Note(backend_.address(), clock_.NowNanoseconds());
  ASSERT_TRUE(backend_.Send(relay, "alive").ok());
  Poll();
  LoopbackPeer other;
  SendAndRead(other, "hello");
  FinishResolve(result);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello"));
}

// A client whose datagrams a backend ignores cannot divert new clients from the
// backend while it serves others.
TEST_F(NewcomersHoldoffTest, AReplyToAnOlderSessionEndsTheHoldoffToo) {
  Start();
  LoopbackPeer second;
  const ResolveResult result{backend_.address(), "lobby:1", {second.address()}};
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "first").ok());
  Poll();
  clock_.Advance(absl::Seconds(1));
  context_->backend_holdoff.Note(backend_.address(), clock_.NowNanoseconds());
  ASSERT_TRUE(backend_.Send(relay, "still alive").ok());
  Poll();
  LoopbackPeer other;
  SendAndRead(other, "hello");
  FinishResolve(result);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello"));
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
