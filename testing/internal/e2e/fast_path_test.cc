// The program with the kernel fast path. Client, gateway and backend are in
// network namespaces of their own.
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/internal/support/redis_server.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace test {
namespace {

// The number after the last `words` in `log`; -1 if there is none.
int64_t NumberAfter(const std::string& log, absl::string_view words) {
  const size_t begin = log.rfind(std::string(words));
  if (begin == std::string::npos) return -1;
  const std::string rest = log.substr(begin + words.size());
  int64_t number = -1;
  (void)absl::SimpleAtoi(rest.substr(0, rest.find_first_not_of("0123456789")),
                         &number);
  return number;
}

// On a slow machine the test itself may pause for longer than a session's
// timeout. So the timeout, and the times that the test compares with it, grow.
absl::Duration Scaled(absl::Duration duration) {
  return duration * TimeoutFactor();
}
std::string ScaledSeconds(int seconds) {
  return absl::StrCat(std::lround(seconds * TimeoutFactor()));
}

class FastPathTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    for (auto* space : {&client_space_, &gate_space_, &backend_space_}) {
      auto created = NetworkNamespace::Create();
      UDPGATE_NEEDS_RIGHTS(created.status());
      *space = *std::move(created);
      (*space)->Command("ip link set lo up");
    }
    NetworkNamespace::Connect(*client_space_, "c0", *gate_space_, "g1");
    NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
    GiveAddress(*client_space_, "c0", Ip(1, 2));
    GiveAddress(*gate_space_, "g1", Ip(1, 1));
    GiveAddress(*gate_space_, "g2", Ip(2, 1));
    GiveAddress(*backend_space_, "b0", Ip(2, 2));
    backend_space_->Run([&] {
      backend_ = std::make_unique<EchoBackend>("", Address(Ip(2, 2), 0));
    });
    client_space_->Run([&] {
      client_ = std::make_unique<LoopbackPeer>(Address(Ip(1, 2), 0));
    });
  }

  std::string Ip(int net, int host) const {
    return absl::StrCat(GetParam() ? "fd00:" : "10.0.", net,
                        GetParam() ? "::" : ".", host);
  }
  void GiveAddress(const NetworkNamespace& space, const std::string& interface,
                   const std::string& ip) const {
    space.Command(absl::StrCat("ip address add ", ip,
                               GetParam() ? "/64 nodad" : "/24", " dev ",
                               interface));
  }
  static SocketAddress Address(const std::string& ip, uint16_t port) {
    return *SocketAddress::FromIpAndPort(ip, port);
  }

  std::unique_ptr<GateProcess> MakeGate(
      std::map<std::string, std::string> settings,
      std::vector<std::string> flags = {}) {
    GateProcessOptions options;
    options.environment = std::move(settings);
    options.environment["PROXY_ADDR"] = Address(Ip(1, 1), 19132).ToString();
    options.environment["BACKEND_ADDR"] = backend_->address().ToString();
    options.flags = std::move(flags);
    return std::make_unique<GateProcess>(GateBinary(), options);
  }
  GateProcess* NewGate(std::map<std::string, std::string> settings) {
    gate_ = MakeGate(std::move(settings));
    return gate_.get();
  }
  void StartGate(std::map<std::string, std::string> settings) {
    GateProcess* const gate = NewGate(std::move(settings));
    absl::Status status;
    gate_space_->Run([&] { status = gate->Start(); });
    ASSERT_TRUE(status.ok()) << status << gate->log();
  }

  // Sends one datagram, expects its echo, and counts it.
  void Ask(const std::string& payload) {
    const absl::StatusOr<std::string> reply =
        client_->Ask(gate_->address(), payload);
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(*reply, payload);
    ++asked_count_;
  }
  // Sends one datagram of at least `bytes` bytes, which may be lost.
  // Whether its echo comes. That of an earlier one may come late.
  bool TryAsk(absl::Duration timeout, size_t bytes = 0) {
    std::string payload = absl::StrCat("attempt ", ++attempt_count_, " ");
    if (payload.size() < bytes) payload.resize(bytes, 'x');
    if (!client_->Send(gate_->address(), payload).ok()) return false;
    for (;;) {
      const absl::StatusOr<Datagram> reply = client_->Receive(timeout);
      if (!reply.ok()) return false;
      if (reply->payload == payload) return true;
    }
  }
  // Sends datagrams one after the other.
  void SendFor(absl::Duration duration) {
    const absl::Time end = absl::Now() + duration;
    while (absl::Now() < end) Ask(absl::StrCat("datagram ", asked_count_));
  }

  // Keeps 16 datagrams in flight for `duration`. None may be lost or reordered.
  // Calls `meanwhile` repeatedly.
  void LoadFor(
      absl::Duration duration, absl::FunctionRef<void()> meanwhile = [] {}) {
    constexpr int64_t kWindow = 16;
    const absl::Time end = absl::Now() + duration;
    int64_t sent_count = 0;
    int64_t received_count = 0;
    while (absl::Now() < end || received_count < sent_count) {
      while (sent_count - received_count < kWindow && absl::Now() < end) {
        ASSERT_TRUE(
            client_->Send(gate_->address(), absl::StrCat(sent_count)).ok());
        ++sent_count;
      }
      const absl::StatusOr<Datagram> reply =
          client_->Receive(absl::Seconds(3) * TimeoutFactor());
      ASSERT_TRUE(reply.ok()) << reply.status() << " no. " << received_count;
      ASSERT_EQ(reply->payload, absl::StrCat(received_count));
      ++received_count;
      if (received_count % 1000 == 0) meanwhile();
    }
    asked_count_ += received_count;
  }
  // Stops the gateway and returns its log.
  std::string StopAndReadLog() {
    const absl::StatusOr<ExitResult> end = gate_->Terminate();
    EXPECT_TRUE(end.ok()) << end.status();
    return gate_->log();
  }

  std::unique_ptr<NetworkNamespace> client_space_, gate_space_, backend_space_;
  std::unique_ptr<EchoBackend> backend_;
  std::unique_ptr<LoopbackPeer> client_;
  std::unique_ptr<GateProcess> gate_;
  int64_t asked_count_ = 0;
  int64_t attempt_count_ = 0;
};

