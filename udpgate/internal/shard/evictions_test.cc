// Which session is replaced if a limit is reached: MAX_SESSIONS, source ports,
// descriptors or memory.
#include "udpgate/internal/shard/evictions.h"

#include <errno.h>

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
using ::testing::Contains;
using ::testing::ElementsAre;

class EvictionsTest : public ShardTest {
 protected:
  // An unconfirmed session without proof is evicted after it, and one with
  // proof after the longer one of silence.
  static constexpr absl::Duration kFirstChance =
      absl::Nanoseconds(Evictions::kFirstChanceNanoseconds);
  static constexpr absl::Duration kLongSilent =
      absl::Nanoseconds(Evictions::kLongSilentNanoseconds);
};

TEST_F(EvictionsTest, SessionLimitRejectsNewClientsIfAllAreConfirmed) {
  ProxyOptions options;
  options.limits.max_sessions = 1;
  Start(options);
  LoopbackPeer other;
  Confirm(&client_);
  SendAndRead(other, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimit), 1u);
  EXPECT_TRUE(resolver_->pending.empty());
  SendAndRead(client_, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  Connect(other);
}

TEST_F(EvictionsTest, EvictsTheLeastValidatedThenTheLongestSilentSession) {
  ProxyOptions options;
  options.limits.max_sessions = 4;
  Start(options);
  LoopbackPeer player, proven, older, younger;
  Confirm(&player);
  const SocketAddress relay = Connect(proven);
  ASSERT_TRUE(backend_.Send(relay, "x").ok());
  Poll();
  SendAndRead(proven, "y");
  clock_.Advance(absl::Seconds(1));
  Connect(older);
  clock_.Advance(absl::Seconds(1));
  Connect(younger);
  // It was created first, but has sent last.
  clock_.Advance(absl::Seconds(1));
  SendAndRead(older, "still here");
  const auto is_live = [this](const LoopbackPeer& client) {
    ReceiveAll(&backend_);
    SendAndRead(client, "?");
    return ReceiveAll(&backend_).size() == 1;
  };
  std::vector<LoopbackPeer> newcomers(4);
  for (const LoopbackPeer* evicted : {&younger, &older}) {
    const LoopbackPeer& newcomer = newcomers[evicted == &older];
    Connect(newcomer);
    EXPECT_EQ(Stats().sessions_active, 4u);
    EXPECT_TRUE(is_live(player));
  }
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 2u);
  EXPECT_TRUE(is_live(proven)) << "it has passed a step of validation";
}

TEST_F(EvictionsTest, EvictsALongSilentSessionBeforeANewOne) {
  ProxyOptions options;
  options.limits.max_sessions = 3;
  Start(options);
  // Forgers that send a few datagrams each have passed one step of validation.
  LoopbackPeer forgers[2];
  for (const LoopbackPeer& forger : forgers) {
    const SocketAddress relay = Connect(forger);
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Poll();
    SendAndRead(forger, "y");
    ReceiveAll(&backend_);
  }
  clock_.Advance(kLongSilent - kFirstChance);
  LoopbackPeer fresh;
  Connect(fresh);
  ReceiveAll(&backend_);
  // That is not long.
  LoopbackPeer second;
  Connect(second);
  ReceiveAll(&backend_);
  SendAndRead(forgers[0], "still here");
  SendAndRead(forgers[1], "still here");
  EXPECT_EQ(ReceiveAll(&backend_).size(), 2u) << "the fresh one was evicted";
  clock_.Advance(kLongSilent + kFirstChance);
  // The one without proof has had its chance: it is evicted before the forgers.
  LoopbackPeer third;
  Connect(third);
  ReceiveAll(&backend_);
  // `third` has not, and the forgers are silent for long.
  LoopbackPeer fourth, fifth;
  Connect(fourth);
  Connect(fifth);
  ReceiveAll(&backend_);
  for (const LoopbackPeer* client : {&third, &fourth, &fifth}) {
    SendAndRead(*client, "?");
  }
  EXPECT_EQ(ReceiveAll(&backend_).size(), 3u);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 4u);
  EXPECT_EQ(Stats().sessions_active, 3u);
}

