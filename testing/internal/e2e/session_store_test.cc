// SESSION_STORE: sessions survive the end of the gateway.
#include <signal.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/internal/e2e/store_gate.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/tcp_relay.h"

namespace udpgate {
namespace test {
namespace {

using ::nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class SessionStoreTest : public StoreGateTest {
 protected:
  // Plays until the session of each is confirmed, and its record written.
  bool AwaitRecords(std::vector<LoopbackPeer>* players,
                    const std::string& backend = "lobby") {
    return AwaitTrue([&] {
      bool has_all = true;
      for (LoopbackPeer& player : *players) {
        EXPECT_TRUE(IsServedBy(&player, address_, backend));
        if (RecordOf(player).empty()) has_all = false;
      }
      return has_all;
    });
  }
  static std::vector<std::string> Keys() {
    const absl::StatusOr<std::string> keys =
        redis().Command({"KEYS", absl::StrCat(kSessionPrefix, "*")});
    return absl::StrSplit(keys.value_or("?"), '\n', absl::SkipEmpty());
  }

  HttpReply Get(const std::string& path) {
    return HttpGet(gateway_->AdminAddress(), path).value_or(HttpReply());
  }
};

TEST_F(SessionStoreTest, AKilledGatewayContinuesEachSessionOnItsPorts) {
  Launch();
  std::vector<LoopbackPeer> players(20);
  ASSERT_TRUE(AwaitRecords(&players));
  const std::vector<SocketAddress> relays = lobby_.sources();
  ASSERT_EQ(relays.size(), players.size());
  // Nobody would be sent to the lobby any more.
  EchoBackend arena("arena");
  SetBackend(arena);
  Kill();
  Launch();
  EXPECT_THAT(gateway_->log(),
              HasSubstr("continues 20 sessions of the former process, 0 of "
                        "them on another source port, and lost 0"));
  // The backend speaks first.
  for (const SocketAddress& relay : relays) {
    ASSERT_TRUE(lobby_.Send(relay, relay.ToString()).ok());
  }
  std::set<std::string> heard;
  for (LoopbackPeer& player : players) {
    const absl::StatusOr<Datagram> datagram = player.Receive();
    ASSERT_TRUE(datagram.ok()) << datagram.status() << gateway_->log();
    EXPECT_EQ(datagram->from, address_);
    heard.insert(datagram->payload);
  }
  EXPECT_EQ(heard.size(), relays.size());
  for (LoopbackPeer& player : players) {
    EXPECT_TRUE(IsServedBy(&player, address_, "lobby"));
  }
  EXPECT_EQ(lobby_.sources().size(), relays.size());
  EXPECT_EQ(arena.received_count(), 0u);
}

TEST_F(SessionStoreTest, ARestartEndsNoSession) {
  Launch({{"SESSION_LOG", "end"}});
  std::vector<LoopbackPeer> players(5);
  ASSERT_TRUE(AwaitRecords(&players));
  for (int i = 0; i < 2; ++i) {
    const absl::StatusOr<ExitResult> end = gateway_->Terminate();
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_TRUE(end->exited_with(0)) << gateway_->log();
    EXPECT_LE(end->duration, kStopTimeMax);
    // Another gateway could have them at once.
    EXPECT_EQ(
        redis()
            .Command({"EXISTS", absl::StrCat(kSessionPrefix, "@lease:first")})
            .value_or(""),
        "0");
    Launch({{"SESSION_LOG", "end"}});
    for (LoopbackPeer& player : players) {
      EXPECT_TRUE(IsServedBy(&player, address_, "lobby"));
    }
  }
  EXPECT_EQ(lobby_.sources().size(), players.size());
}

TEST_F(SessionStoreTest, ARecordWhosePortIsTakenKeepsItsBackend) {
  Launch();
  std::vector<LoopbackPeer> players(2);
  ASSERT_TRUE(AwaitRecords(&players));
  const std::vector<SocketAddress> relays = lobby_.sources();
  EchoBackend arena("arena");
  SetBackend(arena);
  Kill();
  const LoopbackPeer other(relays[0]);
  Launch();
  EXPECT_THAT(gateway_->log(),
              HasSubstr("continues 2 sessions of the former process, 1 of them "
                        "on another source port, and lost 0"));
  for (LoopbackPeer& player : players) {
    EXPECT_TRUE(IsServedBy(&player, address_, "lobby"));
  }
  EXPECT_EQ(lobby_.sources().size(), 3u);
  EXPECT_EQ(arena.received_count(), 0u);
}

TEST_F(SessionStoreTest, WithoutRedisAtTheRestartRecoveryFollows) {
  TcpRelay relay(redis().port());
  const std::map<std::string, std::string> environment = {
      {"REDIS_ADDR", relay.address()}};
  Launch(environment);
  std::vector<LoopbackPeer> players(3);
  ASSERT_TRUE(AwaitRecords(&players));
  const std::vector<SocketAddress> relays = lobby_.sources();
  Kill();
  relay.HoldReplies();
  Launch(environment);
  EXPECT_THAT(gateway_->log(),
              HasSubstr("starting without all former sessions: "));
  // It is ready for new clients as far as the store is concerned.
  EXPECT_TRUE(AwaitTrue([this] {
    return absl::StrContains(Get("/readyz").body, "warning: session_store: ");
  })) << Get("/readyz").body;
  relay.ReleaseReplies();
  // The backend is heard without a word of the player.
  EXPECT_TRUE(AwaitTrue([&] {
    for (const SocketAddress& address : relays) {
      EXPECT_TRUE(lobby_.Send(address, "hello").ok());
    }
    return std::all_of(players.begin(), players.end(), [](LoopbackPeer& peer) {
      return peer.Receive(absl::Milliseconds(20)).ok();
    });
  })) << gateway_->log();
  EXPECT_EQ(lobby_.sources().size(), relays.size());
  EXPECT_TRUE(AwaitTrue([this] {
    return absl::StrContains(gateway_->log(),
                             "continues 3 sessions of the former process, 0 of "
                             "them on another source port, and lost 0, in ");
  })) << gateway_->log();
}

TEST_F(SessionStoreTest, ADisconnectEventRemovesTheRecord) {
  Launch();
  std::vector<LoopbackPeer> players(2);
  ASSERT_TRUE(AwaitRecords(&players));
  EchoBackend arena("arena");
  SetBackend(arena);
  Publish(players[0].address().ToString());
  EXPECT_TRUE(AwaitTrue([&] { return RecordOf(players[0]).empty(); }));
  EXPECT_FALSE(RecordOf(players[1]).empty());
  Kill();
  Launch();
  EXPECT_TRUE(IsServedBy(&players[0], address_, "arena"));
  EXPECT_TRUE(IsServedBy(&players[1], address_, "lobby"));
}

TEST_F(SessionStoreTest, ADisconnectEventRemovesRecordsOfADeadGateway) {
  Launch();
  std::vector<LoopbackPeer> players(2);
  ASSERT_TRUE(AwaitRecords(&players));
  Kill();
  const std::unique_ptr<GateProcess> other =
      MakeGateway({{"GATEWAY_ID", "second"}, {"PROXY_ADDR", "127.0.0.1:0"}});
  ASSERT_TRUE(other->Start().ok()) << other->log();
  Publish(absl::StrCat("backend ", lobby_.address().ToString()));
  for (const LoopbackPeer& player : players) {
    EXPECT_TRUE(AwaitTrue([&] { return RecordOf(player).empty(); }));
  }
  EXPECT_TRUE(other->Terminate()->exited_with(0));
}

TEST_F(SessionStoreTest, AnotherGatewayContinuesTheSessionsOfADeadOne) {
  Launch();
  std::vector<LoopbackPeer> players(3);
  ASSERT_TRUE(AwaitRecords(&players));
  const std::vector<SocketAddress> relays = lobby_.sources();
  EchoBackend arena("arena");
  SetBackend(arena);
  Kill();
  // The lease of the dead one runs out.
  ASSERT_TRUE(AwaitTrue([] {
    return redis()
               .Command(
                   {"EXISTS", absl::StrCat(kSessionPrefix, "@lease:first")})
               .value_or("") == "0";
  }));
  Launch({{"GATEWAY_ID", "second"}});
  for (LoopbackPeer& player : players) {
    EXPECT_TRUE(IsServedBy(&player, address_, "lobby"));
  }
  EXPECT_EQ(lobby_.sources().size(), relays.size());
  EXPECT_EQ(arena.received_count(), 0u);
  for (const LoopbackPeer& player : players) {
    EXPECT_TRUE(AwaitTrue([&] {
      return absl::StrContains(RecordOf(player), " second ");
    })) << RecordOf(player);
  }
}

TEST_F(SessionStoreTest, OnlyConfirmedSessionsAreWritten) {
  Launch();
  LoopbackPeer forged;
  ASSERT_TRUE(forged.Send(address_, "hello").ok());
  std::vector<LoopbackPeer> players(1);
  ASSERT_TRUE(AwaitRecords(&players));
  EXPECT_EQ(RecordOf(forged), "");
  EXPECT_LE(RecordOf(players[0]).size(), 400u);
  const json status = json::parse(Get("/api/v1/status").body, nullptr, false);
  EXPECT_EQ(status["stats"]["sessions_active"], 2);
  EXPECT_EQ(status["session_store"]["sessions_with_record"], 1);
  EXPECT_THAT(Get("/metrics").body,
              HasSubstr("udpgate_component_up{component=\"session_store\"} 1"));
  EXPECT_THAT(Get("/metrics").body, HasSubstr("udpgate_store_sessions 1"));
}

TEST_F(SessionStoreTest, AnEndRemovesTheRecord) {
  Launch({{"SESSION_IDLE_TIMEOUT_SECS", "1"}});
  std::vector<LoopbackPeer> players(1);
  ASSERT_TRUE(AwaitRecords(&players));
  EXPECT_TRUE(AwaitTrue([&] { return RecordOf(players[0]).empty(); }));
}

TEST_F(SessionStoreTest, OffWritesNothing) {
  Launch({{"SESSION_STORE", "off"}, {"SESSION_LOG", "all"}});
  std::vector<LoopbackPeer> players(1);
  ASSERT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(IsServedBy(&players[0], address_, "lobby"));
    return absl::StrContains(gateway_->log(), "confirmed");
  }));
  EXPECT_TRUE(gateway_->Terminate()->exited_with(0));
  EXPECT_THAT(Keys(), ::testing::IsEmpty());
  EXPECT_THAT(gateway_->log(), Not(HasSubstr("session store")));
}