TEST_P(FastPathTest, RelaysAConfirmedSessionAndCountsEachDatagramOnce) {
  StartGate({{"FAST_PATH", "required"}, {"SESSION_LOG", "end"}});
  EXPECT_TRUE(absl::StrContains(gate_->log(), "fast path: the kernel relays"))
      << gate_->log();
  SendFor(absl::Seconds(2));
  Ask("");
  Ask(std::string(1400, 'x'));
  const absl::StatusOr<ExitResult> end = gate_->Terminate();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->status, 0);
  const std::string log = gate_->log();
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat("1 sessions created, ", 2 * asked_count_,
                        " datagrams forwarded, 0 dropped")))
      << asked_count_ << log;
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat(" client_datagrams=", asked_count_, " ")))
      << asked_count_ << log;
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat(" backend_datagrams=", asked_count_, " ")))
      << asked_count_ << log;
  // The session was confirmed after a second: the kernel relayed about half.
  const int64_t from_client = NumberAfter(log, "fast path: from clients ");
  const int64_t from_backend = NumberAfter(log, ", from backends ");
  EXPECT_GT(from_client, asked_count_ / 10) << log;
  EXPECT_LT(from_client, asked_count_) << log;
  EXPECT_GT(from_backend, asked_count_ / 10) << log;
  EXPECT_EQ(gate_space_->Output("tc filter show dev g1 ingress"), "");
}

TEST_P(FastPathTest, WorksAfterAGatewayWasKilled) {
  StartGate({{"FAST_PATH", "required"}});
  SendFor(absl::Milliseconds(1500));
  ASSERT_EQ(::kill(gate_->pid(), SIGKILL), 0);
  ASSERT_TRUE(AwaitTrue([&] { return !gate_->running(); }));
  StartGate({{"FAST_PATH", "required"}});
  asked_count_ = 0;
  // Flows of the killed process may still relay from its source ports until
  // their lease ends. The client's first datagrams may go through them.
  ASSERT_TRUE(AwaitTrue([&] { return TryAsk(absl::Milliseconds(100)); }));
  SendFor(absl::Milliseconds(500));
}