TEST_F(EvictionsTest, EvictsAnUnconfirmedSessionForItsPort) {
  local_ports_ = {LoopbackPeer().address().port(),
                  LoopbackPeer().address().port()};
  Start();
  LoopbackPeer player, silent;
  Confirm(&player);
  Connect(silent);
  for (int i = 0; i < 20; ++i) {
    LoopbackPeer newcomer;
    Connect(newcomer);
    EXPECT_EQ(Stats().ended(EndReason::kEvicted), i + 1u);
  }
  EXPECT_EQ(Stats().dropped_total(), 0u);
  SendAndRead(player, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
}

TEST_F(EvictionsTest, KeepsThePortOfAConfirmedSession) {
  local_ports_ = {LoopbackPeer().address().port()};
  Start();
  Confirm(&client_);
  LoopbackPeer newcomer;
  SendAndRead(newcomer, "refused");
  ResolveTo(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  SendAndRead(client_, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
}

// The same if source ports run out before MAX_SESSIONS.
TEST_F(EvictionsTest, EvictsALongSilentSessionForItsPort) {
  local_ports_ = {LoopbackPeer().address().port(),
                  LoopbackPeer().address().port()};
  Start();
  LoopbackPeer forger, fresh, newcomer;
  const SocketAddress relay = Connect(forger);
  ASSERT_TRUE(backend_.Send(relay, "x").ok());
  Poll();
  SendAndRead(forger, "y");
  clock_.Advance(kLongSilent + kFirstChance);
  Connect(fresh);
  Connect(newcomer);
  ReceiveAll(&backend_);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 1u);
  SendAndRead(fresh, "still here");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("still here"));
}

// Ports of other programs are no reason to reject a new client, and are not
// tried again while a session can be evicted.
TEST_F(EvictionsTest, EvictsForAPortBeforeItRetriesBusyPorts) {
  std::vector<LoopbackPeer> strangers(3);
  local_ports_ = {LoopbackPeer().address().port()};
  for (const LoopbackPeer& stranger : strangers) {
    local_ports_.push_back(stranger.address().port());
  }
  Start();
  Connect(client_);
  {
    LoopbackPeer newcomer;  // its attempts find the busy ports
    Connect(newcomer);
  }
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 1 + 3 + 1);
  LoopbackPeer newcomer;
  Connect(newcomer);
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 1 + 3 + 1 + 1);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 2u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

// A port at another address would not help.
TEST_F(EvictionsTest, KeepsThePortOfTheOtherAddressFamily) {
  local_ports_ = {LoopbackPeer().address().port()};
  Start();
  LoopbackPeer ipv6_backend(SocketAddress::Ipv6Loopback(0));
  LoopbackPeer other, newcomer;
  SendAndRead(client_, "hello");
  ResolveTo(ipv6_backend.address());
  clock_.Advance(absl::Seconds(1));
  Connect(other);
  Connect(newcomer);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 1u);
  ReceiveAll(&ipv6_backend);
  SendAndRead(client_, "still");
  EXPECT_THAT(ReceiveAll(&ipv6_backend), ElementsAre("still"));
}

TEST_F(EvictionsTest, EvictsIfDescriptorsOrMemoryRunOut) {
  Start();
  std::vector<LoopbackPeer> clients(40);
  size_t next = 0;
  uint64_t evicted_count = 0;
  Connect(clients[next++]);
  for (const Call call : {Call::kSocket, Call::kEpollControl}) {
    for (const int error : {EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC}) {
      // The first socket looks up the route, the second one is the session's.
      for (int n = 1; n <= 2; ++n) {
        clock_.Advance(absl::Seconds(2));  // the route is looked up again
        SendAndRead(clients[next], "hello");
        sys_calls_.Reset();
        sys_calls_.FailNth(call, call == Call::kSocket ? n : 1, error);
        ResolveTo(backend_.address());
        EXPECT_EQ(Stats().ended(EndReason::kEvicted), ++evicted_count)
            << static_cast<int>(call) << " " << error << " " << n;
        EXPECT_EQ(Stats().sessions_active, 1u);
        EXPECT_THAT(ReceiveAll(&backend_), Contains("hello"));
        ++next;
      }
    }
  }
  EXPECT_EQ(Stats().dropped_total(), 0u);
  // If the error stays, not all sessions are evicted.
  clients.resize(next + 10);
  for (int i = 0; i < 9; ++i) Connect(clients[next++]);
  sys_calls_.FailAll(Call::kSocket, EMFILE);
  SendAndRead(clients[next], "refused");
  ResolveTo(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  EXPECT_GE(Stats().sessions_active, 6u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
