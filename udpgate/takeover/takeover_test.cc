#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
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
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/mock_flow_offload.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/clock.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/messages.h"
#include "udpgate/takeover/predecessor.h"
#include "udpgate/takeover/takeover_server.h"

#ifndef UDPGATE_SANITIZED

// So many of the next threads cannot be had.
std::atomic<int> threads_to_refuse{0};
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attr,
                              void* (*body)(void*), void* arg) noexcept {
  static const auto real = reinterpret_cast<int (*)(
      pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>(
      dlsym(RTLD_NEXT, "pthread_create"));
  if (threads_to_refuse > 0 && threads_to_refuse-- > 0) return EAGAIN;
  return real(thread, attr, body, arg);
}

#endif  // UDPGATE_SANITIZED

namespace udpgate {
namespace test {
namespace {

using ::testing::_;
using ::testing::HasSubstr;
using ::testing::NiceMock;
using ::testing::Return;
using ::udpgate::internal::UniqueFd;
using ::udpgate::takeover::Predecessor;
using ::udpgate::takeover::TakenOver;
using ::udpgate::takeover::TakeoverServer;
using ::udpgate::takeover::TakeoverServerOptions;
using ::udpgate::takeover::internal::Channel;
using ::udpgate::takeover::internal::Incoming;
using ::udpgate::takeover::internal::NewMessage;
using ::udpgate::takeover::internal::ReceiveMessage;
using ::udpgate::takeover::internal::SendMessage;
using ::udpgate::takeover::internal::ToUnixAddress;

// Workers and listeners.
struct Shape {
  int worker_count;
  int listener_count;
};

// A gate that can be taken over from.
class Gate {
 public:
  explicit Gate(const std::string& path) : path_(path) {}

  void Create(ProxyOptions options, std::shared_ptr<BackendResolver> resolver,
              std::shared_ptr<DisconnectSource> disconnects = nullptr,
              std::shared_ptr<FlowOffload> offload = nullptr) {
    options.log_sink = Sink();
    ProxyDependencies dependencies;
    dependencies.resolver = std::move(resolver);
    dependencies.disconnects = std::move(disconnects);
    dependencies.flow_offload = std::move(offload);
    absl::StatusOr<std::unique_ptr<Proxy>> proxy =
        Proxy::Create(std::move(options), std::move(dependencies));
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
  }
  void Serve(TakeoverServerOptions options = {}) {
    options.socket_path = path_;
    options.log_sink = Sink();
    absl::StatusOr<std::unique_ptr<TakeoverServer>> server =
        TakeoverServer::Create(options, proxy_.get(),
                               [this] { is_handed_over_ = true; });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_TRUE(server_->Start().ok());
  }

  Proxy* operator->() { return proxy_.get(); }
  Proxy* get() { return proxy_.get(); }
  TakeoverServer* server() { return server_.get(); }
  bool is_handed_over() const { return is_handed_over_; }
  std::string log() {
    internal::MutexLock lock(&mutex_);
    return log_;
  }
  std::vector<SessionInfo> Sessions() const {
    std::vector<SessionInfo> sessions;
    proxy_->ForEachSession(
        [&](const SessionInfo& session) { sessions.push_back(session); });
    std::sort(
        sessions.begin(), sessions.end(),
        [](const SessionInfo& a, const SessionInfo& b) { return a.id < b.id; });
    return sessions;
  }

 private:
  LogSink Sink() {
    return [this](LogSeverity, absl::string_view text) {
      internal::MutexLock lock(&mutex_);
      absl::StrAppend(&log_, text, "\n");
    };
  }

  const std::string path_;
  std::atomic<bool> is_handed_over_{false};
  internal::Mutex mutex_;
  std::string log_;
  std::unique_ptr<Proxy> proxy_;
  std::unique_ptr<TakeoverServer> server_;
};

class TakeoverTest : public ::testing::Test {
 protected:
  TakeoverTest() : old_(path_), new_(path_) {}

  static ProxyOptions Options(const Shape& shape = {1, 1}) {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.worker_count = shape.worker_count;
    options.listener_count = shape.listener_count;
    return options;
  }
  static std::shared_ptr<BackendResolver> Fixed(const EchoBackend& backend) {
    return std::make_shared<StaticBackendResolver>(backend.address());
  }

  void StartOld(const Shape& shape = {1, 1}, TakeoverServerOptions options = {},
                std::shared_ptr<BackendResolver> resolver = nullptr,
                std::shared_ptr<FlowOffload> offload = nullptr) {
    old_.Create(Options(shape), resolver != nullptr ? resolver : Fixed(first_),
                nullptr, std::move(offload));
    ASSERT_TRUE(old_->Start().ok());
    address_ = old_->listen_addresses().front();
    old_.Serve(std::move(options));
  }
  // The new one takes over. Its backend for new clients is another one.
  absl::StatusOr<TakenOver> TakeOver(
      const Shape& shape = {1, 1},
      std::shared_ptr<BackendResolver> resolver = nullptr,
      std::shared_ptr<DisconnectSource> disconnects = nullptr,
      std::shared_ptr<FlowOffload> offload = nullptr) {
    return TakeOverWith(Options(shape), std::move(resolver),
                        std::move(disconnects), std::move(offload));
  }
  absl::StatusOr<TakenOver> TakeOverWith(
      ProxyOptions options, std::shared_ptr<BackendResolver> resolver = nullptr,
      std::shared_ptr<DisconnectSource> disconnects = nullptr,
      std::shared_ptr<FlowOffload> offload = nullptr) {
    absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
        Predecessor::Connect({path_});
    if (!predecessor.ok()) return predecessor.status();
    (*predecessor)->FillIn(&options);
    new_.Create(std::move(options),
                resolver != nullptr ? resolver : Fixed(second_),
                std::move(disconnects), std::move(offload));
    return (*predecessor)->TakeOver(new_.get());
  }
  // Whether the gate that was there first still serves.
  void ExpectTheOldServes() {
    EXPECT_FALSE(old_.is_handed_over());
    EXPECT_THAT(client_.Ask(address_, "still").value_or("nothing"),
                HasSubstr("still"));
    LoopbackPeer newcomer;
    EXPECT_EQ(newcomer.Ask(address_, "new").value_or("nothing"), "first:new");
  }
  // A process that is no gate.
  std::unique_ptr<Channel> ConnectRaw() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const sockaddr_un name = *ToUnixAddress(path_);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name),
                        sizeof(name)),
              0);
    auto channel = std::make_unique<Channel>(std::move(socket));
    channel->BeginStage(kAwaitTimeout);
    return channel;
  }
  static nlohmann::json Hello() {
    nlohmann::json hello = NewMessage("hello");
    hello["version"] = takeover::internal::kVersion;
    return hello;
  }
  // The conversation up to the pause.
  void AskForPause(Channel* channel, bool keeps_flows = false) {
    ASSERT_TRUE(SendMessage(Hello(), channel).ok());
    ASSERT_TRUE(ReceiveMessage("gate", channel).ok());
    ASSERT_TRUE(SendMessage(NewMessage("sockets"), channel).ok());
    for (;;) {
      const absl::StatusOr<Incoming> message = ReceiveMessage(channel);
      ASSERT_TRUE(message.ok()) << message.status();
      if (message->type == "sockets_end") break;
    }
    nlohmann::json pause = NewMessage("pause");
    if (keeps_flows) pause["keeps_flows"] = true;
    ASSERT_TRUE(SendMessage(pause, channel).ok());
  }

  // Everything that is sent in the pause.
  static void AwaitState(Channel* channel) {
    for (;;) {
      const absl::StatusOr<Incoming> message = ReceiveMessage(channel);
      ASSERT_TRUE(message.ok()) << message.status();
      if (message->type == "state") break;
    }
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/takeover.sock";
  EchoBackend first_{"first"};
  EchoBackend second_{"second"};
  LoopbackPeer client_;
  HeldResolves held_;  // outlives the gates, whose threads write to it
  Gate old_;
  Gate new_;
  SocketAddress address_;
};

using Offload = NiceMock<MockFlowOffload>;

// What a flow offload is told.
class TakeoverOffloadTest : public TakeoverTest {
 protected:
  static constexpr uint32_t kSlot = 7;

  // The client's session is on the old process's offload, which has relayed
  // five datagrams.
  void StartOnOffload() {
    given_ = std::make_shared<Offload>();
    ON_CALL(*given_, Install).WillByDefault(Return(kSlot));
    ON_CALL(*given_, state).WillByDefault(Return(FlowState::kInstalled));
    ON_CALL(*given_, ReadActivity).WillByDefault(Return(Activity(5)));
    ON_CALL(*given_, Remove).WillByDefault(Return(Activity(5)));
    ON_CALL(*given_, BeginHandOver).WillByDefault(Return(true));
    StartOld({1, 1}, {}, nullptr, given_);
    ASSERT_TRUE(AwaitTrue([&] {
      EXPECT_TRUE(client_.Ask(address_, "a").ok());
      ++asked_count_;
      (void)old_.Sessions();  // which counts what was relayed
      return old_->GetStats().fast_path_sessions == 1;
    }));
  }
  static SessionActivity Activity(uint64_t datagrams) {
    return {{datagrams, 10 * datagrams, 1}, {datagrams, 20 * datagrams, 1}};
  }

  std::shared_ptr<Offload> given_;
  uint64_t asked_count_ = 0;
};

TEST_F(TakeoverOffloadTest, FlowsAreHandedOverToOneThatKeepsThem) {
  StartOnOffload();
  EXPECT_CALL(*given_, Remove).Times(0);
  EXPECT_CALL(*given_, CancelHandOver).Times(0);
  EXPECT_CALL(*given_, LetGo);
  auto taken = std::make_shared<Offload>();
  ON_CALL(*taken, has_adopted).WillByDefault(Return(true));
  ON_CALL(*taken, state).WillByDefault(Return(FlowState::kInstalled));
  // Three more meanwhile.
  ON_CALL(*taken, ReadActivity).WillByDefault(Return(Activity(8)));
  EXPECT_CALL(*taken, Install).Times(0);
  {
    const ::testing::InSequence in_sequence;
    EXPECT_CALL(*taken, Adopt(kSlot, _)).WillOnce(Return(true));
    EXPECT_CALL(*taken, StartAdopted);
  }
  ASSERT_TRUE(TakeOver({1, 1}, nullptr, nullptr, taken).ok());
  EXPECT_TRUE(AwaitTrue([&] { return old_.is_handed_over(); }));
  const std::vector<SessionInfo> sessions = new_.Sessions();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].client_datagrams_forwarded, asked_count_ + 8);
  EXPECT_EQ(sessions[0].backend_datagrams_forwarded, asked_count_ + 8);
  const ProxyStats stats = new_->GetStats();
  EXPECT_EQ(stats.fast_path_sessions, 1u);
  EXPECT_EQ(stats.fast_path_withdrawals, 0u);
  EXPECT_EQ(stats.fast_path_client_datagrams, 8u);
  EXPECT_EQ(stats.fast_path_client_bytes, 80u);
  EXPECT_EQ(stats.fast_path_backend_bytes, 160u);
  EXPECT_EQ(stats.client_datagrams_forwarded, asked_count_ + 8);
  // The end of the session is the new process's.
  EXPECT_CALL(*taken, Remove(kSlot)).WillOnce(Return(Activity(9)));
  new_->Stop();
  EXPECT_EQ(new_->GetStats().fast_path_client_datagrams, 9u);
}

