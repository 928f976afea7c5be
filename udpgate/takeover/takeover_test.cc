// What a takeover keeps: sessions, datagrams, ports, limits.
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/mock_flow_offload.h"
#include "udpgate/clock.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/messages.h"
#include "udpgate/takeover/predecessor.h"
#include "udpgate/takeover/takeover_fixture.h"
#include "udpgate/takeover/takeover_server.h"

namespace udpgate {
namespace test {
namespace {

class TakeoverShapeTest
    : public TakeoverTest,
      public ::testing::WithParamInterface<std::pair<Shape, Shape>> {};

TEST_P(TakeoverShapeTest, SessionsContinue) {
  constexpr int kClients = 100;
  const auto& [old_shape, new_shape] = GetParam();
  StartOld(old_shape);
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) {
    ASSERT_EQ(client.Ask(address_, "a").value_or("nothing"), "first:a");
  }
  const std::vector<SessionInfo> before = old_.Sessions();
  ASSERT_EQ(before.size(), clients.size());
  const ProxyStats stats_before = old_->GetStats();
  ASSERT_EQ(old_->CountSessionsByBackend().size(), 1u);

  const absl::StatusOr<TakenOver> taken = TakeOver(new_shape);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->session_count, kClients);
  EXPECT_GT(taken->pause, absl::ZeroDuration());
  EXPECT_TRUE(AwaitTrue([&] { return old_.is_handed_over(); }));

  const std::vector<SessionInfo> after = new_.Sessions();
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].id, before[i].id);
    EXPECT_EQ(after[i].client, before[i].client);
    EXPECT_EQ(after[i].backend, before[i].backend);
    EXPECT_EQ(after[i].relay, before[i].relay);
    EXPECT_EQ(after[i].label, before[i].label);
    EXPECT_EQ(after[i].state, before[i].state);
    EXPECT_EQ(after[i].client_bytes_forwarded,
              before[i].client_bytes_forwarded);
    EXPECT_EQ(after[i].backend_datagrams_forwarded,
              before[i].backend_datagrams_forwarded);
    EXPECT_GE(after[i].age, before[i].age);
    EXPECT_GE(after[i].idle, before[i].idle);
    EXPECT_LT(after[i].idle, absl::Seconds(20));
  }
  const ProxyStats stats_after = new_->GetStats();
  EXPECT_EQ(stats_after.sessions_created, stats_before.sessions_created);
  EXPECT_EQ(stats_after.sessions_active, stats_before.sessions_active);
  EXPECT_EQ(stats_after.ended_total(), stats_before.ended_total());
  EXPECT_EQ(stats_after.client_datagrams_received,
            stats_before.client_datagrams_received);
  EXPECT_EQ(stats_after.resolves_by_duration,
            stats_before.resolves_by_duration);
  EXPECT_EQ(stats_after.resolve_nanoseconds_total,
            stats_before.resolve_nanoseconds_total);
  EXPECT_EQ(stats_after.relay_ports_in_use, stats_before.relay_ports_in_use);
  EXPECT_EQ(old_->GetStats().ended_total(), 0u);
  EXPECT_EQ(old_->GetStats().sessions_active, 0u);
  EXPECT_THAT(old_->CountSessionsByBackend(), ::testing::IsEmpty());
  EXPECT_THAT(
      new_->CountSessionsByBackend(),
      ::testing::ElementsAre(::testing::FieldsAre(first_.address(), kClients)));

  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(client.Ask(address_, "b").value_or("nothing"), "first:b");
  }
  EXPECT_EQ(first_.sources().size(), clients.size());
  // A new session gets the new gate's backend, an id and a port of its own.
  LoopbackPeer newcomer;
  EXPECT_EQ(newcomer.Ask(address_, "c").value_or("nothing"), "second:c");
  EXPECT_GT(new_.Sessions().back().id, before.back().id);
  EXPECT_EQ(new_->GetStats().relay_ports_in_use, clients.size() + 1);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, TakeoverShapeTest,
    ::testing::Values(std::make_pair(Shape{1, 1}, Shape{1, 1}),
                      std::make_pair(Shape{4, 2}, Shape{2, 1}),
                      std::make_pair(Shape{0, 2}, Shape{3, 1}),
                      std::make_pair(Shape{3, 2}, Shape{0, 1})));

