#include "udpgate/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
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
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/mock_session_observer.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::NiceMock;
using ::testing::StrictMock;

void IgnoreLog(LogSeverity /*severity*/, absl::string_view /*message*/) {}

ProxyOptions LoopbackOptions() {
  ProxyOptions options;
  options.listen_address = SocketAddress::Ipv4Loopback(0);
  options.worker_count = 1;
  options.log_sink = IgnoreLog;
  return options;
}

ProxyDependencies FixedBackend() {
  ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<StaticBackendResolver>(SocketAddress::Ipv4Loopback(9));
  return dependencies;
}

absl::Status CreateStatus(const ProxyOptions& options) {
  return Proxy::Create(options, FixedBackend()).status();
}

// A bound UDP socket, as a service manager would pass it; the port that the
// kernel chose where `address` has none.
int BoundSocket(const SocketAddress& address, SocketAddress* bound) {
  const int fd = socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
  sockaddr_storage name;
  socklen_t size = address.ToSockaddr(address.family(), &name);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&name), size), 0);
  size = sizeof(name);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
  *bound =
      SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&name), size);
  return fd;
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

// All numbers that are not zero, for the text of a failure.
std::string Numbers(const ProxyStats& stats) {
  std::string text;
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (stats.*field.value == 0) continue;
    absl::StrAppend(&text, field.name, "=", stats.*field.value, " ");
  }
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    if (stats.datagrams_dropped[i] == 0) continue;
    absl::StrAppend(&text, "dropped ",
                    DropReasonName(static_cast<DropReason>(i)), "=",
                    stats.datagrams_dropped[i], " ");
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    if (stats.sessions_ended[i] == 0) continue;
    absl::StrAppend(&text, "ended ", EndReasonName(static_cast<EndReason>(i)),
                    "=", stats.sessions_ended[i], " ");
  }
  return text;
}

struct BadOption {
  const char* field;
  std::function<void(ProxyOptions*)> spoil;
};

void PrintTo(const BadOption& option, std::ostream* out) {
  *out << option.field;
}

class ProxyBadOptionTest : public ::testing::TestWithParam<BadOption> {};

TEST_P(ProxyBadOptionTest, CreateNamesTheField) {
  ProxyOptions options = LoopbackOptions();
  ASSERT_TRUE(options.Validate().ok());
  GetParam().spoil(&options);
  for (const absl::Status& status :
       {options.Validate(), CreateStatus(options)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), GetParam().field))
        << status;
  }
}

#define UDPGATE_BAD(field, value)                                  \
  BadOption {                                                      \
#field, [](ProxyOptions * options) { options->field = value; } \
  }

INSTANTIATE_TEST_SUITE_P(
    All, ProxyBadOptionTest,
    ::testing::Values(
        UDPGATE_BAD(listen_address, SocketAddress()),
        UDPGATE_BAD(listener_count, -1), UDPGATE_BAD(listener_count, 0),
        UDPGATE_BAD(listener_count, 65), UDPGATE_BAD(worker_count, -1),
        UDPGATE_BAD(worker_count, 257), UDPGATE_BAD(queue_size_datagrams, 0),
        UDPGATE_BAD(queue_size_datagrams, -1),
        UDPGATE_BAD(queue_size_datagrams, (1 << 20) + 1),
        UDPGATE_BAD(disconnect_queue_size, 0),
        UDPGATE_BAD(disconnect_queue_size, (1 << 20) + 1),
        UDPGATE_BAD(event_queue_size, 0),
        UDPGATE_BAD(event_queue_size, (1 << 20) + 1),
        UDPGATE_BAD(session_events_max, 0),
        UDPGATE_BAD(session_events_max, (1 << 20) + 1),
        UDPGATE_BAD(listen_fds, std::vector<int>(65, -1)),
        UDPGATE_BAD(batch_size, 0), UDPGATE_BAD(batch_size, 1025),
        UDPGATE_BAD(receive_buffer_bytes, 4095),
        UDPGATE_BAD(receive_buffer_bytes, -1),
        UDPGATE_BAD(receive_buffer_bytes, (int64_t{1} << 30) + 1),
        UDPGATE_BAD(limits.session_idle_timeout, absl::Milliseconds(9)),
        UDPGATE_BAD(limits.session_idle_timeout, -absl::Seconds(1)),
        UDPGATE_BAD(limits.session_idle_timeout, absl::Hours(25)),
        UDPGATE_BAD(limits.session_idle_timeout, absl::InfiniteDuration()),
        UDPGATE_BAD(limits.max_sessions, -1),
        UDPGATE_BAD(limits.backend_refusals_max, 0),
        UDPGATE_BAD(limits.backend_refusals_max, 1001),
        UDPGATE_BAD(limits.resolve_timeout, absl::ZeroDuration()),
        UDPGATE_BAD(limits.resolve_timeout, absl::Hours(2)),
        UDPGATE_BAD(limits.resolve_timeout, absl::InfiniteDuration()),
        UDPGATE_BAD(limits.pending_datagrams_max, 0),
        UDPGATE_BAD(limits.pending_datagrams_max, 1025)));

#undef UDPGATE_BAD

TEST(ProxyCreateTest, AResolverMustBeThere) {
  const absl::Status status =
      Proxy::Create(LoopbackOptions(), ProxyDependencies()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "resolver")) << status;
}

TEST(ProxyCreateTest, AnAddressOfAnotherMachineIsNamedInTheError) {
  ProxyOptions options = LoopbackOptions();
  options.listen_address = *SocketAddress::Parse("192.0.2.1:19132");
  const absl::Status status = CreateStatus(options);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(absl::StrContains(status.message(), "192.0.2.1:19132")) << status;
}

TEST(ProxyCreateTest, AdoptedDescriptorsAreClosedWhereCreateFails) {
  SocketAddress address;
  const int fd = BoundSocket(SocketAddress::Ipv4Loopback(0), &address);
  ProxyOptions options = LoopbackOptions();
  options.listen_fds = {fd};
  options.batch_size = 0;
  EXPECT_FALSE(CreateStatus(options).ok());
  EXPECT_FALSE(IsOpen(fd));
}

TEST(ProxyCreateTest, WhatIsNoUdpSocketIsNotAdopted) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ProxyOptions options = LoopbackOptions();
  options.listen_fds = {fd};
  EXPECT_FALSE(CreateStatus(options).ok());
  EXPECT_FALSE(IsOpen(fd));
}

