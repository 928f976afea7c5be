#include "udpgate/internal/shard/session_restorer.h"

#include <errno.h>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;
using Outcome = RestoredSession::Outcome;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SessionRestorerTest : public ShardTest {
 protected:
  // On a source address of its own, where no other program has a port.
  void Start(ProxyOptions options = ProxyOptions()) {
    options.upstream_bind_addresses = {source_};
    ShardTest::Start(options);
  }
  // A session of `client_` with `backend_`, on `relay`.
  RestorableSession SessionOn(const SocketAddress& relay) const {
    RestorableSession session;
    session.client = client_.address();
    session.local = listen_address_;
    session.backend = backend_.address();
    session.relay = relay;
    session.label = "lobby";
    session.age = absl::Seconds(100);
    return session;
  }
  SocketAddress Relay(size_t port = 0) const {
    return source_.WithPort(local_ports_[port]);
  }
  // Undone or not.
  RestoreTask RestoreOne(const RestorableSession& session,
                         bool takes_other_relays = false) {
    return Restore({session}, takes_other_relays).front();
  }

  const SocketAddress source_ = [] {
    std::random_device device;
    const uint32_t id = device();
    return *SocketAddress::FromIpAndPort(
        absl::StrCat("127.", 1 + (id >> 16) % 250, ".", (id >> 8) & 255, ".",
                     1 + (id & 127)),
        0);
  }();
};

TEST_F(SessionRestorerTest, ARestoredSessionIsServedAsBeforeBothWays) {
  Start();
  const RestoreTask task = RestoreOne(SessionOn(Relay(5)));
  ASSERT_TRUE(task.is_done);
  EXPECT_EQ(task.result.outcome, Outcome::kRestored);
  EXPECT_EQ(task.result.relay, Relay(5));
  // The backend sends first.
  ASSERT_TRUE(backend_.Send(Relay(5), "reply").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply"));
  SendAndRead(client_, "hello");
  const auto hello = backend_.TryReceive();
  ASSERT_TRUE(hello.ok()) << hello.status();
  EXPECT_EQ(hello->from, Relay(5));
  EXPECT_TRUE(resolver_->pending.empty()) << "nobody was asked";
}

TEST_F(SessionRestorerTest, ItIsConfirmedAndAsOldAsItSays) {
  Start();
  const RestoreTask task = RestoreOne(SessionOn(Relay()));
  const std::vector<SessionInfo> sessions = ListSessions();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].id, task.result.session_id);
  EXPECT_EQ(sessions[0].state, SessionState::kConfirmed);
  EXPECT_EQ(sessions[0].label, "lobby");
  EXPECT_EQ(sessions[0].age, absl::Seconds(100));
  EXPECT_EQ(sessions[0].idle, absl::ZeroDuration());
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
  // No limit on replies applies.
  const std::string reply(1200, 'x');
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(backend_.Send(Relay(), reply).ok());
    Poll();
  }
  EXPECT_EQ(ReceiveAll(&client_).size(), 30u);
}

TEST_F(SessionRestorerTest, ItIsNoNewSessionInTheStatistics) {
  Start();
  RestoreOne(SessionOn(Relay()));
  EXPECT_EQ(Stats().sessions_restored, 1u);
  EXPECT_EQ(Stats().sessions_created, 0u);
  EXPECT_THAT(Events(), IsEmpty());
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  const std::vector<SessionEvent> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(events[0].state, SessionState::kConfirmed);
  EXPECT_EQ(events[0].local, listen_address_);
}

TEST_F(SessionRestorerTest, AnAgeThatCannotBeIsLimited) {
  Start();
  RestorableSession session = SessionOn(Relay());
  session.age = -absl::Hours(1);
  RestoreOne(session);
  EXPECT_EQ(ListSessions().at(0).age, absl::ZeroDuration());
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  session.age = absl::InfiniteDuration();
  RestoreOne(session);
  EXPECT_EQ(ListSessions().at(0).age, absl::Hours(24 * 365));
}

TEST_F(SessionRestorerTest, ItEndsWhenItsClientIsSilent) {
  Start(IdleTimeoutOnly());
  RestoreOne(SessionOn(Relay()));
  clock_.Advance(ProxyLimits().session_idle_timeout - absl::Seconds(1));
  Poll();
  EXPECT_EQ(Stats().sessions_active, 1u) << "it counts from its restoration";
  clock_.Advance(ProxyLimits().session_idle_timeout / 4);
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 1u);
  EXPECT_EQ(context_->relay_ports.quarantined(clock_.NowNanoseconds()), 1)
      << "its backend may still take the port for this client";
}