TEST_P(FastPathTest, MovesBetweenSocketsAndKernelUnderLoad) {
  // Each change of an address returns the sessions to their sockets. The idle
  // sweep gives them to the kernel again.
  StartGate({{"FAST_PATH", "required"},
             {"SESSION_IDLE_TIMEOUT_SECS", ScaledSeconds(1)}});
  int change_count = 0;
  absl::Time next_change = absl::Now() + absl::Milliseconds(1500);
  LoadFor(Scaled(absl::Seconds(8)), [&] {
    if (absl::Now() < next_change) return;
    next_change = absl::Now() + Scaled(absl::Milliseconds(400));
    gate_space_->Command(absl::StrCat(
        "ip address ", ++change_count % 2 == 1 ? "add" : "del",
        GetParam() ? " fd00:9::1/64 nodad" : " 10.0.9.1/24", " dev g2"));
  });
  EXPECT_GE(change_count, 4);
  const std::string log = StopAndReadLog();
  EXPECT_GE(NumberAfter(log, "sessions withdrawn "), 3) << log;
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat("1 sessions created, ", 2 * asked_count_,
                        " datagrams forwarded, 0 dropped")))
      << asked_count_ << log;
}

TEST_P(FastPathTest, SessionInTheKernelExpiresOnlyWhenIdle) {
  StartGate({{"FAST_PATH", "required"},
             {"SESSION_IDLE_TIMEOUT_SECS", ScaledSeconds(1)}});
  SendFor(Scaled(absl::Seconds(4)));
  const size_t before = backend_->sources().size();
  EXPECT_EQ(before, 1u);
  // The upstream socket is closed with the session; the next session has a new
  // one.
  ASSERT_TRUE(AwaitTrue([&] {
    return gate_space_->Output("ss -HunA udp state established") == "";
  }));
  Ask("back again");
  EXPECT_EQ(backend_->sources().size(), before + 1);
  const std::string log = StopAndReadLog();
  EXPECT_GE(NumberAfter(log, "ended: idle "), 1) << log;
  EXPECT_GT(NumberAfter(log, "fast path: from clients "), asked_count_ / 2)
      << log;
}

TEST_P(FastPathTest, RefusingBackendEndsASessionInTheKernel) {
  StartGate({{"FAST_PATH", "required"}});
  SendFor(absl::Milliseconds(1500));
  backend_->Stop();
  ASSERT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(client_->Send(gate_->address(), "anyone?").ok());
    return gate_->AwaitLog("times in a row", absl::Milliseconds(50));
  })) << gate_->log();
  backend_space_->Run([&] { backend_->Start(); });
  ASSERT_TRUE(AwaitTrue([&] {
    return client_->Ask(gate_->address(), "back", absl::Milliseconds(100)).ok();
  }));
  EXPECT_GE(NumberAfter(StopAndReadLog(), "backend_refused "), 1);
}

TEST_P(FastPathTest, DisconnectEventEndsASessionInTheKernel) {
  RedisServerOptions redis_options;
  redis_options.unix_socket = true;  // reached from any namespace
  RedisServer redis(redis_options);
  ASSERT_TRUE(redis.Start().ok());
  ASSERT_TRUE(
      redis.Command({"SET", kBackendKey, backend_->address().ToString()}).ok());
  GateProcessOptions options;
  options.environment = {{"FAST_PATH", "required"},
                         {"PROXY_ADDR", Address(Ip(1, 1), 19132).ToString()},
                         {"REDIS_ADDR", redis.unix_address()}};
  gate_ = std::make_unique<GateProcess>(GateBinary(), options);
  absl::Status status;
  gate_space_->Run([&] { status = gate_->Start(); });
  ASSERT_TRUE(status.ok()) << status << gate_->log();
  for (int i = 1; i <= 3; ++i) {
    SendFor(absl::Milliseconds(1500));
    ASSERT_EQ(static_cast<int>(backend_->sources().size()), i);
    ASSERT_TRUE(AwaitTrue([&] {  // until the gateway has subscribed
      return redis
                 .Command({"PUBLISH", kDisconnectChannel,
                           client_->address().ToString()})
                 .value() == "1";
    }));
    ASSERT_TRUE(AwaitTrue([&] {
      // A reply that is in flight when the session ends is lost.
      return TryAsk(absl::Milliseconds(200)) &&
             static_cast<int>(backend_->sources().size()) == i + 1;
    }));
  }
  const std::string log = StopAndReadLog();
  EXPECT_EQ(NumberAfter(log, "ended: disconnected "), 3) << log;
  EXPECT_TRUE(absl::StrContains(log, "4 sessions created, ")) << log;
}