TEST(ProxyCreateTest, EverySystemCallMayFail) {
  // Counts the calls of a Create that succeeds, then fails each in turn.
  constexpr Call kCalls[] = {Call::kSocket, Call::kBind, Call::kGetSockName,
                             Call::kEpollCreate, Call::kEventFd};
  for (const Call call : kCalls) {
    FailingSysCalls sys_calls;
    ProxyDependencies dependencies = FixedBackend();
    dependencies.sys_calls = &sys_calls;
    ASSERT_TRUE(Proxy::Create(LoopbackOptions(), dependencies).ok());
    const int64_t call_count = sys_calls.calls(call);
    // Whoever watches the host's addresses can be done without.
    int survived_count = 0;
    for (int64_t n = 1; n <= call_count; ++n) {
      sys_calls.Reset();
      sys_calls.FailNth(call, n, EMFILE);
      const absl::Status status =
          Proxy::Create(LoopbackOptions(), dependencies).status();
      if (status.ok()) ++survived_count;
      EXPECT_EQ(sys_calls.failures(call), 1);
    }
    const bool is_watchers = call == Call::kSocket || call == Call::kBind;
    EXPECT_EQ(survived_count, is_watchers ? 1 : 0)
        << "call " << static_cast<int>(call);
  }
}

TEST(ProxyCreateTest, SessionsAreLimitedByTheDescriptorLimit) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  auto proxy = Proxy::Create(LoopbackOptions(), FixedBackend());
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EXPECT_GT((*proxy)->max_sessions(), 0);
  EXPECT_LT((*proxy)->max_sessions(), static_cast<int64_t>(limit.rlim_cur));
}

TEST(ProxyCreateTest, TheLeastOfThreeLimitsHoldsAndIsNamed) {
  using Cause = SessionLimit::Cause;
  const auto limit_of = [](const ProxyOptions& options) {
    auto proxy = Proxy::Create(options, FixedBackend());
    EXPECT_TRUE(proxy.ok()) << proxy.status();
    return (*proxy)->session_limit();
  };
  rlimit descriptors;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
  ProxyOptions options = LoopbackOptions();
  options.relay_ports = {40001, 40002, 40003};
  EXPECT_EQ(limit_of(options).sessions_max, 3);
  EXPECT_EQ(limit_of(options).cause, Cause::kSourcePorts);
  // Each address has all of them, towards backends of its family.
  options.upstream_bind_addresses = {SocketAddress::Ipv4Loopback(0),
                                     *SocketAddress::Parse("127.0.0.2:0")};
  EXPECT_EQ(limit_of(options).sessions_max, 6);
  EXPECT_EQ(limit_of(options).cause, Cause::kSourcePorts);
  options.limits.max_sessions = 5;
  EXPECT_EQ(limit_of(options).sessions_max, 5);
  EXPECT_EQ(limit_of(options).cause, Cause::kSetting);
  // Whatever the setting says a reserve of descriptors is kept.
  options.relay_ports.clear();
  for (uint16_t port = 1024; port < 65535; ++port) {
    options.relay_ports.push_back(port);
  }
  rlimit few = descriptors;
  few.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  options.limits.max_sessions = 1'000'000;
  EXPECT_EQ(limit_of(options).cause, Cause::kDescriptors);
  EXPECT_GT(limit_of(options).sessions_max, 500);
  EXPECT_LE(limit_of(options).sessions_max, 1000 - 192);
  // Also where it comes later.
  options.limits.max_sessions = 10;
  auto proxy = Proxy::Create(options, FixedBackend());
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EXPECT_EQ((*proxy)->max_sessions(), 10);
  options.limits.max_sessions = 1'000'000;
  ASSERT_TRUE((*proxy)->SetLimits(options.limits).ok());
  EXPECT_EQ((*proxy)->session_limit().cause, Cause::kDescriptors);
  EXPECT_LE((*proxy)->max_sessions(), 1000 - 192);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
}

TEST(ProxyCreateTest, TheGrantedReceiveBufferIsKnown) {
  ProxyOptions options = LoopbackOptions();
  options.receive_buffer_bytes = 65536;
  auto proxy = Proxy::Create(options, FixedBackend());
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EXPECT_EQ((*proxy)->receive_buffer_bytes(), 65536);
}

// All below runs with each shape of the thread pool.
class ProxyTest : public ::testing::TestWithParam<std::tuple<int, int>> {
 protected:
  ProxyTest() {
    options_ = LoopbackOptions();
    options_.worker_count = std::get<0>(GetParam());
    options_.listener_count = std::get<1>(GetParam());
    dependencies_.resolver = resolver_;
    dependencies_.disconnects = disconnects_;
    ON_CALL(*resolver_, Resolve).WillByDefault(ResolveWith(backend_.address()));
    ON_CALL(*disconnects_, Start)
        .WillByDefault(CaptureHandlerIn(&disconnect_handler_));
  }

  void Create() {
    auto proxy = Proxy::Create(options_, dependencies_);
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
  }
  void Start() {
    Create();
    ASSERT_NE(proxy_, nullptr);
    const absl::Status status = proxy_->Start();
    ASSERT_TRUE(status.ok()) << status;
  }

  const SocketAddress& gate() const { return proxy_->listen_addresses()[0]; }

  // The payload that came back, or the error.
  std::string Ask(LoopbackPeer& client, absl::string_view payload) {
    const absl::StatusOr<std::string> reply = client.Ask(gate(), payload);
    return reply.ok() ? *reply : reply.status().ToString();
  }
  void Send(const LoopbackPeer& client, absl::string_view payload) {
    const absl::Status sent = client.Send(gate(), payload);
    ASSERT_TRUE(sent.ok()) << sent;
  }

  std::vector<SessionInfo> Sessions() const {
    std::vector<SessionInfo> sessions;
    proxy_->ForEachSession(
        [&](const SessionInfo& session) { sessions.push_back(session); });
    return sessions;
  }

  // Ends what `target` names; the number that `done` was given.
  int64_t Disconnect(const DisconnectTarget& target) {
    auto count = std::make_shared<std::atomic<int64_t>>(-1);
    proxy_->Disconnect(target, [count](int64_t ended) { *count = ended; });
    EXPECT_TRUE(AwaitTrue([&] { return *count != -1; }));
    return *count;
  }

  bool AwaitDropped(DropReason reason, uint64_t count) {
    return AwaitTrue(
        [&] { return proxy_->GetStats().dropped(reason) == count; });
  }
  bool AwaitEnded(EndReason reason, uint64_t count) {
    return AwaitTrue([&] { return proxy_->GetStats().ended(reason) == count; });
  }

