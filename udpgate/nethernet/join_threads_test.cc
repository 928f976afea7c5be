// What data-plane threads, signaling, operators and a takeover do at once.
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "udpgate/clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join_fixture.h"
#include "udpgate/nethernet/join_table.h"

namespace udpgate {
namespace nethernet {
namespace test {
namespace {

constexpr int kPlayers = 4;
constexpr int kRounds = 100;

SocketAddress Client(int player, int round) {
  return Address(absl::StrCat("192.0.2.", player + 1, ":", 1000 + round));
}

// A player who joins, plays, and leaves or is disconnected, again and again.
void Play(int player, JoinTable* table) {
  for (int round = 0; round < kRounds; ++round) {
    const std::string ufrag = absl::StrCat("uf", player, "r", round);
    const Join join =
        JoinWith(ufrag, absl::StrCat("192.0.2.", player + 1, ":1"));
    auto reservation =
        table->Reserve(join.player, join.backend, join.backend_label);
    ASSERT_TRUE(reservation.ok()) << reservation.status();
    if (!table->Commit(*std::move(reservation), join).ok()) continue;
    const std::string check = CheckOf(ufrag);
    for (int moves = 0; moves < 3; ++moves) {
      const SocketAddress client = Client(player, round * 3 + moves);
      const SocketAddress relay = SocketAddress::Ipv4Loopback(
          static_cast<uint16_t>(30000 + player * kRounds + round));
      table->Screen(client, check);
      const auto result = ResolveOf(client, check, table);
      if (!result.ok()) continue;  // disconnected
      result->tag->OnBegin(client, relay);
      result->tag->OnEnd(
          client, relay,
          round % 3 == 0 ? EndReason::kDisconnected : EndReason::kClientMoved);
    }
  }
}

void Operate(const std::atomic<bool>* is_over, JoinTable* table) {
  JoinTable other(JoinTableOptions(), Clock::Monotonic());
  for (int round = 0; !*is_over; ++round) {
    table->HandleDisconnect(*DisconnectTarget::Parse(
        absl::StrCat("ip 192.0.2.", round % kPlayers + 1)));
    table->List();
    table->stats();
    EXPECT_TRUE(table->SetOptions(JoinTableOptions()).ok());
    EXPECT_TRUE(other.Import(table->Export(round % 2 == 1)).ok());
    Join shared = JoinWith(absl::StrCat("shared", round));
    shared.id = shared.ufrag;
    table->AddShared(shared, absl::ZeroDuration());
    table->EndShared(shared.id);
    std::this_thread::yield();
  }
}

TEST(JoinThreadsTest, EachJoinIsCountedOnceWhateverHappensAtOnce) {
  JoinTable table(JoinTableOptions(), Clock::Monotonic());
  std::atomic<bool> is_over{false};
  std::thread operator_thread(Operate, &is_over, &table);
  std::vector<std::thread> players;
  players.reserve(kPlayers);
  for (int player = 0; player < kPlayers; ++player) {
    players.emplace_back(Play, player, &table);
  }
  for (std::thread& player : players) player.join();
  is_over = true;
  operator_thread.join();
  const JoinTableStats stats = table.stats();
  EXPECT_GT(stats.joins_added, 0u);
  EXPECT_EQ(
      stats.joins_added + stats.joins_shared,
      stats.joins_disconnected + stats.joins_expired + stats.joins_left +
          static_cast<uint64_t>(stats.joins_waiting + stats.joins_lingering +
                                stats.joins_live));
  EXPECT_EQ(stats.joins_live, 0);
  EXPECT_EQ(stats.joins_shared_waiting, 0);
  EXPECT_EQ(stats.joins_displaced, 0u);
}

}  // namespace
}  // namespace test
}  // namespace nethernet
}  // namespace udpgate
