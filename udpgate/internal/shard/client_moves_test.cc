// A player who continues from another address.
#include "udpgate/internal/shard/client_moves.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class ClientMovesTest : public ShardTest {
 protected:
  ResolveResult Result() const {
    ResolveResult result{backend_.address(), "lobby"};
    result.is_client_proven = true;
    result.tag = tag_;
    return result;
  }
  // What the resolver says of `other_`.
  ResolveResult Moved() const {
    ResolveResult result = Result();
    result.moved_from = client_.address();
    result.relay = relay_;
    return result;
  }
  void ConnectFirst() {
    SendAndRead(client_, "hello");
    FinishResolve(Result());
    const auto first = backend_.TryReceive();
    ASSERT_TRUE(first.ok()) << first.status();
    relay_ = first->from;
    // So that the port goes into quarantine.
    ASSERT_TRUE(backend_.Send(relay_, "reply").ok());
    Poll();
  }
  // Another shard, which the test plays: the session of `client_` is there, or
  // that of `other_`.
  void AddShard() {
    auto inbox = Inbox::Create(&sys_calls_, {10, 10});
    ASSERT_TRUE(inbox.ok()) << inbox.status();
    other_inbox_ = *inbox;
    context_->inboxes.push_back(other_inbox_);
  }
  bool IsOfOtherShard(const LoopbackPeer& peer) const {
    return context_->hash(peer.address()) % 2 == 1;
  }
  // A client with a place in this shard or in the other one.
  static void Replace(LoopbackPeer* peer, const std::function<bool()>& fits) {
    for (int i = 0; i < 100 && !fits(); ++i) *peer = LoopbackPeer();
    ASSERT_TRUE(fits());
  }
  std::vector<ShardMessage> TakeOther() {
    std::vector<ShardMessage> messages;
    other_inbox_->TakeMessages(10, &messages);
    return messages;
  }

  LoopbackPeer other_;
  std::shared_ptr<RecordingTag> tag_ = std::make_shared<RecordingTag>("7");
  SocketAddress relay_;
  std::shared_ptr<Inbox> other_inbox_;
};

TEST_F(ClientMovesTest, TheNewSessionGetsThePortOfTheOldOne) {
  Start();
  ConnectFirst();
  SendAndRead(other_, "again");
  FinishResolve(Moved());
  const auto again = backend_.TryReceive();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->payload, "again");
  EXPECT_EQ(again->from, relay_);
  EXPECT_EQ(Stats().ended(EndReason::kClientMoved), 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_THAT(tag_->calls, ElementsAre(BeginText(client_.address(), relay_),
                                       EndText(client_.address(), relay_,
                                               EndReason::kClientMoved),
                                       BeginText(other_.address(), relay_)));
  ASSERT_TRUE(backend_.Send(relay_, "to the new one").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&other_), ElementsAre("to the new one"));
}

TEST_F(ClientMovesTest, ASessionOfAnotherPlayerStays) {
  Start();
  ConnectFirst();
  for (const bool has_tag : {true, false}) {
    LoopbackPeer attacker;
    tag_ = has_tag ? std::make_shared<RecordingTag>("8") : nullptr;
    SendAndRead(attacker, "mine");
    FinishResolve(Moved());
  }
  EXPECT_EQ(Stats().ended(EndReason::kClientMoved), 0u);
  EXPECT_EQ(Stats().sessions_active, 3u);
}

TEST_F(ClientMovesTest, ASessionWithoutATagStays) {
  Start();
  relay_ = Connect(client_);
  SendAndRead(other_, "x");
  FinishResolve(Moved());
  EXPECT_EQ(Stats().ended(EndReason::kClientMoved), 0u);
  EXPECT_EQ(Stats().sessions_active, 2u);
}

TEST_F(ClientMovesTest, ASessionThatIsNotThereDelaysNothing) {
  Start();
  SendAndRead(other_, "x");
  FinishResolve(Moved());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  // Nor does one that is still pending, or the client itself.
  LoopbackPeer third;
  SendAndRead(client_, "pending");
  SendAndRead(third, "y");
  resolver_->pending.erase(resolver_->pending.begin());
  FinishResolve(Moved());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("y"));
  EXPECT_EQ(Stats().ended(EndReason::kClientMoved), 0u);
  EXPECT_EQ(Stats().sessions_pending, 1u);
}