  static bool IsAccounted(const ProxyStats& stats) {
    return stats.client_datagrams_received + stats.backend_datagrams_received ==
               stats.client_datagrams_forwarded +
                   stats.backend_datagrams_forwarded + stats.dropped_total() +
                   stats.datagrams_held &&
           stats.sessions_created == stats.sessions_active +
                                         stats.sessions_pending +
                                         stats.ended_total();
  }

  ProxyOptions options_;
  ProxyDependencies dependencies_;
  EchoBackend backend_{"echo"};
  std::shared_ptr<NiceMock<MockBackendResolver>> resolver_ =
      std::make_shared<NiceMock<MockBackendResolver>>();
  std::shared_ptr<NiceMock<MockDisconnectSource>> disconnects_ =
      std::make_shared<NiceMock<MockDisconnectSource>>();
  DisconnectSource::Handler disconnect_handler_;
  HeldResolves held_;
  std::unique_ptr<Proxy> proxy_;  // last: uses all of the above
};

INSTANTIATE_TEST_SUITE_P(All, ProxyTest,
                         ::testing::Combine(::testing::Values(0, 1, 4),
                                            ::testing::Values(1, 2)),
                         [](const auto& shape) {
                           return absl::StrCat(
                               "Workers", std::get<0>(shape.param), "Listeners",
                               std::get<1>(shape.param));
                         });

TEST_P(ProxyTest, RelaysBothWays) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  EXPECT_EQ(Ask(client, ""), "echo:");
  const std::string large(60000, 'x');
  EXPECT_EQ(Ask(client, large), absl::StrCat("echo:", large));
  EXPECT_TRUE(AwaitTrue([&] {
    const ProxyStats stats = proxy_->GetStats();
    return stats.client_datagrams_forwarded == 3 &&
           stats.backend_datagrams_forwarded == 3 && IsAccounted(stats);
  }));
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.client_bytes_received, 60005u);
  EXPECT_EQ(stats.client_bytes_forwarded, 60005u);
  EXPECT_EQ(stats.backend_bytes_received, 60020u);
  EXPECT_EQ(stats.backend_bytes_forwarded, 60020u);
  EXPECT_EQ(stats.sessions_created, 1u);
  EXPECT_EQ(stats.resolves_started, 1u);
  EXPECT_EQ(stats.dropped_total(), 0u);
}

TEST_P(ProxyTest, RepliesReachTheClientThatAsked) {
  Start();
  std::vector<LoopbackPeer> clients(50);
  for (size_t i = 0; i < clients.size(); ++i) {
    Send(clients[i], absl::StrCat(i));
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    const auto reply = clients[i].Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, absl::StrCat("echo:", i));
    EXPECT_EQ(reply->from, gate());
  }
  EXPECT_EQ(backend_.sources().size(), clients.size());
}

TEST_P(ProxyTest, DatagramsOfAClientKeepTheirOrder) {
  Start();
  // At most so many on their way: no socket buffer overflows.
  constexpr int kRoundCount = 10;
  constexpr int kDatagramsPerRound = 50;
  std::vector<LoopbackPeer> clients(4);
  for (LoopbackPeer& client : clients) {
    ASSERT_EQ(Ask(client, "begin"), "echo:begin");
  }
  for (int round = 0; round < kRoundCount; ++round) {
    for (int i = 0; i < kDatagramsPerRound; ++i) {
      for (LoopbackPeer& client : clients) {
        Send(client, absl::StrCat(round, " ", i));
      }
    }
    for (LoopbackPeer& client : clients) {
      for (int i = 0; i < kDatagramsPerRound; ++i) {
        const auto reply = client.Receive();
        ASSERT_TRUE(reply.ok()) << Numbers(proxy_->GetStats());
        ASSERT_EQ(reply->payload, absl::StrCat("echo:", round, " ", i));
      }
    }
  }
}

TEST_P(ProxyTest, PortZeroLetsTheKernelChoose) {
  Create();
  const std::vector<SocketAddress>& addresses = proxy_->listen_addresses();
  ASSERT_EQ(addresses.size(), std::get<1>(GetParam()));
  EXPECT_NE(addresses[0].port(), 0);
  for (const SocketAddress& address : addresses) {
    EXPECT_EQ(address, SocketAddress::Ipv4Loopback(addresses[0].port()));
  }
}

TEST_P(ProxyTest, ASecondGateOnTheSameAddressIsRefused) {
  Create();
  ProxyOptions second = options_;
  second.listen_address = gate();
  const absl::Status status = CreateStatus(second);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(absl::StrContains(status.message(), gate().ToString())) << status;
}

TEST_P(ProxyTest, AddressIsFreeAgainAfterTheEnd) {
  Start();
  options_.listen_address = gate();
  proxy_.reset();
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
}

TEST_P(ProxyTest, AdoptsListenDescriptors) {
  // Their number counts, whatever listener_count says.
  SocketAddress address;
  const int first = BoundSocket(SocketAddress::Ipv4Loopback(0), &address);
  options_.listen_fds = {first, BoundSocket(address, &address)};
  options_.listen_address = SocketAddress();
  Start();
  ASSERT_EQ(proxy_->listen_addresses().size(), 2u);
  EXPECT_EQ(proxy_->listen_addresses()[0], address);
  EXPECT_EQ(proxy_->listen_addresses()[1], address);
  std::vector<LoopbackPeer> clients(8);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  }
  proxy_.reset();
  EXPECT_FALSE(IsOpen(first));
}

TEST_P(ProxyTest, DatagramsFromBeforeTheStartAreServed) {
  Create();
  LoopbackPeer client;
  Send(client, "early");
  ASSERT_TRUE(proxy_->Start().ok());
  const auto reply = client.Receive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->payload, "echo:early");
}

TEST_P(ProxyTest, StartsOnce) {
  Start();
  EXPECT_EQ(proxy_->Start().code(), absl::StatusCode::kFailedPrecondition);
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
}

