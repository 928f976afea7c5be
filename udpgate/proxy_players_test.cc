// Players whom the resolver knows: their tags, their ports, and their moves to
// another address, whichever shards the addresses are of.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

// One player, whose sessions follow each other.
class PlayerTag final : public SessionTag {
 public:
  explicit PlayerTag(int number)
      : SessionTag(absl::StrCat(number), absl::StrCat("player ", number)) {}

  void OnBegin(const SocketAddress& client,
               const SocketAddress& relay) override {
    internal::MutexLock lock(&mutex_);
    client_ = client;
    relay_ = relay;
  }
  void OnEnd(const SocketAddress& /*client*/, const SocketAddress& /*relay*/,
             EndReason reason) override {
    internal::MutexLock lock(&mutex_);
    ends_.push_back(reason);
  }
  // Of the session that began last.
  SocketAddress client() const {
    internal::MutexLock lock(&mutex_);
    return client_;
  }
  SocketAddress relay() const {
    internal::MutexLock lock(&mutex_);
    return relay_;
  }
  std::vector<EndReason> ends() const {
    internal::MutexLock lock(&mutex_);
    return ends_;
  }

 private:
  mutable internal::Mutex mutex_;
  SocketAddress client_ ABSL_GUARDED_BY(mutex_);
  SocketAddress relay_ ABSL_GUARDED_BY(mutex_);
  std::vector<EndReason> ends_ ABSL_GUARDED_BY(mutex_);
};

// The first byte of a client's first datagram is the number of its player.
class PlayerResolver final : public BackendResolver {
 public:
  static constexpr int kPlayers = 20;

  explicit PlayerResolver(const SocketAddress& backend) : backend_(backend) {
    for (int i = 0; i < kPlayers; ++i) {
      players_.push_back(std::make_shared<PlayerTag>(i));
    }
  }

  Screening Screen(const SocketAddress& /*client*/,
                   absl::Span<const char> datagram) override {
    Screening screening;
    if (datagram.empty() || datagram[0] >= kPlayers) {
      screening.drop = DropReason::kStunUnknownUfrag;
    } else {
      screening.is_known_player =
          players_[static_cast<size_t>(datagram[0])]->client().is_valid();
    }
    return screening;
  }
  void Resolve(const ResolveRequest& request, Callback done) override {
    ResolveResult result{backend_, "lobby"};
    result.is_client_proven = true;
    const std::shared_ptr<PlayerTag>& player =
        players_[static_cast<size_t>(request.first_datagram[0])];
    result.tag = player;
    result.moved_from = player->client();
    result.relay = player->relay();
    done(std::move(result));
  }
  std::vector<SocketAddress> HandleDisconnect(
      const DisconnectTarget& target) override {
    internal::MutexLock lock(&mutex_);
    disconnects_.push_back(target);
    return {};
  }

  PlayerTag& player(int number) {
    return *players_[static_cast<size_t>(number)];
  }
  std::vector<DisconnectTarget> disconnects() const {
    internal::MutexLock lock(&mutex_);
    return disconnects_;
  }

 private:
  const SocketAddress backend_;
  std::vector<std::shared_ptr<PlayerTag>> players_;
  mutable internal::Mutex mutex_;
  std::vector<DisconnectTarget> disconnects_ ABSL_GUARDED_BY(mutex_);
};

class ProxyPlayersTest : public ProxyTest {
 protected:
  static constexpr int kPlayers = PlayerResolver::kPlayers;

  ProxyPlayersTest() { dependencies_.resolver = players_; }

  static std::string Check(int player) {
    return absl::StrCat(std::string(1, static_cast<char>(player)), "check");
  }

  std::shared_ptr<PlayerResolver> players_ =
      std::make_shared<PlayerResolver>(backend_.address());
};

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyPlayersTest, AllThreadCounts(),
                         NameOf);

TEST_P(ProxyPlayersTest, PlayersWhoMoveKeepTheirSourcePorts) {
  Start();
  std::vector<LoopbackPeer> before(kPlayers), after(kPlayers);
  std::vector<SocketAddress> relays;
  for (int i = 0; i < kPlayers; ++i) {
    EXPECT_EQ(Ask(before[i], Check(i)), "echo:" + Check(i));
    relays.push_back(players_->player(i).relay());
  }
  // Among so many some move to another shard.
  for (int i = 0; i < kPlayers; ++i) {
    EXPECT_EQ(Ask(after[i], Check(i)), "echo:" + Check(i));
    EXPECT_EQ(players_->player(i).client(), after[i].address());
    EXPECT_EQ(players_->player(i).relay(), relays[i]);
    EXPECT_THAT(players_->player(i).ends(),
                ::testing::ElementsAre(EndReason::kClientMoved));
  }
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kClientMoved), uint64_t{kPlayers});
  EXPECT_EQ(stats.sessions_active, uint64_t{kPlayers});
  EXPECT_EQ(stats.sessions_confirmed, uint64_t{kPlayers});
  EXPECT_EQ(stats.quarantined_ports_taken, 0u);
  EXPECT_EQ(stats.relay_ports_in_use, uint64_t{kPlayers});
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

TEST_P(ProxyPlayersTest, StoppingInTheMiddleOfMovesEndsAll) {
  Start();
  std::vector<LoopbackPeer> before(kPlayers), after(kPlayers);
  for (int i = 0; i < kPlayers; ++i) {
    EXPECT_EQ(Ask(before[i], Check(i)), "echo:" + Check(i));
  }
  for (int i = 0; i < kPlayers; ++i) Send(after[i], Check(i));
  proxy_->Stop();
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.sessions_active + stats.sessions_pending, 0u);
  EXPECT_EQ(stats.datagrams_held, 0u);
  EXPECT_TRUE(IsAccounted(stats));
}

TEST_P(ProxyPlayersTest, ListsShowPlayersAndDisconnectsReachTheResolver) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, Check(3)), "echo:" + Check(3));
  const std::vector<SessionInfo> sessions = Sessions();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].tag, "player 3");
  EXPECT_EQ(sessions[0].tag_key, "3");
  EXPECT_EQ(sessions[0].state, SessionState::kConfirmed);
  const auto target = DisconnectTarget::ForBackend(backend_.address());
  EXPECT_EQ(Disconnect(target), 1);
  EXPECT_THAT(players_->disconnects(), ::testing::ElementsAre(target));
  EXPECT_THAT(players_->player(3).ends(),
              ::testing::ElementsAre(EndReason::kDisconnected));
}

TEST_P(ProxyPlayersTest, ADrainLetsKnownPlayersMoveAndRefusesOthers) {
  Start();
  LoopbackPeer client, moved, stranger;
  EXPECT_EQ(Ask(client, Check(1)), "echo:" + Check(1));
  proxy_->Drain();
  EXPECT_EQ(Ask(moved, Check(1)), "echo:" + Check(1));
  Send(stranger, Check(2));
  EXPECT_TRUE(AwaitDropped(DropReason::kDraining, 1));
  Send(stranger, "unknown");
  EXPECT_TRUE(AwaitDropped(DropReason::kStunUnknownUfrag, 1));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 1u);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
