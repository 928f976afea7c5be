// Tags of sessions: what they and others are told.
#include <errno.h>

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SessionTagsTest : public ShardTest {
 protected:
  ResolveResult Tagged() const {
    ResolveResult result{backend_.address(), "lobby"};
    result.tag = tag_;
    return result;
  }
  // The address of its upstream socket.
  SocketAddress ConnectTagged(const LoopbackPeer& client) {
    SendAndRead(client, "hello");
    FinishResolve(Tagged());
    const auto first = backend_.TryReceive();
    EXPECT_TRUE(first.ok()) << first.status();
    return first.ok() ? first->from : SocketAddress();
  }

  std::shared_ptr<RecordingTag> tag_ = std::make_shared<RecordingTag>("join 7");
};

TEST_F(SessionTagsTest, ATagIsToldOfTheBeginAndOfTheEnd) {
  Start();
  const SocketAddress client = client_.address();
  const SocketAddress relay = ConnectTagged(client_);
  EXPECT_THAT(tag_->calls, ElementsAre(BeginText(client, relay)));
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client);
  EXPECT_THAT(tag_->calls,
              ElementsAre(BeginText(client, relay),
                          EndText(client, relay, EndReason::kDisconnected)));
}

TEST_F(SessionTagsTest, ATagIsToldOfTheEndIfTheGatewayStops) {
  Start();
  const SocketAddress relay = ConnectTagged(client_);
  worker_->EndAllSessions();
  EXPECT_EQ(tag_->calls.back(),
            EndText(client_.address(), relay, EndReason::kStopped));
}

TEST_F(SessionTagsTest, SessionsWithoutASocketAreNotTold) {
  Start();
  SendAndRead(client_, "x");
  sys_calls_.FailAll(Call::kSocket, EMFILE);
  FinishResolve(Tagged());
  EXPECT_EQ(Stats().ended(EndReason::kNoUpstreamSocket), 1u);
  EXPECT_THAT(tag_->calls, IsEmpty());
}

TEST_F(SessionTagsTest, ATagIsToldOfANewSourceAddress) {
  Start();
  const SocketAddress client = client_.address();
  const SocketAddress relay = ConnectTagged(client_);
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  for (int i = 0; i < 20 && tag_->calls.size() < 2; ++i) {
    clock_.Advance(absl::Milliseconds(500));
    SendAndRead(client_, "again");
  }
  ASSERT_EQ(Stats().reopened(ReopenReason::kSilence), 1u);
  const SocketAddress moved = ListSessions().at(0).relay;
  EXPECT_EQ(moved.WithPort(0), sys_calls_.route_source);
  EXPECT_THAT(tag_->calls,
              ElementsAre(BeginText(client, relay), BeginText(client, moved)));
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client);
  EXPECT_EQ(tag_->calls.back(),
            EndText(client, moved, EndReason::kDisconnected));
}

TEST_F(SessionTagsTest, SessionsOfOneTagAreTheirOwn) {
  Start();
  LoopbackPeer other;
  const SocketAddress relay = ConnectTagged(client_);
  const SocketAddress other_relay = ConnectTagged(other);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_THAT(tag_->calls, ElementsAre(BeginText(client_.address(), relay),
                                       BeginText(other.address(), other_relay),
                                       EndText(client_.address(), relay,
                                               EndReason::kDisconnected)));
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(SessionTagsTest, ListsAndEventsShowTheTag) {
  Start();
  LoopbackPeer other;
  ConnectTagged(client_);
  EXPECT_EQ(ListSessions().at(0).tag, "join 7 text");
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  Connect(other);
  EXPECT_EQ(ListSessions().at(0).tag, "");
  const std::vector<SessionEvent> events = Events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].tag, tag_);
  EXPECT_EQ(events[1].tag, tag_);
  EXPECT_EQ(events[1].kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(events[2].tag, nullptr);
}

TEST_F(SessionTagsTest, NothingKeepsATagWhoseSessionsHaveEnded) {
  observer_ = std::make_shared<test::RecordingSessionObserver>();
  Start();
  std::weak_ptr<RecordingTag> tag = tag_;
  ConnectTagged(client_);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  tag_ = nullptr;
  EXPECT_FALSE(tag.expired()) << "events wait to be delivered";
  observer_->Clear();
  Events();
  observer_->Clear();
  EXPECT_TRUE(tag.expired());
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
