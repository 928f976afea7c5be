// What an observer is told about a session.
#include "udpgate/internal/shard/lifecycle.h"

#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class LifecycleTest : public ShardTest {};

TEST_F(LifecycleTest, ReportsTheStatesOfASessionInOrder) {
  Start();
  Confirm(&client_);
  clock_.Advance(absl::Seconds(2));
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  const std::vector<SessionEvent> events = Events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].kind, SessionEvent::Kind::kOpened);
  EXPECT_EQ(events[0].state, SessionState::kUnconfirmed);
  EXPECT_EQ(events[0].age, absl::ZeroDuration());
  EXPECT_EQ(events[0].client_datagrams_forwarded, 0u);
  EXPECT_EQ(events[1].kind, SessionEvent::Kind::kConfirmed);
  EXPECT_EQ(events[1].state, SessionState::kConfirmed);
  EXPECT_EQ(events[2].kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(events[2].end_reason, EndReason::kDisconnected);
  EXPECT_EQ(events[2].age,
            kConfirmExchanges * kConfirmInterval + absl::Seconds(2));
  // As Confirm does: "hello", and then one byte each way.
  constexpr uint64_t kExchanges = kConfirmExchanges;
  EXPECT_EQ(events[2].client_datagrams_forwarded, 1 + kExchanges);
  EXPECT_EQ(events[2].client_bytes_forwarded, 5 + kExchanges);
  EXPECT_EQ(events[2].backend_datagrams_forwarded, kExchanges);
  EXPECT_EQ(events[2].backend_bytes_forwarded, kExchanges);
  for (const SessionEvent& event : events) {
    EXPECT_EQ(event.session_id, events[0].session_id);
    EXPECT_EQ(event.client, client_.address());
    EXPECT_EQ(event.local, listen_address_);
    EXPECT_EQ(event.backend, backend_.address());
    EXPECT_TRUE(event.relay.is_loopback());
    EXPECT_NE(event.relay.port(), 0);
  }
}

TEST_F(LifecycleTest, ReportsTheEndOfAPendingSession) {
  Start();
  SendAndRead(client_, "hello");
  FinishResolve(absl::NotFoundError("no key"));
  const std::vector<SessionEvent> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(events[0].end_reason, EndReason::kResolveFailed);
  EXPECT_EQ(events[0].state, SessionState::kPending);
  EXPECT_EQ(events[0].client, client_.address());
  EXPECT_FALSE(events[0].backend.is_valid());
  EXPECT_FALSE(events[0].relay.is_valid());
}

TEST_F(LifecycleTest, ASlowObserverLosesEventsAndNoDatagram) {
  ProxyOptions options;
  options.session_events_max = 2;
  Start(options);
  for (int i = 0; i < 5; ++i) {
    Connect(client_);
    SendAndRead(client_, "x");
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
  EXPECT_EQ(context_->session_events->dropped(), 8u);
  EXPECT_EQ(Events().size(), 2u);
  Connect(client_);
  EXPECT_EQ(Events().size(), 3u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