TEST_P(ProxyTest, DoesNotStartAfterStop) {
  Create();
  proxy_->Stop();
  EXPECT_EQ(proxy_->Start().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_P(ProxyTest, AFailingDisconnectSourceMakesStartFail) {
  EXPECT_CALL(*disconnects_, Start)
      .WillOnce(FailToStart(absl::PermissionDeniedError("no bus")));
  Create();
  const absl::Status status = proxy_->Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(absl::StrContains(status.message(), "no bus")) << status;
}

TEST_P(ProxyTest, StopEndsSessionsAndKeepsStatistics) {
  EXPECT_CALL(*disconnects_, Stop).Times(::testing::AtLeast(1));
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  proxy_->Stop();
  proxy_->Stop();
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kStopped), 1u);
  EXPECT_EQ(stats.sessions_active, 0u);
  EXPECT_EQ(stats.datagrams_held, 0u);
  EXPECT_EQ(stats.relay_ports_in_use, 0u);
  EXPECT_EQ(stats.client_datagrams_forwarded, 1u);
  EXPECT_TRUE(IsAccounted(stats));
  EXPECT_TRUE(Sessions().empty());
}

TEST_P(ProxyTest, AnObserverIsToldOfSessionsWhileTheyLiveAndByTheStop) {
  const auto observer = std::make_shared<RecordingSessionObserver>();
  dependencies_.session_observer = observer;
  options_.session_events_max = 2;  // fewer than end at once
  Start();
  LoopbackPeer clients[10];
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "hello"), "echo:hello");
    const size_t opened = &client - clients + 1;
    ASSERT_TRUE(AwaitTrue([&] { return observer->events().size() == opened; }));
  }
  EXPECT_EQ(observer->events()[0].kind, SessionEvent::Kind::kOpened);
  EXPECT_EQ(observer->events()[0].client, clients[0].address());
  EXPECT_EQ(observer->events()[0].backend, backend_.address());
  EXPECT_EQ(observer->events()[0].local, gate());
  proxy_->Stop();
  const std::vector<SessionEvent> events = observer->events();
  EXPECT_EQ(events.size(), 20u);
  for (size_t i = 10; i < events.size(); ++i) {
    EXPECT_EQ(events[i].kind, SessionEvent::Kind::kEnded);
    EXPECT_EQ(events[i].end_reason, EndReason::kStopped);
    EXPECT_EQ(events[i].client_bytes_forwarded, 5u);
    EXPECT_EQ(events[i].backend_bytes_forwarded, 10u);
  }
  EXPECT_EQ(proxy_->GetStats().session_events_dropped, 0u);
}

TEST_P(ProxyTest, AnObserverThatBlocksDelaysNothingAndLosesEvents) {
  std::promise<void> may_return;
  const std::shared_future<void> returns = may_return.get_future().share();
  const auto observer = std::make_shared<NiceMock<MockSessionObserver>>();
  ON_CALL(*observer, Observe).WillByDefault([returns] { returns.wait(); });
  dependencies_.session_observer = observer;
  options_.session_events_max = 1;
  Start();
  LoopbackPeer client;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Ask(client, "hello"), "echo:hello");
    EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(client.address())), 1);
  }
  // One waits, or is in the call.
  EXPECT_EQ(proxy_->GetStats().session_events_dropped, 19u);
  may_return.set_value();
}

TEST_P(ProxyTest, StopFromSeveralThreadsAtOnce) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { proxy_->Stop(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(proxy_->GetStats().ended(EndReason::kStopped), 1u);
}

TEST_P(ProxyTest, StopDoesNotWaitForTheResolver) {
  EXPECT_CALL(*resolver_, Resolve).WillOnce(HoldResolveIn(&held_));
  Start();
  LoopbackPeer client;
  Send(client, "hello");
  absl::StatusOr<HeldResolve> question = held_.Take();
  ASSERT_TRUE(question.ok()) << question.status();
  const absl::Time begin = absl::Now();
  proxy_->Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kStopped), 1u);
  EXPECT_EQ(stats.dropped(DropReason::kSessionEnded), 1u);
  EXPECT_TRUE(IsAccounted(stats));
  question->done(ResolveResult{backend_.address(), "late"});
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
}

TEST_P(ProxyTest, AnAnswerMayOutliveTheProxy) {
  EXPECT_CALL(*resolver_, Resolve)
      .Times(2)
      .WillRepeatedly(HoldResolveIn(&held_));
  Start();
  LoopbackPeer clients[2];
  for (LoopbackPeer& client : clients) Send(client, "hello");
  absl::StatusOr<HeldResolve> answered = held_.Take();
  absl::StatusOr<HeldResolve> dropped = held_.Take();
  ASSERT_TRUE(answered.ok() && dropped.ok());
  proxy_.reset();
  answered->done(ResolveResult{backend_.address(), "late"});
  dropped->done = nullptr;
}

TEST_P(ProxyTest, AnswersRaceWithStop) {
  ON_CALL(*resolver_, Resolve).WillByDefault(HoldResolveIn(&held_));
  for (int round = 0; round < 10; ++round) {
    Start();
    LoopbackPeer client;
    Send(client, "hello");
    absl::StatusOr<HeldResolve> question = held_.Take();
    ASSERT_TRUE(question.ok()) << question.status();
    std::thread answerer([&] {
      question->done(ResolveResult{backend_.address(), "racing"});
    });
    proxy_->Stop();
    EXPECT_TRUE(IsAccounted(proxy_->GetStats()));
    proxy_.reset();
    answerer.join();
  }
}

struct Failure {
  absl::Status status;
  DropReason drop_reason;
  EndReason end_reason;
};

TEST_P(ProxyTest, ErrorsOfTheResolverDecideTheReason) {
  const Failure failures[] = {
      {absl::NotFoundError("no key"), DropReason::kNoBackend,
       EndReason::kResolveFailed},
      {absl::InvalidArgumentError("garbage"), DropReason::kInvalidBackend,
       EndReason::kResolveFailed},
      {absl::DeadlineExceededError("slow"), DropReason::kResolveTimedOut,
       EndReason::kResolveTimedOut},
      {absl::UnavailableError("away"), DropReason::kResolveFailed,
       EndReason::kResolveFailed},
      {absl::InternalError("bug"), DropReason::kResolveFailed,
       EndReason::kResolveFailed},
  };
  for (const Failure& failure : failures) {
    EXPECT_CALL(*resolver_, Resolve)
        .WillOnce(ResolveWithError(failure.status))
        .WillOnce(ResolveWith(backend_.address()));
    Start();
    LoopbackPeer client;
    Send(client, "lost");
    EXPECT_TRUE(AwaitDropped(failure.drop_reason, 1)) << failure.status;
    EXPECT_TRUE(AwaitEnded(failure.end_reason, 1)) << failure.status;
    EXPECT_EQ(Ask(client, "asks again"), "echo:asks again");
    ::testing::Mock::VerifyAndClearExpectations(resolver_.get());
  }
}