TEST_F(SessionRestorerTest, APortInQuarantineIsItsOwn) {
  Start();
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  Poll();
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  ASSERT_EQ(context_->relay_ports.quarantined(clock_.NowNanoseconds()), 1);
  EXPECT_EQ(RestoreOne(SessionOn(relay)).result.outcome, Outcome::kRestored);
  EXPECT_EQ(context_->relay_ports.quarantined_ports_taken(), 0u);
}

TEST_F(SessionRestorerTest, APortThatCannotBeHadIsReplacedInTheSecondPhase) {
  const LoopbackPeer program;  // another one, which has a port of the range
  local_ports_.push_back(program.address().port());
  Start();
  const SocketAddress taken = Connect(client_);
  LoopbackPeer other;
  const SocketAddress relays[] = {taken,
                                  program.address(),
                                  SocketAddress(),
                                  *SocketAddress::Parse("203.0.113.7:40000"),
                                  SocketAddress::Ipv6Loopback(40000),
                                  SocketAddress::Ipv4Loopback(1),
                                  SocketAddress::Ipv4Loopback(0)};
  for (const SocketAddress& relay : relays) {
    RestorableSession session = SessionOn(relay);
    session.client = other.address();
    EXPECT_FALSE(RestoreOne(session).is_done) << relay.ToString();
    const RestoreTask task = RestoreOne(session, /*takes_other_relays=*/true);
    EXPECT_EQ(task.result.outcome, Outcome::kOnOtherRelay) << relay.ToString();
    ASSERT_TRUE(backend_.Send(task.result.relay, "reply").ok());
    Poll();
    EXPECT_THAT(ReceiveAll(&other), ElementsAre("reply"));
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, other.address());
  }
  ASSERT_TRUE(backend_.Send(taken, "reply").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply")) << "it stays";
}

TEST_F(SessionRestorerTest, AClientThatIsThereStays) {
  Start();
  Connect(client_);
  const RestoreTask task = RestoreOne(SessionOn(Relay(9)));
  EXPECT_EQ(task.result.outcome, Outcome::kClientPresent);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().sessions_restored, 0u);
}

TEST_F(SessionRestorerTest, AddressesThatCannotBeAreRejected) {
  Start();
  std::vector<RestorableSession> sessions(9, SessionOn(Relay()));
  sessions[0].client = SocketAddress();
  sessions[1].client = client_.address().WithPort(0);
  sessions[2].client = *SocketAddress::Parse("224.0.0.1:5");
  sessions[3].client = SocketAddress::Ipv6Loopback(5);
  sessions[4].local = SocketAddress();
  sessions[5].local = SocketAddress::Ipv4Loopback(1);
  sessions[6].backend = SocketAddress();
  sessions[7].backend = backend_.address().WithPort(0);
  sessions[8].backend = listen_address_;  // a loop
  for (const RestoreTask& task : Restore(sessions)) {
    EXPECT_TRUE(task.is_done);
    EXPECT_EQ(task.result.outcome, Outcome::kRejected);
  }
  EXPECT_EQ(context_->admission.session_count(), 0);
}

TEST_F(SessionRestorerTest, AWildcardAddressRepliesFromTheAddressOfTheClient) {
  ProxyOptions options;
  options.listen_address = SocketAddress::Ipv4Any(0);
  Start(options);
  const SocketAddress local =
      *SocketAddress::Parse(absl::StrCat("127.0.0.9:", listen_address_.port()));
  RestorableSession session = SessionOn(Relay());
  session.local = local;
  EXPECT_EQ(RestoreOne(session).result.outcome, Outcome::kRestored);
  ASSERT_TRUE(backend_.Send(Relay(), "reply").ok());
  Poll();
  const auto reply = client_.TryReceive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->from, local);
  // A socket of IPv4 has no clients of IPv6.
  session.client = SocketAddress::Ipv6Loopback(5);
  session.local = SocketAddress::Ipv6Loopback(listen_address_.port());
  EXPECT_EQ(RestoreOne(session).result.outcome, Outcome::kRejected);
}

TEST_F(SessionRestorerTest, TheFastPathGetsIt) {
  offload_ = std::make_shared<test::FakeFlowOffload>();
  Start();
  RestoreOne(SessionOn(Relay()));
  ASSERT_EQ(offload_->flows().size(), 1u);
  EXPECT_EQ(offload_->flows()[0].addresses.client, client_.address());
  EXPECT_EQ(offload_->flows()[0].addresses.relay, Relay());
  EXPECT_EQ(offload_->flows()[0].addresses.backend, backend_.address());
}

TEST_F(SessionRestorerTest, ItsTagIsTold) {
  Start();
  const auto tag = std::make_shared<RecordingTag>("key");
  RestorableSession session = SessionOn(Relay());
  session.tag = tag;
  RestoreOne(session);
  EXPECT_THAT(tag->calls, ElementsAre(BeginText(client_.address(), Relay())));
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(tag->calls.size(), 2u);
}