TEST_F(TakeoverOffloadTest, OneThatDoesNotHaveTheFlowEndsIt) {
  StartOnOffload();
  auto taken = std::make_shared<Offload>();
  ON_CALL(*taken, has_adopted).WillByDefault(Return(true));
  EXPECT_CALL(*taken, Adopt(kSlot, _)).WillOnce(Return(false));
  EXPECT_CALL(*taken, Remove).Times(0);
  ASSERT_TRUE(TakeOver({1, 1}, nullptr, nullptr, taken).ok());
  EXPECT_EQ(new_.Sessions().size(), 1u);
  EXPECT_EQ(new_->GetStats().fast_path_withdrawals, 1u);
  EXPECT_EQ(new_->GetStats().fast_path_client_datagrams, 5u);
}

TEST_F(TakeoverOffloadTest, FlowsEndWhereTheSuccessorDoesNotKeepThem) {
  StartOnOffload();
  EXPECT_CALL(*given_, BeginHandOver).Times(0);
  EXPECT_CALL(*given_, LetGo).Times(0);
  EXPECT_CALL(*given_, Remove(kSlot));
  ASSERT_TRUE(TakeOver().ok());
  EXPECT_EQ(new_.Sessions().size(), 1u);
  EXPECT_EQ(new_->GetStats().fast_path_client_datagrams, 5u);
}