TEST_F(TakeoverTest, ManySessionsTakeSeveralMessages) {
  constexpr int kClients = 700;
  StartOld({2, 1});
  ProxyLimits limits;
  limits.max_unconfirmed_sessions_per_ip = 0;
  ASSERT_TRUE(old_->SetLimits(limits).ok());
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(client.Ask(address_, "a").ok());
  }
  const absl::StatusOr<TakenOver> taken = TakeOver();
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->session_count, kClients);
  for (LoopbackPeer& client : clients) {
    ASSERT_EQ(client.Ask(address_, "b").value_or("nothing"), "first:b");
  }
}

TEST_F(TakeoverTest, TheNewProcessResolvesPendingClients) {
  auto resolver = std::make_shared<NiceMock<MockBackendResolver>>();
  EXPECT_CALL(*resolver, Resolve).WillOnce(HoldResolveIn(&held_));
  StartOld({1, 1}, {}, resolver);
  ASSERT_TRUE(client_.Send(address_, "one").ok());
  absl::StatusOr<HeldResolve> pending = held_.Take();
  ASSERT_TRUE(pending.ok());
  ASSERT_TRUE(client_.Send(address_, std::string(60000, 'x')).ok());
  ASSERT_TRUE(client_.Send(address_, "three").ok());
  ASSERT_TRUE(AwaitTrue([&] { return old_->GetStats().datagrams_held == 3; }));

  ASSERT_TRUE(TakeOver().ok());
  pending->done(ResolveResult{first_.address(), "late"});
  ASSERT_TRUE(second_.AwaitReceived(3));
  const std::vector<Datagram> received = second_.received();
  EXPECT_EQ(received[0].payload, "one");
  EXPECT_EQ(received[1].payload, std::string(60000, 'x'));
  EXPECT_EQ(received[2].payload, "three");
  EXPECT_EQ(new_->GetStats().datagrams_held, 0u);
  EXPECT_EQ(first_.received_count(), 0u);
}

TEST_F(TakeoverTest, CountsUnconfirmedSessionsOfAnAddress) {
  old_.Create(Options(), Fixed(first_));
  ASSERT_TRUE(old_->Start().ok());
  address_ = old_->listen_addresses().front();
  old_.Serve();
  ASSERT_TRUE(AwaitTrue([&] {
    return client_.Ask(address_, "a").ok() &&
           old_->GetStats().sessions_confirmed == 1;
  }));
  LoopbackPeer second, third;
  ASSERT_TRUE(second.Ask(address_, "b").ok());

  ProxyOptions new_options = Options();
  new_options.limits.max_unconfirmed_sessions_per_ip = 1;
  ASSERT_TRUE(TakeOverWith(std::move(new_options)).ok());
  ASSERT_TRUE(third.Send(address_, "refused").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return new_->GetStats().dropped(DropReason::kUnconfirmedLimitPerIp) == 1;
  }));
  new_->Disconnect(DisconnectTarget::ForClient(client_.address()));
  ASSERT_TRUE(AwaitTrue([&] { return new_->GetStats().sessions_active == 1; }))
      << "a confirmed one makes no room";
  ASSERT_TRUE(third.Send(address_, "refused").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return new_->GetStats().dropped(DropReason::kUnconfirmedLimitPerIp) == 2;
  }));
  new_->Disconnect(DisconnectTarget::ForClient(second.address()));
  EXPECT_TRUE(AwaitTrue([&] { return new_->GetStats().sessions_active == 0; }));
  EXPECT_TRUE(third.Ask(address_, "c").ok());
}

TEST_F(TakeoverTest, KeepsTheStateOfSessions) {
  ProxyOptions options = Options();
  options.limits.max_sessions_per_ip = 1;
  old_.Create(std::move(options), Fixed(first_));
  ASSERT_TRUE(old_->Start().ok());
  address_ = old_->listen_addresses().front();
  old_.Serve();
  // Until it counts as confirmed, which takes a second.
  ASSERT_TRUE(AwaitTrue([&] {
    return client_.Ask(address_, "a").ok() &&
           old_->GetStats().sessions_confirmed == 1;
  }));
  const SessionInfo before = old_.Sessions().front();

  ProxyOptions new_options = Options();
  new_options.limits.max_sessions_per_ip = 1;
  ASSERT_TRUE(TakeOverWith(std::move(new_options)).ok());
  EXPECT_EQ(new_->GetStats().sessions_confirmed, 1u);
  EXPECT_EQ(new_.Sessions().front().state, SessionState::kConfirmed);
  // Its place is taken, and free once it has ended.
  LoopbackPeer other;
  ASSERT_TRUE(other.Send(address_, "b").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return new_->GetStats().dropped(DropReason::kSessionLimitPerIp) == 1;
  }));
  std::atomic<int64_t> ended{-1};
  new_->Disconnect(DisconnectTarget::ForRelayPort(before.relay.port()),
                   [&](int64_t count) { ended = count; });
  EXPECT_TRUE(AwaitTrue([&] { return ended == 1; }));
  EXPECT_EQ(other.Ask(address_, "c").value_or("nothing"), "second:c");
  // The port that the backend knows rests.
  EXPECT_EQ(new_->GetStats().relay_ports_quarantined, 1u);
}