// A router reports a path MTU towards the backend that is smaller than the MTU
// of the gateway's link. Larger datagrams go through the sockets, in fragments.
TEST_P(FastPathTest, SmallerPathMtuLosesOnlyTheFirstLargeDatagrams) {
  auto router = *NetworkNamespace::Create();
  auto far_space = *NetworkNamespace::Create();
  NetworkNamespace::Connect(*gate_space_, "g3", *router, "r1");
  NetworkNamespace::Connect(*router, "r2", *far_space, "b1");
  GiveAddress(*gate_space_, "g3", Ip(3, 1));
  GiveAddress(*router, "r1", Ip(3, 2));
  GiveAddress(*router, "r2", Ip(4, 1));
  GiveAddress(*far_space, "b1", Ip(4, 2));
  router->Command(GetParam() ? "sysctl -qw net.ipv6.conf.all.forwarding=1"
                             : "sysctl -qw net.ipv4.ip_forward=1");
  router->Command("ip link set r2 mtu 1300");
  far_space->Command("ip link set b1 mtu 1300");
  gate_space_->Command(absl::StrCat("ip route add ", Ip(4, 0),
                                    GetParam() ? "/64" : "/24", " via ",
                                    Ip(3, 2)));
  far_space->Command(absl::StrCat("ip route add default via ", Ip(4, 1)));
  far_space->Run([&] {
    backend_ = std::make_unique<EchoBackend>("", Address(Ip(4, 2), 0));
  });
  StartGate({{"FAST_PATH", "required"}});
  Ask("once the neighbours are known");
  SendFor(absl::Seconds(2));
  const std::string large(1400, 'x');
  // The first one triggers the router's report, and is lost.
  ASSERT_TRUE(
      AwaitTrue([&] { return TryAsk(absl::Milliseconds(200), large.size()); }));
  for (int i = 0; i < 10; ++i) Ask(large);
  SendFor(absl::Milliseconds(200));
  const std::string log = StopAndReadLog();
  EXPECT_GT(NumberAfter(log, "fast path: from clients "), asked_count_ / 10)
      << log;
}

TEST_P(FastPathTest, RelaysAThousandSessions) {
  constexpr int kSessions = 1000;
  rlimit limit;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  StartGate({{"FAST_PATH", "required"},
             {"SESSION_IDLE_TIMEOUT_SECS", ScaledSeconds(10)},
             {"MAX_UNCONFIRMED_SESSIONS_PER_IP", "0"}});
  std::vector<LoopbackPeer> clients;
  client_space_->Run([&] {
    for (int i = 0; i < kSessions; ++i) {
      clients.emplace_back(Address(Ip(1, 2), 0));
    }
  });
  // On a busy machine few rounds fit into the time.
  const absl::Time end = absl::Now() + absl::Seconds(5);
  for (int round = 0; round < 10 || absl::Now() < end; ++round) {
    for (size_t i = 0; i < clients.size(); ++i) {
      const std::string payload = absl::StrCat("client ", i);
      const absl::StatusOr<std::string> reply =
          clients[i].Ask(gate_->address(), payload);
      ASSERT_TRUE(reply.ok()) << reply.status();
      ASSERT_EQ(*reply, payload);
      ++asked_count_;
    }
  }
  const std::string log = StopAndReadLog();
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat(kSessions, " sessions created, ", 2 * asked_count_,
                        " datagrams forwarded, 0 dropped")))
      << asked_count_ << log;
  EXPECT_GT(NumberAfter(log, "fast path: from clients "), asked_count_ / 4)
      << log;
}