TEST_F(SessionStoreTest, ATakeoverContinuesTheRun) {
  TemporaryDirectory directory;
  const std::string path = absl::StrCat(directory.path(), "/takeover.sock");
  Launch({{"TAKEOVER_SOCKET", path}});
  std::vector<LoopbackPeer> players(3);
  ASSERT_TRUE(AwaitRecords(&players));
  std::vector<std::string> records;
  for (const LoopbackPeer& player : players) {
    records.push_back(RecordOf(player));
  }
  std::unique_ptr<GateProcess> next = MakeGateway({}, {"--takeover", path});
  ASSERT_TRUE(next->Start().ok()) << next->log();
  ASSERT_TRUE(gateway_->AwaitExit().ok());
  gateway_ = std::move(next);
  for (LoopbackPeer& player : players) {
    EXPECT_TRUE(IsServedBy(&player, address_, "lobby"));
  }
  // Nothing had to be written, and nothing was removed.
  for (size_t i = 0; i < players.size(); ++i) {
    EXPECT_EQ(RecordOf(players[i]), records[i]);
  }
  // The lease is renewed, and new sessions are written.
  std::vector<LoopbackPeer> newcomers(1);
  ASSERT_TRUE(AwaitRecords(&newcomers));
  Kill();
  Launch();
  EXPECT_THAT(gateway_->log(),
              HasSubstr("continues 4 sessions of the former process, 0 of"));
  for (LoopbackPeer& player : players) {
    EXPECT_TRUE(IsServedBy(&player, address_, "lobby"));
  }
  EXPECT_EQ(lobby_.sources().size(), 4u);
}

TEST_F(SessionStoreTest, ADrainedGatewayGivesItsLeaseBack) {
  Launch({{"DRAIN_TIMEOUT_SECS", "60"}});
  std::vector<LoopbackPeer> players(1);
  ASSERT_TRUE(AwaitRecords(&players));
  gateway_->Signal(SIGTERM);
  ASSERT_TRUE(gateway_->AwaitLog("draining"));
  EXPECT_TRUE(IsServedBy(&players[0], address_, "lobby"));
  EXPECT_FALSE(RecordOf(players[0]).empty());
  gateway_->Signal(SIGTERM);
  ASSERT_TRUE(gateway_->AwaitExit().ok());
  EXPECT_FALSE(RecordOf(players[0]).empty());
  EXPECT_EQ(
      redis()
          .Command({"EXISTS", absl::StrCat(kSessionPrefix, "@lease:first")})
          .value_or(""),
      "0");
}

TEST_F(SessionStoreTest, TwoGatewaysOfOneIdHarmNoSession) {
  Launch();
  std::vector<LoopbackPeer> players(2);
  ASSERT_TRUE(AwaitRecords(&players));
  const std::unique_ptr<GateProcess> other =
      MakeGateway({{"PROXY_ADDR", "127.0.0.1:0"}});
  ASSERT_TRUE(other->Start().ok()) << other->log();
  // One of them says so.
  EXPECT_TRUE(AwaitTrue([&] {
    return absl::StrContains(gateway_->log() + other->log(), "GATEWAY_ID") ||
           absl::StrContains(gateway_->log() + other->log(), "gateway id");
  }));
  for (LoopbackPeer& player : players) {
    EXPECT_TRUE(IsServedBy(&player, address_, "lobby"));
  }
  EXPECT_EQ(lobby_.sources().size(), players.size());
  EXPECT_TRUE(other->Terminate()->exited_with(0));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