TEST_F(TakeoverTest, PortsStayInQuarantine) {
  ProxyOptions options = Options();
  {
    // Three that are free.
    const std::vector<LoopbackPeer> peers(3);
    for (const LoopbackPeer& peer : peers) {
      options.relay_ports.push_back(peer.address().port());
    }
  }
  old_.Create(options, Fixed(first_));
  ASSERT_TRUE(old_->Start().ok());
  address_ = old_->listen_addresses().front();
  old_.Serve();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  const uint16_t rested = old_.Sessions().front().relay.port();
  std::atomic<int64_t> ended{-1};
  old_->Disconnect(DisconnectTarget::ForClient(client_.address()),
                   [&](int64_t count) { ended = count; });
  ASSERT_TRUE(AwaitTrue([&] { return ended == 1; }));

  ASSERT_TRUE(TakeOverWith(options).ok());
  EXPECT_EQ(new_->GetStats().relay_ports_quarantined, 1u);
  EXPECT_EQ(new_->GetStats().ended(EndReason::kDisconnected), 1u);
  std::vector<LoopbackPeer> clients(2);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(client.Ask(address_, "b").ok());
  }
  for (const SessionInfo& session : new_.Sessions()) {
    EXPECT_NE(session.relay.port(), rested);
  }
  EXPECT_EQ(new_->GetStats().quarantined_ports_taken, 0u);
}

TEST_F(TakeoverTest, KeepsADisconnectThatArrivesMeanwhile) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  DisconnectSource::Handler handler;
  auto disconnects = std::make_shared<NiceMock<MockDisconnectSource>>();
  EXPECT_CALL(*disconnects, Start)
      .WillOnce([&](DisconnectSource::Handler given) {
        // As it does not start before: what comes now is for later.
        given(DisconnectTarget::ForClient(client_.address()));
        given(absl::InvalidArgumentError("no target"));
        handler = std::move(given);
        return absl::OkStatus();
      });
  ASSERT_TRUE(TakeOver({1, 1}, nullptr, disconnects).ok());
  EXPECT_TRUE(AwaitTrue(
      [&] { return new_->GetStats().ended(EndReason::kDisconnected) == 1; }));
  EXPECT_EQ(new_->GetStats().disconnects_invalid, 1u);
  EXPECT_EQ(client_.Ask(address_, "b").value_or("nothing"), "second:b");
  handler(DisconnectTarget::ForClient(client_.address()));
  EXPECT_TRUE(AwaitTrue(
      [&] { return new_->GetStats().ended(EndReason::kDisconnected) == 2; }));
}