class FastPathTakeoverTest : public FastPathTest {
 protected:
  std::map<std::string, std::string> Settings() const {
    // A late idle sweep, which would give sessions to the kernel again.
    return {{"FAST_PATH", "required"},
            {"SESSION_IDLE_TIMEOUT_SECS", "600"},
            {"TAKEOVER_SOCKET", socket_path_},
            {"ADMIN_ADDR", "127.0.0.1:9132"}};
  }
  // A new process takes over while the client sends. Returns after the old
  // process has exited.
  void UpgradeUnderLoad(std::map<std::string, std::string> settings) {
    auto new_gate = MakeGate(std::move(settings), {"--takeover", socket_path_});
    std::atomic<bool> is_over{false};
    std::thread sender([&] {
      while (!is_over && !HasFatalFailure()) {
        LoadFor(absl::Milliseconds(100));
      }
    });
    // From this thread: the new process ends with the thread that starts it.
    absl::Status status;
    gate_space_->Run([&] { status = new_gate->Start(); });
    EXPECT_TRUE(AwaitTrue([&] { return !gate_->running(); })) << gate_->log();
    is_over = true;
    sender.join();
    ASSERT_TRUE(status.ok()) << status << new_gate->log();
    gate_ = std::move(new_gate);
    LoadFor(absl::Milliseconds(100));
  }
  // A number of /metrics; -1 if it is missing.
  int64_t Metric(const std::string& name) {
    absl::StatusOr<HttpReply> reply;
    gate_space_->Run([&] {
      reply = HttpGet(*SocketAddress::Parse("127.0.0.1:9132"), "/metrics");
    });
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? NumberAfter(reply->body, absl::StrCat("\n", name, " "))
                      : -1;
  }
  int64_t SocketDatagrams() {
    return Metric(
               "udpgate_datagrams_forwarded_total{direction=\"client\","
               "path=\"socket\"}") +
           Metric(
               "udpgate_datagrams_forwarded_total{direction=\"backend\","
               "path=\"socket\"}");
  }

  TemporaryDirectory directory_;
  const std::string socket_path_ = directory_.path() + "/takeover.sock";
};

TEST_P(FastPathTakeoverTest, KernelRelaysThroughTenTakeovers) {
  constexpr int kTakeovers = 10;
  constexpr int kOthers = 20;
  StartGate(Settings());
  std::vector<LoopbackPeer> others;
  client_space_->Run([&] {
    for (int i = 0; i < kOthers; ++i) others.emplace_back(Address(Ip(1, 2), 0));
  });
  const auto ask_others = [&] {
    for (LoopbackPeer& other : others) {
      const absl::StatusOr<std::string> reply =
          other.Ask(gate_->address(), "other");
      ASSERT_TRUE(reply.ok()) << reply.status();
      ++asked_count_;
    }
  };
  ASSERT_TRUE(AwaitTrue([&] {
    ask_others();
    Ask("hello");
    return Metric("udpgate_fast_path_sessions") == kOthers + 1;
  })) << gate_->log();
  // Until no more datagrams pass through the sockets.
  int64_t through_sockets = 0;
  ASSERT_TRUE(AwaitTrue([&] {
    const int64_t before = std::exchange(through_sockets, SocketDatagrams());
    ask_others();
    LoadFor(absl::Milliseconds(20));
    return before == through_sockets;
  }));
  EXPECT_GT(through_sockets, 0);
  for (int i = 0; i < kTakeovers && !HasFailure(); ++i) {
    UpgradeUnderLoad(Settings());
    ask_others();
    EXPECT_TRUE(absl::StrContains(gate_->log(), "without a break"))
        << gate_->log();
    EXPECT_EQ(Metric("udpgate_fast_path_sessions"), kOthers + 1);
    EXPECT_EQ(SocketDatagrams(), through_sockets);
    EXPECT_EQ(Metric("udpgate_fast_path_withdrawals_total"), 0);
    EXPECT_EQ(Metric("udpgate_fast_path_refusals_total"), 0);
  }
  EXPECT_EQ(backend_->sources().size(), size_t{kOthers + 1});
  // The end of a session removes its flows; the next session starts on sockets.
  absl::StatusOr<HttpReply> reply;
  gate_space_->Run([&] {
    reply = HttpPost(
        *SocketAddress::Parse("127.0.0.1:9132"), "/api/v1/disconnect",
        absl::StrCat("{\"target\":\"", client_->address().ToString(), "\"}"));
  });
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 200) << reply->body;
  EXPECT_EQ(Metric("udpgate_fast_path_sessions"), kOthers);
  Ask("again");
  EXPECT_EQ(backend_->sources().size(), size_t{kOthers + 2});
  ask_others();
  EXPECT_EQ(SocketDatagrams(), through_sockets + 2);
  const std::string log = StopAndReadLog();
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat(kOthers + 2, " sessions created, ", 2 * asked_count_,
                        " datagrams forwarded, 0 dropped")))
      << asked_count_ << log;
}

TEST_P(FastPathTakeoverTest, SessionAfterATakeoverExpiresOnlyWhenIdle) {
  std::map<std::string, std::string> settings = Settings();
  settings["SESSION_IDLE_TIMEOUT_SECS"] = ScaledSeconds(1);
  StartGate(settings);
  SendFor(absl::Milliseconds(1500));
  UpgradeUnderLoad(settings);
  SendFor(Scaled(absl::Seconds(3)));
  EXPECT_EQ(backend_->sources().size(), 1u);
  EXPECT_EQ(Metric("udpgate_fast_path_withdrawals_total"), 0);
  ASSERT_TRUE(AwaitTrue([&] {
    return gate_space_->Output("ss -HunA udp state established") == "";
  }));
  EXPECT_EQ(Metric("udpgate_fast_path_sessions"), 0);
  const std::string log = StopAndReadLog();
  EXPECT_GE(NumberAfter(log, "ended: idle "), 1) << log;
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat("1 sessions created, ", 2 * asked_count_,
                        " datagrams forwarded, 0 dropped")))
      << asked_count_ << log;
}

// The new process takes the sessions over even if it cannot adopt their flows.
TEST_P(FastPathTakeoverTest, OtherSettingsEndTheFlowsButNoSession) {
  StartGate(Settings());
  SendFor(absl::Milliseconds(1500));
  std::map<std::string, std::string> settings = Settings();
  settings["MAX_SESSIONS"] = "100";
  UpgradeUnderLoad(settings);
  EXPECT_TRUE(absl::StrContains(gate_->log(), "flows end with it"))
      << gate_->log();
  settings["FAST_PATH"] = "off";
  UpgradeUnderLoad(settings);
  EXPECT_EQ(Metric("udpgate_fast_path_sessions"), 0);
  EXPECT_EQ(backend_->sources().size(), 1u);
  const std::string log = StopAndReadLog();
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat("1 sessions created, ", 2 * asked_count_,
                        " datagrams forwarded, 0 dropped")))
      << asked_count_ << log;
}

INSTANTIATE_TEST_SUITE_P(Families, FastPathTakeoverTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& test) {
                           return test.param ? "Ipv6" : "Ipv4";
                         });

TEST_P(FastPathTest, ReportsAMissingInterface) {
  GateProcess* const gate =
      NewGate({{"FAST_PATH", "required"}, {"FAST_PATH_INTERFACES", "nosuch0"}});
  gate_space_->Run([&] { ASSERT_TRUE(gate->Launch().ok()); });
  ASSERT_TRUE(AwaitTrue([&] { return !gate->running(); }));
  EXPECT_TRUE(absl::StrContains(gate->log(),
                                "error cannot start: FAST_PATH_INTERFACES: "
                                "there is no nosuch0; allowed are lo"))
      << gate->log();
  StartGate({{"FAST_PATH", "auto"}, {"FAST_PATH_INTERFACES", "nosuch0"}});
  EXPECT_TRUE(absl::StrContains(gate_->log(), "; all sessions stay on sockets"))
      << gate_->log();
  Ask("over sockets");
}

INSTANTIATE_TEST_SUITE_P(Families, FastPathTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& test) {
                           return test.param ? "Ipv6" : "Ipv4";
                         });

}  // namespace
}  // namespace test
}  // namespace udpgate