TEST_P(ProxyTest, ABackendWithoutAddressIsInvalid) {
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(SocketAddress()))
      .WillOnce(ResolveWith(SocketAddress::Ipv4Loopback(0)));
  Start();
  LoopbackPeer client;
  Send(client, "one");
  EXPECT_TRUE(AwaitDropped(DropReason::kInvalidBackend, 1));
  Send(client, "two");
  EXPECT_TRUE(AwaitDropped(DropReason::kInvalidBackend, 2));
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

TEST_P(ProxyTest, ADroppedQuestionTimesOut) {
  options_.limits.resolve_timeout = absl::Milliseconds(20);
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce([](const ResolveRequest& request,
                   BackendResolver::Callback /*done*/) {
        EXPECT_EQ(request.timeout, absl::Milliseconds(20));
      })
      .WillOnce(ResolveWith(backend_.address()));
  Start();
  LoopbackPeer client;
  Send(client, "lost");
  EXPECT_TRUE(AwaitDropped(DropReason::kResolveTimedOut, 1));
  EXPECT_TRUE(AwaitEnded(EndReason::kResolveTimedOut, 1));
  EXPECT_EQ(proxy_->GetStats().resolves_timed_out, 1u);
  EXPECT_EQ(Ask(client, "asks again"), "echo:asks again");
}

TEST_P(ProxyTest, DatagramsWaitForTheBackendUpToTheLimit) {
  options_.limits.pending_datagrams_max = 3;
  EXPECT_CALL(*resolver_, Resolve).WillOnce(HoldResolveIn(&held_));
  Start();
  LoopbackPeer client;
  for (int i = 0; i < 5; ++i) Send(client, absl::StrCat(i));
  EXPECT_TRUE(AwaitDropped(DropReason::kPendingFull, 2));
  EXPECT_EQ(proxy_->GetStats().datagrams_held, 3u);
  EXPECT_EQ(proxy_->GetStats().sessions_pending, 1u);
  absl::StatusOr<HeldResolve> question = held_.Take();
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->first_datagram, "0");
  question->done(ResolveResult{backend_.address(), "late"});
  for (int i = 0; i < 3; ++i) {
    const auto reply = client.Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, absl::StrCat("echo:", i));
  }
}

TEST_P(ProxyTest, DisconnectByClientCountsWhatItEnded) {
  EchoBackend second("second");
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(backend_.address()))
      .WillOnce(ResolveWith(second.address()));
  Start();
  LoopbackPeer client, stranger;
  const auto target = DisconnectTarget::ForClient(client.address());
  EXPECT_EQ(Disconnect(target), 0);
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(stranger.address())), 0);
  EXPECT_EQ(Disconnect(target), 1);
  EXPECT_EQ(Disconnect(target), 0);
  EXPECT_EQ(Ask(client, "two"), "second:two");
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kDisconnected), 1u);
  EXPECT_EQ(stats.disconnects_received, 4u);
  EXPECT_EQ(stats.disconnects_unmatched, 3u);
  EXPECT_EQ(stats.disconnects_matched, 1u);
}

TEST_P(ProxyTest, DisconnectByRelayPortCountsWhatItEnded) {
  Start();
  LoopbackPeer client, other;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  const uint16_t port = backend_.sources()[0].port();
  EXPECT_EQ(Ask(other, "other"), "echo:other");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(port)), 1);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(port)), 0);
  const std::vector<SessionInfo> left = Sessions();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].client, other.address());
}

// It takes many turns, and concerns nobody who comes meanwhile.
TEST_P(ProxyTest, WhoComesWhileABackendsSessionsEndIsServedAtOnce) {
  constexpr int kClients = 300;
  constexpr int kNewcomers = 20;
  std::atomic<int> questions{0};
  EXPECT_CALL(*resolver_, Resolve)
      .WillRepeatedly(
          [&](const ResolveRequest& request, BackendResolver::Callback done) {
            ++questions;
            ResolveWith(backend_.address())(request, std::move(done));
          });
  Start();
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "one"), "echo:one");
  }
  std::atomic<int64_t> ended_count{-1};
  proxy_->Disconnect(DisconnectTarget::ForBackend(backend_.address()),
                     [&](int64_t ended) { ended_count = ended; });
  std::vector<LoopbackPeer> newcomers(kNewcomers);
  for (LoopbackPeer& newcomer : newcomers) {
    EXPECT_EQ(Ask(newcomer, "two"), "echo:two");
  }
  EXPECT_TRUE(AwaitTrue([&] { return ended_count != -1; }));
  EXPECT_EQ(ended_count, kClients);
  EXPECT_LE(questions, kClients + 2 * kNewcomers);
  EXPECT_EQ(proxy_->GetStats().sessions_active, uint64_t{kNewcomers});
}

TEST_P(ProxyTest, DisconnectByTextEndsAllThatItNames) {
  std::atomic<bool> is_moved{false};
  EXPECT_CALL(*resolver_, Resolve)
      .WillRepeatedly(
          [&](const ResolveRequest&, BackendResolver::Callback done) {
            done(ResolveResult{backend_.address(),
                               is_moved ? "lobby-2:1" : "lobby-1:1"});
          });
  Start();
  std::vector<LoopbackPeer> clients(20);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "one"), "echo:one");
  }
  is_moved = true;
  LoopbackPeer other;
  EXPECT_EQ(Ask(other, "one"), "echo:one");
  EXPECT_EQ(Disconnect(*DisconnectTarget::Parse("backend lobby-3:1")), 0);
  EXPECT_EQ(Disconnect(*DisconnectTarget::Parse("backend LOBBY-1:1")), 20);
  const std::vector<SessionInfo> left = Sessions();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].client, other.address());
}