TEST_F(TakeoverTest, NoDatagramIsLostOrReorderedUnderTraffic) {
  constexpr int kClients = 50;
  constexpr int kRounds = 5;
  StartOld({2, 2});
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) {
    ASSERT_EQ(client.Ask(address_, "0").value_or("nothing"), "first:0");
  }
  // Each sends numbers and wants them back in order.
  std::atomic<bool> is_over{false};
  std::atomic<int64_t> sent{0};
  std::atomic<int64_t> received{0};
  std::atomic<int64_t> disordered{0};
  std::thread traffic([&] {
    std::vector<int64_t> next(kClients, 1);
    const auto receive = [&](int i) {
      for (absl::StatusOr<Datagram> reply = clients[i].TryReceive(); reply.ok();
           reply = clients[i].TryReceive()) {
        if (reply->payload != absl::StrCat("first:", next[i])) ++disordered;
        ++next[i];
        ++received;
      }
    };
    for (int64_t number = 1; !is_over; ++number) {
      for (int i = 0; i < kClients; ++i) {
        if (clients[i].Send(address_, absl::StrCat(number)).ok()) ++sent;
        receive(i);
      }
      absl::SleepFor(absl::Milliseconds(2));  // the rate of the traffic
    }
    EXPECT_TRUE(AwaitTrue([&] {
      for (int i = 0; i < kClients; ++i) receive(i);
      return received == sent;
    }));
  });
  // The new one is the next one's old one.
  std::vector<std::unique_ptr<Gate>> gates;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t sent_before = sent;
    ASSERT_TRUE(AwaitTrue([&] { return sent > sent_before + 10 * kClients; }));
    absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
        Predecessor::Connect({path_});
    ASSERT_TRUE(predecessor.ok()) << predecessor.status();
    ProxyOptions options = Options({1 + round % 3, 1});
    (*predecessor)->FillIn(&options);
    gates.push_back(std::make_unique<Gate>(path_));
    gates.back()->Create(std::move(options), Fixed(second_));
    const absl::StatusOr<TakenOver> taken =
        (*predecessor)->TakeOver(gates.back()->get());
    ASSERT_TRUE(taken.ok()) << taken.status();
    EXPECT_EQ(taken->session_count, kClients);
    RecordProperty(absl::StrCat("pause_microseconds_", round),
                   static_cast<int>(absl::ToInt64Microseconds(taken->pause)));
    TakeoverServerOptions server_options;
    server_options.predecessor_path = path_;
    gates.back()->Serve(server_options);
  }
  is_over = true;
  traffic.join();
  EXPECT_EQ(disordered, 0);
  EXPECT_EQ(received, sent);
  EXPECT_EQ(first_.sources().size(), static_cast<size_t>(kClients));
  const ProxyStats stats = (*gates.back())->GetStats();
  EXPECT_EQ(stats.sessions_created, static_cast<uint64_t>(kClients));
  EXPECT_EQ(stats.client_datagrams_forwarded,
            static_cast<uint64_t>(sent + kClients));
  EXPECT_EQ(stats.dropped_total(), 0u);
  while (!gates.empty()) gates.pop_back();  // the youngest first
}

TEST_F(TakeoverTest, PassesFurtherSocketsByName) {
  UniqueFd extra(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  TakeoverServerOptions options;
  options.extra_sockets["admin"] = extra.get();
  StartOld({1, 1}, options);
  absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
      Predecessor::Connect({path_});
  ASSERT_TRUE(predecessor.ok());
  EXPECT_EQ((*predecessor)->listen_address(), address_);
  const UniqueFd taken((*predecessor)->TakeSocket("admin"));
  struct stat ours {};
  struct stat theirs {};
  ASSERT_EQ(::fstat(extra.get(), &ours), 0);
  ASSERT_EQ(::fstat(taken.get(), &theirs), 0);
  EXPECT_EQ(ours.st_ino, theirs.st_ino);
  EXPECT_EQ((*predecessor)->TakeSocket("admin"), -1);
  EXPECT_EQ((*predecessor)->TakeSocket("none"), -1);
}

TEST_F(TakeoverTest, TheStateOfTheHostComesBeforeTheSessions) {
  const std::string state(1'000'000, 's');
  TakeoverServerOptions options;
  options.host_state = [&](bool is_late) {
    if (is_late) return std::string("late");
    // The old process serves meanwhile.
    LoopbackPeer newcomer;
    EXPECT_EQ(newcomer.Ask(address_, "new").value_or("nothing"), "first:new");
    return state;
  };
  StartOld({1, 1}, options);
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
      Predecessor::Connect({path_});
  ASSERT_TRUE(predecessor.ok()) << predecessor.status();
  ProxyOptions new_options = Options();
  (*predecessor)->FillIn(&new_options);
  new_.Create(std::move(new_options), Fixed(second_));
  std::vector<std::pair<std::string, bool>> states;
  const absl::StatusOr<TakenOver> taken =
      (*predecessor)->TakeOver(new_.get(), [&](std::string text, bool is_late) {
        states.emplace_back(std::move(text), is_late);
      });
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->session_count, 2);
  ASSERT_EQ(states.size(), 2u);
  EXPECT_EQ(states[0], std::make_pair(state, false));
  EXPECT_EQ(states[1], std::make_pair(std::string("late"), true));
  EXPECT_EQ(client_.Ask(address_, "b").value_or("nothing"), "first:b");
}

