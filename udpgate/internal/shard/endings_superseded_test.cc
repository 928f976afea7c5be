// Sessions that another gateway has: one by one, or all of them in standby.
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/endings.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class SupersededTest : public ShardTest {
 protected:
  void PostSupersede(absl::flat_hash_set<uint64_t> ids) {
    ShardMessage message;
    message.kind = ShardMessage::Kind::kSupersede;
    message.ids =
        std::make_shared<const absl::flat_hash_set<uint64_t>>(std::move(ids));
    worker_->inbox()->PostDisconnect(std::move(message));
  }
  void EnterStandby() {
    context_->is_standby = true;
    ShardMessage message;
    message.kind = ShardMessage::Kind::kSupersedeAll;
    worker_->inbox()->Post(std::move(message));
  }
  void PollUntilQuiet() {
    for (int i = 0; i < 100; ++i) {
      Poll();
      clock_.Advance(absl::Nanoseconds(Endings::kBreakNanosecondsMax));
    }
  }
  uint64_t IdOf(const LoopbackPeer& client) {
    for (const SessionInfo& session : ListSessions()) {
      if (session.client == client.address()) return session.id;
    }
    return 0;
  }

  std::vector<LoopbackPeer> others_ = std::vector<LoopbackPeer>(20);
};

TEST_F(SupersededTest, ExactlyTheNamedSessionsEnd) {
  Start();
  Connect(client_);
  Connect(others_[0]);
  Connect(others_[1]);
  SendAndRead(others_[2], "pending");
  const uint64_t first = IdOf(client_);
  const uint64_t second = IdOf(others_[1]);
  const uint64_t pending = IdOf(others_[2]);
  PostSupersede({first, second, pending, second + (1000 << 8)});
  PollUntilQuiet();
  EXPECT_EQ(Stats().ended(EndReason::kSuperseded), 3u);
  EXPECT_EQ(Stats().dropped(DropReason::kSessionEnded), 1u);
  EXPECT_EQ(IdOf(client_), 0u);
  EXPECT_NE(IdOf(others_[0]), 0u);
  EXPECT_EQ(Stats().disconnects_matched + Stats().disconnects_unmatched, 0u);
  // The client's next session is another one.
  resolver_->pending.clear();
  Connect(client_);
  PostSupersede({first});
  PollUntilQuiet();
  EXPECT_EQ(Stats().ended(EndReason::kSuperseded), 3u);
}

TEST_F(SupersededTest, ItsQueueHasRoomAgain) {
  ProxyOptions options;
  options.disconnect_queue_size = 1;
  Start(options);
  for (int i = 0; i < 3; ++i) {  // would wait for ever
    PostSupersede({1});
    Poll();
  }
}

TEST_F(SupersededTest, ManyEndInSlicesWithBreaks) {
  Start();
  for (const LoopbackPeer& client : others_) Connect(client);
  EnterStandby();
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kSuperseded),
            static_cast<uint64_t>(Endings::kEndsPerIteration));
  PollUntilQuiet();
  EXPECT_EQ(Stats().ended(EndReason::kSuperseded), others_.size());
  EXPECT_EQ(Stats().sessions_active, 0u);
}

TEST_F(SupersededTest, InStandbyClientsAreDroppedBeforeAnybodyIsAsked) {
  Start();
  Connect(client_);
  SendAndRead(others_[0], "pending");
  EnterStandby();
  PollUntilQuiet();
  EXPECT_EQ(Stats().ended(EndReason::kSuperseded), 2u);
  EXPECT_EQ(Stats().dropped(DropReason::kStandby), 1u) << "what it has held";
  const size_t screened = resolver_->screened.size();
  SendAndRead(client_, "x");
  SendAndRead(others_[1], "x");
  EXPECT_EQ(Stats().dropped(DropReason::kStandby), 3u);
  EXPECT_EQ(resolver_->screened.size(), screened);
  context_->is_standby = false;
  resolver_->pending.clear();
  Connect(client_);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(SupersededTest, SessionsRestoredInStandbyStay) {
  Start();
  for (const LoopbackPeer& client : others_) Connect(client);
  EnterStandby();
  Poll();
  // One that has not ended yet, and a new one.
  std::vector<RestorableSession> sessions(2);
  for (RestorableSession& session : sessions) {
    session.local = listen_address_;
    session.backend = backend_.address();
    session.age = absl::Seconds(100);
  }
  sessions[0].client = others_.back().address();
  sessions[0].relay = ListSessions().back().relay;
  sessions[1].client = client_.address();
  sessions[1].relay = SocketAddress::Ipv4Loopback(local_ports_[50]);
  const std::vector<RestoreTask> tasks = Restore(sessions);
  EXPECT_EQ(tasks[0].result.outcome, RestoredSession::Outcome::kRestored);
  EXPECT_EQ(tasks[1].result.outcome, RestoredSession::Outcome::kRestored);
  PollUntilQuiet();
  EXPECT_EQ(Stats().ended(EndReason::kSuperseded), others_.size());
  EXPECT_EQ(Stats().sessions_active, 2u);
  SendAndRead(client_, "x");
  EXPECT_EQ(Stats().dropped(DropReason::kStandby), 0u);
}

TEST_F(SupersededTest, AHandOverLeavesNoneOfThem) {
  Start();
  for (const LoopbackPeer& client : others_) Connect(client);
  EnterStandby();
  Poll();
  std::vector<HandedSession> handed;
  worker_->HandOverSessions(/*keeps_flows=*/false, &handed);
  EXPECT_TRUE(handed.empty());
}

TEST_F(SupersededTest, TheirTagsAndTheObserverHearTheReason) {
  Start();
  SendAndRead(client_, "hello");
  const auto tag = std::make_shared<RecordingTag>("key");
  ResolveResult result{backend_.address(), "lobby"};
  result.tag = tag;
  FinishResolve(std::move(result));
  const SocketAddress relay = ListSessions().at(0).relay;
  PostSupersede({IdOf(client_)});
  PollUntilQuiet();
  EXPECT_THAT(tag->calls, ElementsAre(BeginText(client_.address(), relay),
                                      EndText(client_.address(), relay,
                                              EndReason::kSuperseded)));
  EXPECT_EQ(Events().back().end_reason, EndReason::kSuperseded);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