TEST_P(ProxyTest, DisconnectByIpOrBackendEndsAllThatItNames) {
  EchoBackend second("second");
  constexpr int kClients = 40;
  std::atomic<bool> is_moved{false};
  EXPECT_CALL(*resolver_, Resolve)
      .WillRepeatedly(
          [&](const ResolveRequest& request, BackendResolver::Callback done) {
            ResolveWith(is_moved ? second.address() : backend_.address())(
                request, std::move(done));
          });
  Start();
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "one"), "echo:one");
  }
  EXPECT_EQ(Disconnect(DisconnectTarget::ForBackend(second.address())), 0);
  is_moved = true;
  EXPECT_EQ(Disconnect(DisconnectTarget::ForBackend(backend_.address())),
            kClients);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "two"), "second:two");
  }
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClientIp(
                *SocketAddress::FromIpAndPort("127.0.0.2", 0))),
            0);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClientIp(clients[0].address())),
            kClients);
  EXPECT_EQ(Ask(clients[0], "three"), "second:three");
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.ended(EndReason::kDisconnected), 2u * kClients);
  EXPECT_EQ(stats.disconnects_received, 4u);
  EXPECT_EQ(stats.disconnects_unmatched, 2u);
  EXPECT_EQ(stats.disconnects_matched, 2u);
}

TEST_P(ProxyTest, DisconnectByRelayIsExact) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  const SocketAddress relay = backend_.sources()[0];
  const SocketAddress elsewhere =
      *SocketAddress::FromIpAndPort("127.0.0.99", relay.port());
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelay(elsewhere)), 0);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelay(relay)), 1);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelay(relay)), 0);
  EXPECT_EQ(proxy_->GetStats().disconnects_unmatched, 2u);
}

TEST_P(ProxyTest, NewLimitsHoldForWhoComesAndForIdleSessions) {
  Start();
  LoopbackPeer first, second, third;
  EXPECT_EQ(Ask(first, "one"), "echo:one");
  ProxyLimits limits;
  limits.max_sessions = 1;
  ASSERT_TRUE(proxy_->SetLimits(limits).ok());
  EXPECT_EQ(proxy_->max_sessions(), 1);
  limits.backend_refusals_max = 0;
  limits.max_sessions = 5;
  const absl::Status refused = proxy_->SetLimits(limits);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(proxy_->max_sessions(), 1);
  limits = ProxyLimits();
  limits.deny_cidrs = *ParseCidrList("127.0.0.0/8");
  limits.session_idle_timeout = absl::Milliseconds(50);
  ASSERT_TRUE(proxy_->SetLimits(limits).ok());
  ASSERT_TRUE(second.Send(proxy_->listen_addresses().front(), "two").ok());
  EXPECT_TRUE(AwaitDropped(DropReason::kDenied, 1));
  // It was to rest for a minute when it began.
  EXPECT_TRUE(AwaitEnded(EndReason::kIdle, 1));
  ASSERT_TRUE(proxy_->SetLimits(ProxyLimits()).ok());
  EXPECT_EQ(Ask(third, "three"), "echo:three");
}

TEST_P(ProxyTest, DisconnectWithoutDone) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  proxy_->Disconnect(DisconnectTarget::ForClient(client.address()));
  EXPECT_TRUE(AwaitEnded(EndReason::kDisconnected, 1));
}

TEST_P(ProxyTest, DisconnectMakesAPendingClientAskAgain) {
  EchoBackend second("second");
  EXPECT_CALL(*resolver_, Resolve)
      .Times(2)
      .WillRepeatedly(HoldResolveIn(&held_));
  Start();
  LoopbackPeer client;
  Send(client, "hello");
  absl::StatusOr<HeldResolve> stale = held_.Take();
  ASSERT_TRUE(stale.ok()) << stale.status();
  Disconnect(DisconnectTarget::ForClient(client.address()));
  stale->done(ResolveResult{backend_.address(), "stale"});
  absl::StatusOr<HeldResolve> fresh = held_.Take();
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  fresh->done(ResolveResult{second.address(), "fresh"});
  const auto reply = client.Receive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->payload, "second:hello");
  EXPECT_EQ(backend_.received_count(), 0u);
}

TEST_P(ProxyTest, DisconnectAfterStopDropsItsCallback) {
  Start();
  proxy_->Stop();
  auto token = std::make_shared<int>(0);
  std::weak_ptr<int> alive = token;
  proxy_->Disconnect(DisconnectTarget::ForRelayPort(4000),
                     [token = std::move(token)](int64_t) { ADD_FAILURE(); });
  proxy_.reset();
  EXPECT_TRUE(alive.expired());
}

TEST_P(ProxyTest, EventsOfTheSourceAreCounted) {
  Start();
  ASSERT_TRUE(disconnect_handler_);
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  disconnect_handler_(absl::InvalidArgumentError("garbage"));
  disconnect_handler_(DisconnectTarget::ForRelayPort(1));
  disconnect_handler_(DisconnectTarget::ForClient(client.address()));
  EXPECT_TRUE(AwaitEnded(EndReason::kDisconnected, 1));
  EXPECT_TRUE(AwaitTrue([&] {
    const ProxyStats stats = proxy_->GetStats();
    return stats.disconnects_received == 3 && stats.disconnects_invalid == 1 &&
           stats.disconnects_unmatched == 1;
  }));
}

// One port, two source addresses: the number names two sessions.
TEST_P(ProxyTest, ARelayPortThatFitsSeveralSessionsEndsNone) {
  const SocketAddress spare = LoopbackPeer().address();
  options_.relay_ports = {spare.port()};
  EchoBackend ipv6_backend("v6", SocketAddress::Ipv6Loopback(0));
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(backend_.address()))
      .WillOnce(ResolveWith(ipv6_backend.address()));
  Start();
  LoopbackPeer first, second;
  EXPECT_EQ(Ask(first, "one"), "echo:one");
  EXPECT_EQ(Ask(second, "two"), "v6:two");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(spare.port())), 0);
  EXPECT_EQ(proxy_->GetStats().disconnects_ambiguous, 1u);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 2u);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(first.address())), 1);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForRelayPort(spare.port())), 1);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
}

// A read that fails must leave the socket armed for the next datagram.
TEST_P(ProxyTest, AFailedReadLeavesNoSocketDead) {
  FailingSysCalls sys_calls;
  dependencies_.sys_calls = &sys_calls;
  Start();
  LoopbackPeer client;
  for (int i = 0; i < 5; ++i) {
    sys_calls.FailNext(Call::kRecvMmsg, ENOBUFS, 3);
    EXPECT_EQ(Ask(client, absl::StrCat(i)), absl::StrCat("echo:", i));
  }
  proxy_->Stop();
  proxy_.reset();
}

TEST_P(ProxyTest, WorksWithoutADisconnectSource) {
  dependencies_.disconnects = nullptr;
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(client.address())), 1);
}

TEST_P(ProxyTest, IsAliveBetweenStartAndStop) {
  Create();
  EXPECT_FALSE(proxy_->IsAlive(absl::ZeroDuration()));
  ASSERT_TRUE(proxy_->Start().ok());
  // Idle, and with traffic.
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(proxy_->IsAlive(kAwaitTimeout));
  LoopbackPeer client;
  for (int i = 0; i < 20; ++i) {
    Send(client, "more");
    EXPECT_TRUE(proxy_->IsAlive(kAwaitTimeout));
  }
  proxy_->Stop();
  EXPECT_FALSE(proxy_->IsAlive(kAwaitTimeout));
}

TEST_P(ProxyTest, IsNotAliveWhileAShardHangs) {
  std::atomic<bool> hangs{false};
  std::promise<void> may_go_on;
  EXPECT_CALL(*resolver_, Resolve).WillOnce([&](auto&&...) {
    hangs = true;
    may_go_on.get_future().wait();
  });
  Start();
  LoopbackPeer client;
  Send(client, "hello");
  ASSERT_TRUE(AwaitTrue([&] { return hangs.load(); }));
  EXPECT_FALSE(proxy_->IsAlive(absl::Milliseconds(50)));
  may_go_on.set_value();
  EXPECT_TRUE(proxy_->IsAlive(kAwaitTimeout));
}

TEST_P(ProxyTest, DrainRefusesNewClientsAndKeepsLiveOnes) {
  Start();
  LoopbackPeer live, late;
  EXPECT_EQ(Ask(live, "one"), "echo:one");
  proxy_->Drain();
  Send(late, "refused");
  EXPECT_TRUE(AwaitDropped(DropReason::kDraining, 1));
  EXPECT_EQ(Ask(live, "two"), "echo:two");
  EXPECT_EQ(proxy_->GetStats().sessions_active, 1u);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(live.address())), 1);
  Send(live, "refused, too");
  EXPECT_TRUE(AwaitDropped(DropReason::kDraining, 2));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
}

// Whatever shards the three belong to.
TEST_P(ProxyTest, AFullGateGivesUpAnUnconfirmedSessionForANewClient) {
  options_.limits.max_sessions = 2;
  Start();
  LoopbackPeer first, second, third;
  EXPECT_EQ(Ask(first, "1"), "echo:1");
  EXPECT_EQ(Ask(second, "2"), "echo:2");
  EXPECT_TRUE(AwaitTrue([&] {
    Send(third, "3");
    return proxy_->GetStats().sessions_created == 3;
  }));
  EXPECT_TRUE(AwaitTrue([&] { return third.TryReceive().ok(); }));
  EXPECT_GE(proxy_->GetStats().ended(EndReason::kEvicted), 1u);
  EXPECT_LE(proxy_->GetStats().sessions_active, 2u);
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

// Whatever shards they belong to, and whose the ports are.
TEST_P(ProxyTest, WhereSourcePortsRunOutAnUnconfirmedSessionGivesWay) {
  options_.relay_ports = {LoopbackPeer().address().port(),
                          LoopbackPeer().address().port()};
  Start();
  EXPECT_EQ(proxy_->max_sessions(), 2);
  for (int i = 0; i < 20; ++i) {
    LoopbackPeer newcomer;
    // With several shards its next datagram may be the one that finds a port.
    EXPECT_TRUE(AwaitTrue([&] {
      return newcomer
          .Ask(proxy_->listen_addresses().front(), "x", absl::Milliseconds(100))
          .ok();
    })) << i;
  }
  EXPECT_GE(proxy_->GetStats().ended(EndReason::kEvicted), 18u);
  EXPECT_LE(proxy_->GetStats().sessions_active, 2u);
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

TEST_P(ProxyTest, UnconfirmedSessionsOfOneAddressAreLimitedInAllShards) {
  options_.limits.max_unconfirmed_sessions_per_ip = 3;
  Start();
  std::vector<LoopbackPeer> clients(3);
  for (LoopbackPeer& client : clients) EXPECT_EQ(Ask(client, "1"), "echo:1");
  LoopbackPeer late;
  Send(late, "refused");
  EXPECT_TRUE(AwaitDropped(DropReason::kUnconfirmedLimitPerIp, 1));
  ProxyLimits limits = options_.limits;
  limits.max_unconfirmed_sessions_per_ip = 0;
  ASSERT_TRUE(proxy_->SetLimits(limits).ok());
  EXPECT_EQ(Ask(late, "2"), "echo:2");
}

TEST_P(ProxyTest, MaxSessionsRefusesFurtherClients) {
  options_.limits.max_sessions = 2;
  Start();
  EXPECT_EQ(proxy_->max_sessions(), 2);
  LoopbackPeer first, second, third;
  EXPECT_EQ(Ask(first, "1"), "echo:1");
  EXPECT_EQ(Ask(second, "2"), "echo:2");
  // Once they are confirmed, nobody takes their places.
  EXPECT_TRUE(AwaitTrue([&] {
    Ask(first, "playing");
    Ask(second, "playing");
    return proxy_->GetStats().sessions_confirmed == 2;
  }));
  Send(third, "3");
  EXPECT_TRUE(AwaitDropped(DropReason::kSessionLimit, 1));
  EXPECT_EQ(Ask(first, "still"), "echo:still");
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(second.address())), 1);
  EXPECT_EQ(Ask(third, "now"), "echo:now");
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

TEST_P(ProxyTest, ForEachSessionShowsEachOnce) {
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(ResolveWith(backend_.address(), "lobby"));
  Start();
  EXPECT_TRUE(Sessions().empty());
  std::vector<LoopbackPeer> clients(10);
  for (LoopbackPeer& client : clients) EXPECT_EQ(Ask(client, "12"), "echo:12");
  ASSERT_TRUE(AwaitTrue([&] {
    return proxy_->GetStats().backend_datagrams_forwarded == clients.size();
  }));
  const std::vector<SessionInfo> sessions = Sessions();
  ASSERT_EQ(sessions.size(), clients.size());
  std::vector<SocketAddress> relays = backend_.sources();
  for (const LoopbackPeer& client : clients) {
    int match_count = 0;
    for (const SessionInfo& session : sessions) {
      if (session.client != client.address()) continue;
      ++match_count;
      EXPECT_EQ(session.backend, backend_.address());
      EXPECT_EQ(session.label, "lobby");
      EXPECT_THAT(relays, ::testing::Contains(session.relay));
      EXPECT_EQ(session.client_datagrams_forwarded, 1u);
      EXPECT_EQ(session.client_bytes_forwarded, 2u);
      EXPECT_EQ(session.backend_datagrams_forwarded, 1u);
      EXPECT_EQ(session.backend_bytes_forwarded, 7u);
      EXPECT_GE(session.age, session.idle);
      EXPECT_GE(session.idle, absl::ZeroDuration());
    }
    EXPECT_EQ(match_count, 1);
  }
}

TEST_P(ProxyTest, ForEachSessionVisitsNoneBeforeTheStart) {
  Create();
  EXPECT_TRUE(Sessions().empty());
}

TEST_P(ProxyTest, AnIdleSessionEnds) {
  SimulatedClock clock;
  dependencies_.clock = &clock;
  options_.limits.session_idle_timeout = absl::Milliseconds(100);
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  clock.Advance(absl::Milliseconds(99));
  EXPECT_EQ(Ask(client, "again"), "echo:again");
  clock.Advance(absl::Milliseconds(99));
  EXPECT_EQ(proxy_->GetStats().ended(EndReason::kIdle), 0u);
  clock.Advance(absl::Milliseconds(26));  // 1.25 times the time-out
  EXPECT_TRUE(AwaitEnded(EndReason::kIdle, 1));
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
  proxy_.reset();  // before its clock
}

TEST_P(ProxyTest, RepliesLeaveFromTheAddressThatTheClientWroteTo) {
  for (const SocketAddress& any :
       {SocketAddress::Ipv4Any(0), SocketAddress::Ipv6Any(0)}) {
    options_.listen_address = any;
    Start();
    const uint16_t port = gate().port();
    EXPECT_EQ(gate(), any.WithPort(port));
    LoopbackPeer ipv4, ipv6(SocketAddress::Ipv6Loopback(0));
    for (const char* ip : {"127.0.0.1", "127.0.0.2", "127.0.0.3"}) {
      const auto to = *SocketAddress::FromIpAndPort(ip, port);
      ASSERT_TRUE(ipv4.Send(to, ip).ok());
      const auto reply = ipv4.Receive();
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->payload, absl::StrCat("echo:", ip));
      EXPECT_EQ(reply->from, to);
    }
    // One client, whichever address it wrote to, and it has its plain name.
    EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(ipv4.address())), 1);
    if (any.is_ipv4()) continue;
    const SocketAddress to = SocketAddress::Ipv6Loopback(port);
    ASSERT_TRUE(ipv6.Send(to, "six").ok());
    const auto reply = ipv6.Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, "echo:six");
    EXPECT_EQ(reply->from, to);
    EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(ipv6.address())), 1);
  }
}

TEST_P(ProxyTest, RefusalsInARowEndTheSession) {
  EchoBackend second("second");
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(backend_.address()))
      .WillOnce(ResolveWith(second.address()));
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  backend_.Stop();
  for (uint64_t count = 1; count <= 3; ++count) {
    Send(client, "into the void");
    ASSERT_TRUE(AwaitTrue([&] {
      return proxy_->GetStats().backend_refusals >= count;
    })) << Numbers(proxy_->GetStats());
  }
  EXPECT_TRUE(AwaitEnded(EndReason::kBackendRefused, 1))
      << Numbers(proxy_->GetStats());
  EXPECT_EQ(Ask(client, "two"), "second:two");
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

TEST_P(ProxyTest, OneRefusalIsSurvived) {
  EXPECT_CALL(*resolver_, Resolve).WillOnce(ResolveWith(backend_.address()));
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "one"), "echo:one");
  for (int round = 0; round < 5; ++round) {
    backend_.Stop();
    Send(client, "into the void");
    ASSERT_TRUE(AwaitTrue([&] {
      return proxy_->GetStats().backend_refusals > static_cast<uint64_t>(round);
    }));
    backend_.Start();
    EXPECT_EQ(Ask(client, "two"), "echo:two");
  }
  EXPECT_EQ(proxy_->GetStats().ended_total(), 0u);
}

TEST_P(ProxyTest, WithoutAnUpstreamSocketTheSessionEnds) {
  FailingSysCalls sys_calls;
  dependencies_.sys_calls = &sys_calls;
  Start();
  sys_calls.FailAll(Call::kSocket, EMFILE);
  LoopbackPeer client;
  Send(client, "lost");
  EXPECT_TRUE(AwaitDropped(DropReason::kNoUpstreamSocket, 1));
  EXPECT_TRUE(AwaitEnded(EndReason::kNoUpstreamSocket, 1));
  sys_calls.Reset();
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
  proxy_.reset();  // before its system calls
}

TEST_P(ProxyTest, StatisticsMayBeReadFromManyThreads) {
  Start();
  std::atomic<bool> stopping{false};
  std::atomic<int> backward_count{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      ProxyStats before;
      while (!stopping) {
        const ProxyStats now = proxy_->GetStats();
        for (const ProxyStatField& field : ProxyStatFields()) {
          if (field.kind == ProxyStatField::Kind::kCounter &&
              now.*field.value < before.*field.value) {
            ++backward_count;
          }
        }
        before = now;
      }
    });
  }
  readers.emplace_back([&] {
    while (!stopping) Sessions();
  });
  std::vector<LoopbackPeer> clients(5);
  for (int i = 0; i < 50; ++i) {
    for (LoopbackPeer& client : clients) {
      EXPECT_EQ(Ask(client, "hello"), "echo:hello");
    }
  }
  stopping = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(backward_count, 0);
  EXPECT_TRUE(AwaitTrue([&] {
    const ProxyStats stats = proxy_->GetStats();
    return stats.backend_datagrams_forwarded == 250 && IsAccounted(stats);
  }));
}

TEST_P(ProxyTest, SeveralProxiesLiveInOneProcess) {
  Start();
  EchoBackend other_backend("other");
  ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<StaticBackendResolver>(other_backend.address());
  auto other = Proxy::Create(options_, dependencies);
  ASSERT_TRUE(other.ok()) << other.status();
  ASSERT_TRUE((*other)->Start().ok());
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "1"), "echo:1");
  EXPECT_EQ(client.Ask((*other)->listen_addresses()[0], "2").value_or(""),
            "other:2");
  (*other)->Stop();
  EXPECT_EQ(Ask(client, "3"), "echo:3");
}

TEST_P(ProxyTest, ResolverIsLetGoOfWithTheProxy) {
  Start();
  std::weak_ptr<BackendResolver> alive = resolver_;
  dependencies_ = {};
  resolver_.reset();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  proxy_.reset();
  EXPECT_TRUE(alive.expired());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