TEST_F(ClientMovesTest, NoBackendIsHeldOffForIt) {
  Start();
  ConnectFirst();
  SendAndRead(other_, "again");
  FinishResolve(Moved());
  EXPECT_EQ(context_->backend_holdoff.count(clock_.NowNanoseconds()), 0);
}

TEST_F(ClientMovesTest, TheFlowsOfTheOldSessionEndFirst) {
  offload_ = std::make_shared<test::FakeFlowOffload>();
  Start();
  ConnectFirst();
  ASSERT_EQ(offload_->flows().size(), 1u);
  SendAndRead(other_, "again");
  FinishResolve(Moved());
  ASSERT_EQ(offload_->flows().size(), 2u);
  EXPECT_TRUE(offload_->flows()[0].is_removed);
  EXPECT_FALSE(offload_->flows()[1].is_removed);
  EXPECT_EQ(offload_->flows()[1].addresses.relay, relay_);
  EXPECT_EQ(offload_->flows()[1].addresses.client, other_.address());
}

TEST_F(ClientMovesTest, AnotherShardIsAskedAndTheNewClientWaits) {
  Start();
  AddShard();
  Replace(&client_, [&] { return IsOfOtherShard(client_); });
  SendAndRead(other_, "one");
  FinishResolve(Moved());
  std::vector<ShardMessage> asked = TakeOther();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].kind, ShardMessage::Kind::kEndMoved);
  EXPECT_EQ(asked[0].client, client_.address());
  EXPECT_EQ(asked[0].asking_shard, 0u);
  EXPECT_EQ(Stats().sessions_pending, 1u);
  SendAndRead(other_, "two");
  asked[0].kind = ShardMessage::Kind::kMoved;
  worker_->inbox()->Post(std::move(asked[0]));
  Poll();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one", "two"));
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
}

TEST_F(ClientMovesTest, TheAskedShardEndsTheSessionAndReplies) {
  Start();
  ConnectFirst();
  AddShard();
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEndMoved;
  message.session = {5, 77};
  message.resolution = 3;
  message.client = client_.address();
  message.asking_shard = 1;
  message.result = Moved();
  worker_->inbox()->Post(std::move(message));
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kClientMoved), 1u);
  const std::vector<ShardMessage> replies = TakeOther();
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].kind, ShardMessage::Kind::kMoved);
  EXPECT_EQ(replies[0].session, (SessionRef{5, 77}));
  EXPECT_EQ(replies[0].resolution, 3u);
  EXPECT_EQ(replies[0].result->relay, relay_);
  EXPECT_EQ(context_->relay_ports.in_use(), 0) << "its port is free";
}

TEST_F(ClientMovesTest, WithoutAReplyTheDeadlineDecides) {
  const ProxyOptions options;
  Start(options);
  AddShard();
  Replace(&client_, [&] { return IsOfOtherShard(client_); });
  other_inbox_->Close();  // it stops
  SendAndRead(other_, "x");
  FinishResolve(Moved());
  EXPECT_EQ(Stats().sessions_pending, 1u);
  clock_.Advance(options.limits.resolve_timeout);
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kResolveTimedOut), 1u);
}

TEST_F(ClientMovesTest, ADisconnectMeanwhileLetsTheResolverDecideAgain) {
  Start();
  AddShard();
  Replace(&client_, [&] { return IsOfOtherShard(client_); });
  SendAndRead(other_, "x");
  FinishResolve(Moved());
  std::vector<ShardMessage> asked = TakeOther();
  ASSERT_EQ(asked.size(), 1u);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, other_.address());
  asked[0].kind = ShardMessage::Kind::kMoved;
  worker_->inbox()->Post(std::move(asked[0]));
  Poll();
  EXPECT_EQ(Stats().sessions_active, 0u);
  ASSERT_EQ(resolver_->pending.size(), 1u);
  FinishResolve(absl::NotFoundError("the join has ended"));
  EXPECT_EQ(Stats().dropped(DropReason::kNoBackend), 1u);
}

TEST_F(ClientMovesTest, ASecondResultMeanwhileIsTooLate) {
  Start();
  AddShard();
  Replace(&client_, [&] { return IsOfOtherShard(client_); });
  SendAndRead(other_, "x");
  BackendResolver::Callback done = std::move(resolver_->pending[0].done);
  resolver_->pending.clear();
  done(Moved());
  done(Result());
  Poll();
  EXPECT_EQ(TakeOther().size(), 1u);
  EXPECT_EQ(Stats().sessions_pending, 1u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