TEST_F(SessionRestorerTest, TheLimitsCountItAndOnlyTheSessionLimitRefuses) {
  ProxyOptions options;
  options.limits.max_sessions = 2;
  options.limits.max_sessions_per_ip = 1;
  options.limits.new_sessions_per_second = 1;
  options.limits.deny_cidrs = *ParseCidrList("127.0.0.0/8");
  Start(options);
  std::vector<LoopbackPeer> clients(3);
  std::vector<RestorableSession> sessions;
  for (size_t i = 0; i < clients.size(); ++i) {
    sessions.push_back(SessionOn(Relay(i)));
    sessions.back().client = clients[i].address();
  }
  const std::vector<RestoreTask> tasks = Restore(sessions);
  EXPECT_EQ(tasks[0].result.outcome, Outcome::kRestored);
  EXPECT_EQ(tasks[1].result.outcome, Outcome::kRestored);
  EXPECT_EQ(tasks[2].result.outcome, Outcome::kRejected);
  EXPECT_EQ(context_->admission.session_count(), 2);
}

TEST_F(SessionRestorerTest, AnUnconfirmedSessionMakesRoomForIt) {
  ProxyOptions options;
  options.limits.max_sessions = 1;
  Start(options);
  const LoopbackPeer stranger;
  Connect(stranger);
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(RestoreOne(SessionOn(Relay(9))).result.outcome, Outcome::kRestored);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 1u);
}

TEST_F(SessionRestorerTest, WithoutASocketNothingIsLeft) {
  Start();
  for (const Call call : {Call::kSocket, Call::kBind, Call::kConnect,
                          Call::kEpollControl, Call::kRecvMmsg}) {
    sys_calls_.FailAll(call, ENOMEM);
    EXPECT_FALSE(RestoreOne(SessionOn(Relay())).is_done);
    EXPECT_EQ(RestoreOne(SessionOn(Relay()), /*takes_other_relays=*/true)
                  .result.outcome,
              Outcome::kNoSocket);
    sys_calls_.Reset();
    EXPECT_EQ(context_->admission.session_count(), 0);
    EXPECT_EQ(context_->relay_ports.in_use(), 0);
  }
  EXPECT_EQ(RestoreOne(SessionOn(Relay())).result.outcome, Outcome::kRestored);
}

TEST_F(SessionRestorerTest, DatagramsPassBetweenSlices) {
  Start();
  std::vector<LoopbackPeer> clients(3 * SessionRestorer::kSessionsPerIteration);
  Connect(client_);
  ReceiveAll(&backend_);
  std::vector<RestorableSession> sessions;
  std::vector<RestoreTask> tasks(clients.size());
  ShardMessage message;
  message.kind = ShardMessage::Kind::kRestore;
  message.restore = std::make_unique<RestoreOrder>();
  for (size_t i = 0; i < clients.size(); ++i) {
    sessions.push_back(SessionOn(Relay(10 + i)));
    sessions.back().client = clients[i].address();
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    tasks[i].session = &sessions[i];
    message.restore->tasks.push_back(&tasks[i]);
  }
  worker_->inbox()->Post(std::move(message));
  for (size_t slice = 1; slice <= 3; ++slice) {
    SendAndRead(client_, "x");
    Poll();
    EXPECT_EQ(Stats().sessions_restored,
              slice * SessionRestorer::kSessionsPerIteration);
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  }
  worker_->PollOnce(INT64_MAX);
  worker_->PollOnce(INT64_MAX);
  EXPECT_GT(sys_calls_.last_wait, absl::ZeroDuration());
}

TEST_F(SessionRestorerTest, ADisconnectThatCameAfterTheFirstDatagramEndsIt) {
  Start();
  RestoreOne(SessionOn(Relay()));
  ShardMessage message;
  message.kind = ShardMessage::Kind::kDisconnectClient;
  message.client = client_.address();
  message.came_nanoseconds =
      clock_.NowNanoseconds() - absl::ToInt64Nanoseconds(absl::Seconds(200));
  worker_->inbox()->PostDisconnect(std::move(message));
  Poll();
  EXPECT_EQ(Stats().sessions_active, 1u) << "it is younger than the event";
  message = ShardMessage();
  message.kind = ShardMessage::Kind::kDisconnectClient;
  message.client = client_.address();
  message.came_nanoseconds =
      clock_.NowNanoseconds() - absl::ToInt64Nanoseconds(absl::Seconds(50));
  worker_->inbox()->PostDisconnect(std::move(message));
  Poll();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