TEST_F(TakeoverTest, ANewProcessThatDoesNotReadTheStateOfTheHostSkipsIt) {
  TakeoverServerOptions options;
  options.host_state = [](bool) { return std::string("state"); };
  StartOld({1, 1}, options);
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  ASSERT_TRUE(TakeOver().ok());
  EXPECT_EQ(client_.Ask(address_, "b").value_or("nothing"), "first:b");
}

TEST_F(TakeoverTest, TheLimitOfPendingClientsHoldsAfterwards) {
  StartOld();
  std::vector<LoopbackPeer> clients(5);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(client.Ask(address_, "a").ok());
  }
  ProxyOptions options = Options();
  options.limits.pending_clients_max = 1;
  auto resolver = std::make_shared<NiceMock<MockBackendResolver>>();
  EXPECT_CALL(*resolver, Resolve).WillRepeatedly(HoldResolveIn(&held_));
  ASSERT_TRUE(TakeOverWith(std::move(options), resolver).ok());
  std::vector<LoopbackPeer> newcomers(3);
  for (LoopbackPeer& client : newcomers) {
    ASSERT_TRUE(client.Send(address_, "n").ok());
  }
  EXPECT_TRUE(AwaitTrue(
      [&] { return new_->GetStats().client_datagrams_received == 5 + 3; }));
  EXPECT_TRUE(AwaitTrue([&] {
    return new_->GetStats().dropped(DropReason::kPendingLimit) == 2;
  }));
  EXPECT_EQ(new_->GetStats().sessions_pending, 1u);
}

TEST_F(TakeoverTest, ADrainContinues) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  old_->Drain();
  ASSERT_TRUE(TakeOver().ok());
  EXPECT_TRUE(new_->is_draining());
  EXPECT_FALSE(new_->is_standby());
}

TEST_F(TakeoverTest, AStandbyContinues) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  old_->SetStandby(true);
  ASSERT_TRUE(TakeOver().ok());
  EXPECT_TRUE(new_->is_standby());
  EXPECT_EQ(new_->GetStats().sessions_active, 0u);
  EXPECT_EQ(new_->GetStats().ended(EndReason::kSuperseded), 1u);
}

// As where a session has ended after its copy was made, and its port was taken
// again, by a session of another shard perhaps.
TEST_F(TakeoverTest, APortOfANewerSessionStaysWithIt) {
  constexpr uint16_t kPairs = 16;
  new_.Create(Options({2, 1}), Fixed(second_));
  internal::Handover* const handover = new_->handover();
  ASSERT_TRUE(handover->ListenForDisconnects().ok());
  std::vector<internal::HandedSession> sessions;
  for (uint16_t i = 0; i < 2 * kPairs; ++i) {
    sessions.emplace_back();
    internal::HandedSession& session = sessions.back();
    session.id = (uint64_t{i} + 1) << 8;
    session.state = SessionState::kConfirmed;
    session.client = SocketAddress::Ipv4Loopback(static_cast<uint16_t>(1 + i));
    session.backend = second_.address();
    session.relay =
        SocketAddress::Ipv4Loopback(static_cast<uint16_t>(40000 + i % kPairs));
    session.upstream_fd.Reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  }
  ASSERT_TRUE(handover->Prepare(absl::MakeSpan(sessions)).ok());
  internal::HandedGate gate;
  gate.now_nanoseconds = Clock::Monotonic()->NowNanoseconds();
  gate.session_number = 1000;
  gate.kernel_drops = {0};
  for (uint16_t i = kPairs; i < 2 * kPairs; ++i) {
    gate.sessions.push_back(std::move(sessions[i]));
    gate.sessions.back().last_active_nanoseconds = gate.now_nanoseconds;
    gate.sessions.back().client_active_nanoseconds = gate.now_nanoseconds;
  }
  const absl::Status status = handover->TakeOver(std::move(gate));
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE(new_->Start().ok());
  EXPECT_EQ(new_.Sessions().size(), kPairs);
  EXPECT_EQ(new_->GetStats().relay_ports_in_use, kPairs);
  // Each is known by its port.
  new_->Disconnect(DisconnectTarget::ForRelayPort(40003));
  EXPECT_TRUE(AwaitTrue([&] { return new_.Sessions().size() == kPairs - 1; }));
  for (const SessionInfo& session : new_.Sessions()) {
    EXPECT_NE(session.relay.port(), 40003);
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate
