// Backends that fail, restart and move, and idle sessions.
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

class BackendTest : public InProcessGateTest,
                    public ::testing::WithParamInterface<Shape> {
 protected:
  void Start() {
    options_.proxy.worker_count = GetParam().worker_count;
    options_.proxy.listener_count = GetParam().listener_count;
    StartInProcess();
  }
  const SocketAddress& address() { return in_process().address(); }

  // Sends a datagram to a stopped backend and waits for the ICMP error.
  void MeetRefusal(LoopbackPeer* client) {
    const uint64_t before = in_process().stats().backend_refusals;
    ASSERT_TRUE(client->Send(address(), "refused").ok());
    ASSERT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
      return stats.backend_refusals == before + 1;
    }));
  }
};

INSTANTIATE_TEST_SUITE_P(Shapes, BackendTest,
                         ::testing::Values(Shape{0, 1}, Shape{4, 1},
                                           Shape{4, 3}),
                         ShapeName);

TEST_P(BackendTest, OneRefusalDoesNotEndTheSession) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  // A refusal is pending on the socket: the next datagram must arrive despite
  // that stale error.
  for (int i = 0; i < 20; ++i) {
    lobby.Stop();
    ASSERT_TRUE(client.Send(address(), "into the void").ok());
    ASSERT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
      return stats.client_datagrams_forwarded + stats.dropped_total() ==
             static_cast<uint64_t>(2 + 2 * i);
    }));
    lobby.Start();
    ASSERT_TRUE(IsServedBy(&client, address(), "lobby")) << i;
  }
  const ProxyStats stats = in_process().stats();
  EXPECT_EQ(stats.sessions_created, 1u);
  EXPECT_EQ(stats.sessions_active, 1u);
  EXPECT_GT(stats.backend_refusals, 0u);
  EXPECT_EQ(lobby.sources().size(), 1u);
}

TEST_P(BackendTest,
       ConsecutiveRefusalsEndTheSessionAndTheNextDatagramResolves) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  lobby.Stop();
  SetBackend(arena);
  for (int i = 0; i < 3; ++i) MeetRefusal(&client);
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.ended(EndReason::kBackendRefused) == 1 &&
           stats.sessions_active == 0;
  }));
  EXPECT_TRUE(IsServedBy(&client, address(), "arena", 5));
}

TEST_P(BackendTest, AReplyResetsTheCountOfRefusals) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  for (int i = 0; i < 5; ++i) {
    lobby.Stop();
    MeetRefusal(&client);
    MeetRefusal(&client);
    lobby.Start();
    ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  }
  EXPECT_EQ(in_process().stats().sessions_created, 1u);
  EXPECT_EQ(in_process().stats().ended_total(), 0u);
}

TEST_P(BackendTest, TheNumberOfRefusalsIsASetting) {
  options_.proxy.limits.backend_refusals_max = 1;
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  Start();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  lobby.Stop();
  SetBackend(arena);
  MeetRefusal(&client);
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.ended(EndReason::kBackendRefused) == 1;
  }));
  EXPECT_TRUE(IsServedBy(&client, address(), "arena"));
}

TEST_P(BackendTest, ADeadBackendDoesNotAffectSessionsOfAnother) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  Start();
  std::vector<LoopbackPeer> in_lobby(4);
  for (LoopbackPeer& client : in_lobby) {
    ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  }
  SetBackend(arena);
  std::vector<LoopbackPeer> in_arena(4);
  for (LoopbackPeer& client : in_arena) {
    ASSERT_TRUE(IsServedBy(&client, address(), "arena"));
  }
  lobby.Stop();
  for (size_t i = 0; i < in_lobby.size(); ++i) {
    for (int j = 0; j < 3; ++j) MeetRefusal(&in_lobby[i]);
    EXPECT_TRUE(IsServedBy(&in_arena[i], address(), "arena", 3));
  }
  // The key names another backend already.
  for (LoopbackPeer& client : in_lobby) {
    EXPECT_TRUE(IsServedBy(&client, address(), "arena"));
  }
  EXPECT_EQ(arena.sources().size(), 8u);
}

TEST_P(BackendTest, TheProgramMovesClientsOfADeadBackend) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam());
  std::vector<LoopbackPeer> clients(8);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(IsServedBy(&client, gate().address(), "lobby"));
  }
  lobby.Stop();
  SetBackend(arena);
  for (LoopbackPeer& client : clients) {
    EXPECT_TRUE(AwaitServedBy(&client, gate().address(), "arena"));
  }
}

constexpr absl::Duration kIdleTimeout = absl::Seconds(1);
// Tolerance for a busy machine.
constexpr absl::Duration kLateness = absl::Milliseconds(500 * kSlowness);

TEST_P(BackendTest, AnIdleSessionExpiresInTime) {
  options_.proxy.limits.session_idle_timeout = kIdleTimeout;
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  Start();
  std::vector<LoopbackPeer> clients(20);
  const absl::Time first = absl::Now();
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  }
  const absl::Time last = absl::Now();
  const uint64_t count = clients.size();
  ASSERT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
    return stats.ended(EndReason::kIdle) > 0;
  }));
  EXPECT_GE(absl::Now() - first, kIdleTimeout);
  ASSERT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
    return stats.ended(EndReason::kIdle) == count &&
           stats.sessions_active == 0 && stats.relay_ports_in_use == 0;
  }));
  EXPECT_LE(absl::Now() - last, 1.25 * kIdleTimeout + kLateness);
  // The next datagram resolves again.
  EchoBackend arena("arena");
  SetBackend(arena);
  EXPECT_TRUE(IsServedBy(&clients[0], address(), "arena"));
}

TEST_P(BackendTest, DatagramsOfEitherDirectionKeepASession) {
  options_.proxy.limits.session_idle_timeout = kIdleTimeout;
  EchoBackend mute("mute");
  EchoBackend talkative("talkative");
  SetBackend(mute);
  Start();
  LoopbackPeer speaker;
  ASSERT_TRUE(IsServedBy(&speaker, address(), "mute"));
  LoopbackPeer forgotten;
  ASSERT_TRUE(IsServedBy(&forgotten, address(), "mute"));
  mute.set_silent(true);
  SetBackend(talkative);
  LoopbackPeer listener;
  ASSERT_TRUE(IsServedBy(&listener, address(), "talkative"));
  const SocketAddress relay = talkative.sources().front();
  const absl::Time end = absl::Now() + 2.6 * kIdleTimeout;
  while (absl::Now() < end) {
    ASSERT_TRUE(talkative.Send(relay, "news").ok());
    ASSERT_TRUE(listener.Receive().ok());
    ASSERT_TRUE(speaker.Send(address(), "anybody?").ok());
    // Waits on purpose; nothing is received.
    EXPECT_FALSE(speaker.Receive(kIdleTimeout / 5).ok());
  }
  const ProxyStats stats = in_process().stats();
  EXPECT_EQ(stats.sessions_active, 2u);
  EXPECT_EQ(stats.ended(EndReason::kIdle), 1u);
  EXPECT_EQ(stats.sessions_created, 3u);
}

TEST_P(BackendTest, TheProgramExpiresAnIdleSession) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(GetParam(), {{"SESSION_IDLE_TIMEOUT_SECS", "1"}});
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, gate().address(), "lobby"));
  SetBackend(arena);
  // Waits on purpose for more than 1.25 times the time-out, without datagrams.
  EXPECT_FALSE(client.Receive(1.25 * kIdleTimeout + kLateness).ok());
  EXPECT_TRUE(IsServedBy(&client, gate().address(), "arena"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