TEST_F(TakeoverOffloadTest, OneThatFailsLeavesTheFlows) {
  StartOnOffload();
  EXPECT_CALL(*given_, Remove).Times(0);
  EXPECT_CALL(*given_, LetGo).Times(0);
  EXPECT_CALL(*given_, BeginHandOver);
  EXPECT_CALL(*given_, CancelHandOver);
  {
    const auto channel = ConnectRaw();
    AskForPause(channel.get(), /*keeps_flows=*/true);
    AwaitState(channel.get());
  }
  ExpectTheOldServes();
  EXPECT_EQ(old_->GetStats().fast_path_sessions, 1u);
  ::testing::Mock::VerifyAndClearExpectations(given_.get());
}

class TakeoverShapeTest
    : public TakeoverTest,
      public ::testing::WithParamInterface<std::pair<Shape, Shape>> {};

TEST_P(TakeoverShapeTest, SessionsGoOnWhereTheyWere) {
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

TEST_F(TakeoverTest, AClientThatWaitsForItsBackendGetsOneFromTheSuccessor) {
  auto resolver = std::make_shared<NiceMock<MockBackendResolver>>();
  EXPECT_CALL(*resolver, Resolve).WillOnce(HoldResolveIn(&held_));
  StartOld({1, 1}, {}, resolver);
  ASSERT_TRUE(client_.Send(address_, "one").ok());
  absl::StatusOr<HeldResolve> question = held_.Take();
  ASSERT_TRUE(question.ok());
  ASSERT_TRUE(client_.Send(address_, std::string(60000, 'x')).ok());
  ASSERT_TRUE(client_.Send(address_, "three").ok());
  ASSERT_TRUE(AwaitTrue([&] { return old_->GetStats().datagrams_held == 3; }));

  ASSERT_TRUE(TakeOver().ok());
  question->done(ResolveResult{first_.address(), "late"});
  ASSERT_TRUE(second_.AwaitReceived(3));
  const std::vector<Datagram> received = second_.received();
  EXPECT_EQ(received[0].payload, "one");
  EXPECT_EQ(received[1].payload, std::string(60000, 'x'));
  EXPECT_EQ(received[2].payload, "three");
  EXPECT_EQ(new_->GetStats().datagrams_held, 0u);
  EXPECT_EQ(first_.received_count(), 0u);
}

TEST_F(TakeoverTest, UnconfirmedSessionsOfAnAddressCount) {
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

TEST_F(TakeoverTest, WhatIsKnownOfAClientGoesAlong) {
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

TEST_F(TakeoverTest, PortsThatRestGoOnToRest) {
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

TEST_F(TakeoverTest, ADisconnectThatComesMeanwhileIsKept) {
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

TEST_F(TakeoverTest, NothingIsLostOrOvertakenWhileClientsSend) {
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

// What goes wrong.

TEST_F(TakeoverTest, WithoutAGateTheErrorNamesThePath) {
  const absl::Status status = Predecessor::Connect({path_}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  EXPECT_EQ(Predecessor::Connect({std::string(200, 'x')}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(TakeoverTest, ASuccessorThatDiesChangesNothing) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  for (int step = 0; step < 5; ++step) {
    const auto channel = ConnectRaw();
    if (step > 0) {
      ASSERT_TRUE(SendMessage(Hello(), channel.get()).ok());
    }
    if (step > 1) {
      ASSERT_TRUE(ReceiveMessage("gate", channel.get()).ok());
    }
    if (step > 2) {
      ASSERT_TRUE(SendMessage(NewMessage("sockets"), channel.get()).ok());
    }
    if (step > 3) {
      ASSERT_TRUE(SendMessage(NewMessage("pause"), channel.get()).ok());
    }
  }
  {
    // It got everything and never said so.
    const auto channel = ConnectRaw();
    AskForPause(channel.get());
    AwaitState(channel.get());
  }
  ExpectTheOldServes();
  // And the next one can take over.
  EXPECT_TRUE(TakeOver().ok());
}

TEST_F(TakeoverTest, ASuccessorThatStallsInThePauseIsGivenUp) {
  TakeoverServerOptions options;
  options.pause_max = absl::Milliseconds(50);
  StartOld({1, 1}, options);
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  const auto channel = ConnectRaw();
  AskForPause(channel.get());
  EXPECT_TRUE(AwaitTrue([&] {
    return absl::StrContains(old_.log(), "did not respond in time");
  }));
  ExpectTheOldServes();
}

TEST_F(TakeoverTest, GarbageIsRefused) {
  StartOld();
  const auto answer = [&](absl::Span<const uint8_t> bytes) {
    const auto channel = ConnectRaw();
    EXPECT_TRUE(channel->Send(bytes).ok());
    return ReceiveMessage(channel.get()).status();
  };
  EXPECT_EQ(answer({1, 2, 3}).code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(answer(std::vector<uint8_t>(150000, 0x91)).message()),
              HasSubstr("nested"));
  EXPECT_THAT(std::string(answer({0xdd, 0xff, 0xff, 0xff, 0xff}).message()),
              HasSubstr("MessagePack"));
  EXPECT_THAT(
      std::string(
          answer(takeover::internal::Encode(NewMessage("sockets"))).message()),
      HasSubstr("expected \"hello\""));
  nlohmann::json newer = Hello();
  newer["version"] = takeover::internal::kVersion + 1;
  EXPECT_THAT(std::string(answer(takeover::internal::Encode(newer)).message()),
              HasSubstr("version"));
  // Descriptors that nobody asked for.
  const auto channel = ConnectRaw();
  const int fds[] = {0, 1, 2};
  EXPECT_TRUE(SendMessage(NewMessage("pause"), channel.get(), fds).ok());
  EXPECT_FALSE(ReceiveMessage("gate", channel.get()).ok());
  ExpectTheOldServes();
}

TEST_F(TakeoverTest, AFieldThatIsNotKnownIsLeftOut) {
  StartOld();
  const auto channel = ConnectRaw();
  nlohmann::json hello = Hello();
  hello["colour"] = "green";
  EXPECT_TRUE(SendMessage(hello, channel.get()).ok());
  EXPECT_TRUE(ReceiveMessage("gate", channel.get()).ok());
}

TEST_F(TakeoverTest, ThePathIsPrivateAndGoesWithTheGate) {
  StartOld();
  struct stat file {};
  ASSERT_EQ(::lstat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777u, 0600u);
  // Another gate does not get it by mistake.
  new_.Create(Options(), Fixed(second_));
  TakeoverServerOptions options;
  options.socket_path = path_;
  auto server = TakeoverServer::Create(options, new_.get(), [] {});
  ASSERT_TRUE(server.ok());
  EXPECT_EQ((*server)->Start().code(), absl::StatusCode::kAlreadyExists);
  old_.server()->Stop();
  EXPECT_EQ(old_.log(), "") << "a probe is not a takeover";
  EXPECT_NE(::lstat(path_.c_str(), &file), 0);
  // A file of another kind stays.
  directory_.WriteFile("takeover.sock", "mine");
  EXPECT_EQ((*server)->Start().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  // One that a gate left behind which did not end well is replaced.
  {
    UniqueFd left(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const sockaddr_un name = *ToUnixAddress(path_);
    ASSERT_EQ(::bind(left.get(), reinterpret_cast<const sockaddr*>(&name),
                     sizeof(name)),
              0);
  }
  EXPECT_TRUE((*server)->Start().ok());
}

TEST_F(TakeoverTest, FurtherSocketsHaveNames) {
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

TEST_F(TakeoverTest, TheLimitOfWaitingClientsHoldsAfterwards) {
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

TEST_F(TakeoverTest, ADrainGoesOn) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  old_->Drain();
  ASSERT_TRUE(TakeOver().ok());
  EXPECT_TRUE(new_->is_draining());
}

TEST_F(TakeoverTest, WhoeverDisconnectsInThePauseIsAnswered) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  const auto channel = ConnectRaw();
  AskForPause(channel.get());
  AwaitState(channel.get());
  std::atomic<int64_t> ended{-1};
  old_->Disconnect(DisconnectTarget::ForClient(client_.address()),
                   [&](int64_t count) { ended = count; });
  ASSERT_TRUE(SendMessage(NewMessage("complete"), channel.get()).ok());
  ASSERT_TRUE(ReceiveMessage("let_go", channel.get()).ok());
  ASSERT_TRUE(AwaitTrue([&] { return old_.is_handed_over(); }));
  EXPECT_EQ(ended, 0);
}

TEST_F(TakeoverTest, AnAttemptLeavesTheBuffersAsTheyWere) {
  StartOld();
  auto sockets = old_->handover()->CopyListenSockets();
  ASSERT_TRUE(sockets.ok());
  const auto buffer_bytes = [&] {
    int bytes = 0;
    socklen_t size = sizeof(bytes);
    ::getsockopt(sockets->front().get(), SOL_SOCKET, SO_RCVBUF, &bytes, &size);
    return bytes;
  };
  const int before = buffer_bytes();
  {
    absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
        Predecessor::Connect({path_});
    ASSERT_TRUE(predecessor.ok());
    ProxyOptions options = Options();
    options.receive_buffer_bytes = 4096;
    (*predecessor)->FillIn(&options);
    new_.Create(std::move(options), Fixed(second_));
  }  // it gives up
  EXPECT_EQ(buffer_bytes(), before);
  // One that does not has its own.
  ProxyOptions options = Options();
  options.receive_buffer_bytes = 4096;
  ASSERT_TRUE(TakeOverWith(std::move(options)).ok());
  EXPECT_LT(buffer_bytes(), before);
  EXPECT_EQ(new_->receive_buffer_bytes(), buffer_bytes() / 2);
}

TEST_F(TakeoverTest, ThePauseIsLimitedAsAWhole) {
  auto resolver = std::make_shared<NiceMock<MockBackendResolver>>();
  EXPECT_CALL(*resolver, Resolve).WillRepeatedly(HoldResolveIn(&held_));
  TakeoverServerOptions server_options;
  server_options.pause_max = absl::Milliseconds(50);
  StartOld({1, 1}, server_options, resolver);
  std::vector<LoopbackPeer> clients(40);
  for (size_t i = 0; i < clients.size(); ++i) {
    ASSERT_TRUE(clients[i].Send(address_, std::string(60000, 'x')).ok());
    ASSERT_TRUE(
        AwaitTrue([&] { return old_->GetStats().datagrams_held == i + 1; }));
  }
  const auto channel = ConnectRaw();
  AskForPause(channel.get());
  ASSERT_TRUE(ReceiveMessage(channel.get()).ok());  // the pause has begun
  const absl::Time begin = absl::Now();
  for (;;) {
    absl::SleepFor(absl::Milliseconds(40));  // just fast enough for each
    const absl::StatusOr<Incoming> message = ReceiveMessage(channel.get());
    if (!message.ok() || message->type == "state") break;
  }
  // Each by itself would add up to more than a second and a half.
  EXPECT_LT(absl::Now() - begin, absl::Milliseconds(1200));
}

TEST_F(TakeoverTest, FurtherSocketsThatNobodyTakesAreClosed) {
  UniqueFd extra(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(name);
  ASSERT_EQ(::bind(extra.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
  ASSERT_EQ(::listen(extra.get(), 4), 0);
  ::getsockname(extra.get(), reinterpret_cast<sockaddr*>(&name), &size);
  TakeoverServerOptions options;
  options.extra_sockets["admin"] = extra.get();
  StartOld({1, 1}, options);
  // It lives as long as the process does.
  absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
      Predecessor::Connect({path_});
  ASSERT_TRUE(predecessor.ok());
  ProxyOptions new_options = Options();
  (*predecessor)->FillIn(&new_options);
  new_.Create(std::move(new_options), Fixed(second_));
  ASSERT_TRUE((*predecessor)->TakeOver(new_.get()).ok());
  (*predecessor)->Release();
  extra.Reset();  // as the old process ends
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(client.get(), reinterpret_cast<sockaddr*>(&name), size),
            0);
}

TEST_F(TakeoverTest, ConnectGivesUpWhereNobodyAccepts) {
  StartOld();
  // One is served, and more than may wait do.
  std::vector<std::unique_ptr<Channel>> others;
  for (int i = 0; i < 6; ++i) others.push_back(ConnectRaw());
  takeover::PredecessorOptions options;
  options.socket_path = path_;
  options.step_timeout = absl::Milliseconds(100);
  EXPECT_FALSE(Predecessor::Connect(options).ok());
}

TEST_F(TakeoverTest, TheSocketOfAnotherGateIsNotReplaced) {
  StartOld();
  // Another gate, which has nothing to do with that.
  Gate other(directory_.path() + "/other.sock");
  other.Create(Options(), Fixed(second_));
  ASSERT_TRUE(other->Start().ok());
  other.Serve();
  ASSERT_TRUE(TakeOver().ok());
  TakeoverServerOptions options;
  options.socket_path = directory_.path() + "/other.sock";
  options.predecessor_path = path_;
  auto server = TakeoverServer::Create(options, new_.get(), [] {});
  ASSERT_TRUE(server.ok());
  EXPECT_EQ((*server)->Start().code(), absl::StatusCode::kAlreadyExists);
}

// As where a session has ended after its copy was made, and its port was taken
// again, by a session of another shard perhaps.
TEST_F(TakeoverTest, APortThatHasANewSessionMeanwhileIsThatOnes) {
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

TEST_F(TakeoverTest, ATimeInTheFutureIsRefused) {
  new_.Create(Options(), Fixed(second_));
  internal::Handover* const handover = new_->handover();
  ASSERT_TRUE(handover->ListenForDisconnects().ok());
  internal::HandedGate gate;
  gate.now_nanoseconds = Clock::Monotonic()->NowNanoseconds();
  gate.kernel_drops = {0};
  gate.quarantined.push_back({SocketAddress::Ipv4Loopback(40000),
                              gate.now_nanoseconds + 100'000'000'000'000'000});
  EXPECT_FALSE(handover->TakeOver(std::move(gate)).ok());
}

TEST_F(TakeoverTest, ItIsGivenUpWhereTheSuccessorIsToEnd) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  for (const int asked_before : {0, 1}) {
    takeover::PredecessorOptions predecessor_options;
    predecessor_options.socket_path = path_;
    int asked_count = 0;
    predecessor_options.is_cancelled = [&] {
      return asked_count++ == asked_before;
    };
    absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
        Predecessor::Connect(predecessor_options);
    ASSERT_TRUE(predecessor.ok());
    ProxyOptions options = Options();
    (*predecessor)->FillIn(&options);
    Gate successor(path_);
    successor.Create(std::move(options), Fixed(second_));
    EXPECT_EQ((*predecessor)->TakeOver(successor.get()).status().code(),
              absl::StatusCode::kCancelled);
  }
  EXPECT_TRUE(AwaitTrue(
      [&] { return absl::StrContains(old_.log(), "is shutting down"); }));
  ExpectTheOldServes();
}

// A gate that is none, or a newer one.
TEST_F(TakeoverTest, APredecessorThatTalksNonsenseIsRefused) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const sockaddr_un name = *ToUnixAddress(path_);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name),
                   sizeof(name)),
            0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  nlohmann::json newer = NewMessage("gate");
  newer["version"] = takeover::internal::kVersion + 1;
  nlohmann::json no_sockets = NewMessage("gate");
  no_sockets["version"] = takeover::internal::kVersion;
  no_sockets["hash_seed"] = 1u;
  no_sockets["sockets"] = nlohmann::json::array();
  nlohmann::json no_names = no_sockets;
  no_names.erase("sockets");
  const std::pair<nlohmann::json, std::string> cases[] = {
      {newer, "version"},
      {no_sockets, "no listen socket"},
      {no_names, "without names"},
      {NewMessage("gate"), "version"},
      {NewMessage("state"), "expected \"gate\""},
  };
  for (const auto& [message, error] : cases) {
    std::thread gate([&, sent = message] {
      Channel channel(
          UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)));
      EXPECT_TRUE(ReceiveMessage("hello", &channel).ok());
      EXPECT_TRUE(SendMessage(sent, &channel).ok());
    });
    const absl::Status status = Predecessor::Connect({path_}).status();
    gate.join();
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
  }
  // One that says nothing.
  takeover::PredecessorOptions options;
  options.socket_path = path_;
  options.step_timeout = absl::Milliseconds(50);
  EXPECT_EQ(Predecessor::Connect(options).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

#ifndef UDPGATE_SANITIZED  // they have a pthread_create of their own

TEST_F(TakeoverTest, AGateThatGoesOnWaitsForAThreadThatIsMissing) {
  StartOld({2, 1});
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  {
    const auto channel = ConnectRaw();
    AskForPause(channel.get());
    AwaitState(channel.get());
    threads_to_refuse = 1;
  }
  ASSERT_TRUE(AwaitTrue([&] { return threads_to_refuse <= 0; }));
  ASSERT_TRUE(AwaitTrue(
      [&] { return absl::StrContains(old_.log(), "continues to serve"); }));
  EXPECT_TRUE(AwaitTrue(
      [&] { return absl::StrContains(old_.log(), "forwarding is paused"); }));
  EXPECT_TRUE(old_->IsAlive(absl::Seconds(1)));
  EXPECT_EQ(client_.Ask(address_, "b", absl::Seconds(2)).value_or("nothing"),
            "first:b");
}

TEST_F(TakeoverTest, ASuccessorWaitsForAThreadThatIsMissing) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  auto disconnects = std::make_shared<NiceMock<MockDisconnectSource>>();
  // The last call before the pause.
  EXPECT_CALL(*disconnects, Health).WillRepeatedly([] {
    threads_to_refuse = 1;
    return absl::OkStatus();
  });
  const absl::StatusOr<TakenOver> taken =
      TakeOver({1, 1}, nullptr, disconnects);
  EXPECT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(client_.Ask(address_, "b", absl::Seconds(1)).value_or("nothing"),
            "first:b");
}

#endif  // UDPGATE_SANITIZED

TEST_F(TakeoverTest, OptionsAreChecked) {
  TakeoverServerOptions options;
  EXPECT_THAT(std::string(options.Validate().message()),
              HasSubstr("socket_path"));
  options.socket_path = path_;
  EXPECT_TRUE(options.Validate().ok());
  options.pause_max = absl::ZeroDuration();
  EXPECT_THAT(std::string(options.Validate().message()),
              HasSubstr("pause_max"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
