// The list of sessions.
#include "udpgate/internal/shard/snapshot.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;

class SnapshotTest : public ShardTest {};

TEST_F(SnapshotTest, ListsAllSessions) {
  Start();
  const SocketAddress relay = Connect(client_);
  SendAndRead(client_, "four");
  ASSERT_TRUE(backend_.Send(relay, "a reply").ok());
  ASSERT_TRUE(backend_.Send(relay, "").ok());
  Poll();
  LoopbackPeer pending;
  SendAndRead(pending, "x");
  clock_.Advance(absl::Seconds(2));
  const std::vector<SessionInfo> infos = ListSessions();
  ASSERT_EQ(infos.size(), 2u);
  EXPECT_EQ(infos[0].client, client_.address());
  EXPECT_EQ(infos[0].backend, backend_.address());
  EXPECT_EQ(infos[0].relay, relay);
  EXPECT_EQ(infos[0].state, SessionState::kUnconfirmed);
  EXPECT_EQ(infos[0].client_datagrams_forwarded, 2u);
  EXPECT_EQ(infos[0].client_bytes_forwarded, 9u);
  EXPECT_EQ(infos[0].backend_datagrams_forwarded, 2u);
  EXPECT_EQ(infos[0].backend_bytes_forwarded, 7u);
  EXPECT_EQ(infos[0].age, absl::Seconds(2));
  EXPECT_EQ(infos[1].state, SessionState::kPending);
  EXPECT_FALSE(infos[1].backend.is_valid());
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
