// What bounds a gate, with the real program: source ports, descriptors, and
// sessions of one address. In network namespaces, where a test has loopback and
// its ports for itself.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace test {
namespace {

SocketAddress Address(const std::string& text) {
  return *SocketAddress::Parse(text);
}

// The number behind `name` in /metrics; -1 where it is not there.
int64_t Metric(const SocketAddress& admin, const std::string& name) {
  const absl::StatusOr<HttpReply> reply = HttpGet(admin, "/metrics");
  if (!reply.ok()) return -1;
  const std::string line = absl::StrCat("\n", name, " ");
  const size_t begin = reply->body.find(line);
  if (begin == std::string::npos) return -1;
  const size_t number = begin + line.size();
  int64_t value = -1;
  return absl::SimpleAtoi(reply->body.substr(
                              number, reply->body.find('\n', number) - number),
                          &value)
             ? value
             : -1;
}

class LimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto created = NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(created.status());
    space_ = *std::move(created);
    space_->Command("ip link set lo up");
    space_->Enter();
    backend_ = std::make_unique<EchoBackend>("echo", Address("127.0.0.1:5000"));
  }

  static std::unique_ptr<GateProcess> Gate(
      std::map<std::string, std::string> environment, size_t open_files_max = 0,
      std::vector<std::string> flags = {}) {
    GateProcessOptions options;
    options.environment = std::move(environment);
    options.flags = std::move(flags);
    options.environment.emplace("PROXY_ADDR", "127.0.0.1:6000");
    options.environment.emplace("BACKEND_ADDR", "127.0.0.1:5000");
    options.environment.emplace("ADMIN_ADDR", "127.0.0.1:6001");
    options.open_files_soft_max = open_files_max;
    options.open_files_hard_max = open_files_max;
    auto gate = std::make_unique<GateProcess>(GateBinary(), options);
    const absl::Status started = gate->Start();
    EXPECT_TRUE(started.ok()) << started << gate->log();
    return gate;
  }

  // A client that sends one datagram and goes: it has no answer to anything.
  static void SendOnce(const GateProcess& gate, int number) {
    const LoopbackPeer forged(Address(absl::StrCat(
        "127.", 1 + number / 250, ".1.", 1 + number % 250, ":7000")));
    ASSERT_TRUE(forged.Send(gate.address(), "x").ok());
  }

  // Clients that come one after the other, each with one datagram.
  static int ServedOfTwenty(const GateProcess& gate) {
    int served_count = 0;
    for (int i = 1; i <= 20; ++i) {
      LoopbackPeer newcomer(Address(absl::StrCat("127.0.9.", i, ":7000")));
      if (newcomer.Ask(gate.address(), "new", absl::Seconds(2)).ok()) {
        ++served_count;
      }
    }
    return served_count;
  }

  // Until it is confirmed, which takes a second.
  static bool AwaitConfirmed(LoopbackPeer* player, const GateProcess& gate) {
    return AwaitTrue([&] {
      return player->Ask(gate.address(), "playing").ok() &&
             Metric(kAdmin, "udpgate_sessions_confirmed") == 1;
    });
  }

  static const SocketAddress kAdmin;
  std::unique_ptr<NetworkNamespace> space_;
  std::unique_ptr<EchoBackend> backend_;
};

const SocketAddress LimitsTest::kAdmin = Address("127.0.0.1:6001");

TEST_F(LimitsTest, NewcomersAreServedWhereSourcePortsRunOut) {
  space_->Command("echo 40000 40029 > /proc/sys/net/ipv4/ip_local_port_range");
  auto gate = Gate({{"MAX_SESSIONS", "10000"}});
  EXPECT_TRUE(
      absl::StrContains(gate->log(), "sessions at most: 30 (source ports)"))
      << gate->log();
  EXPECT_TRUE(
      absl::StrContains(gate->log(), "MAX_SESSIONS=10000 is capped at 30"))
      << gate->log();
  // Some of the ports are another program's.
  std::vector<LoopbackPeer> strangers;
  for (int port = 40000; port < 40005; ++port) {
    strangers.emplace_back(Address(absl::StrCat("127.0.0.1:", port)));
  }
  LoopbackPeer player(Address("127.0.8.1:7000"));
  ASSERT_TRUE(AwaitConfirmed(&player, *gate));
  for (int i = 0; i < 500; ++i) SendOnce(*gate, i);
  ASSERT_TRUE(AwaitTrue(
      [&] { return Metric(kAdmin, "udpgate_sessions_created_total") == 501; }));
  // All ports that the gateway can have, once no client waits for a backend.
  EXPECT_TRUE(AwaitTrue(
      [&] { return Metric(kAdmin, "udpgate_sessions_active") == 25; }));
  EXPECT_EQ(ServedOfTwenty(*gate), 20);
  EXPECT_TRUE(IsServedBy(&player, gate->address(), "echo", 5));
  // Connections to the endpoint need ports of the same range.
  EXPECT_TRUE(
      AwaitTrue([&] { return Metric(kAdmin, "udpgate_sessions_max") == 30; }));
  const absl::StatusOr<ExitResult> end = gate->Terminate();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_FALSE(absl::StrContains(gate->log(), "no_upstream_socket"))
      << gate->log();
}

TEST_F(LimitsTest, TheReserveOfDescriptorsIsKeptWhateverTheSettingSays) {
  constexpr size_t kOpenFilesMax = 400;
  const TemporaryDirectory directory;
  const std::string socket_path = directory.path() + "/takeover.sock";
  auto gate = Gate({{"MAX_SESSIONS", "100000"},
                    {"MAX_UNCONFIRMED_SESSIONS_PER_IP", "0"},
                    {"TAKEOVER_SOCKET", socket_path}},
                   kOpenFilesMax);
  EXPECT_TRUE(absl::StrContains(gate->log(), " (descriptor limit)"))
      << gate->log();
  EXPECT_TRUE(
      absl::StrContains(gate->log(), "MAX_SESSIONS=100000 is capped at "))
      << gate->log();
  LoopbackPeer player(Address("127.0.8.1:7000"));
  ASSERT_TRUE(AwaitConfirmed(&player, *gate));
  // It is full of sessions, of which none waits for its backend any more.
  for (int i = 0; i < 600; ++i) SendOnce(*gate, i);
  const int64_t sessions_max = Metric(kAdmin, "udpgate_sessions_max");
  ASSERT_GT(sessions_max, 100);
  ASSERT_TRUE(AwaitTrue([&] {
    return Metric(kAdmin, "udpgate_sessions_active") == sessions_max;
  })) << gate->log();
  // Many operators at a time.
  std::vector<internal::UniqueFd> operators;
  for (int i = 0; i < 60; ++i) {
    absl::StatusOr<internal::UniqueFd> connection = TcpConnect(kAdmin);
    ASSERT_TRUE(connection.ok()) << connection.status();
    operators.push_back(*std::move(connection));
  }
  const absl::StatusOr<HttpReply> health = HttpGet(kAdmin, "/healthz");
  ASSERT_TRUE(health.ok()) << health.status();
  EXPECT_EQ(health->body, "alive\n");
  EXPECT_EQ(ServedOfTwenty(*gate), 20);
  // And another process can take over.
  operators.clear();
  auto next = Gate({}, kOpenFilesMax, {"--takeover", socket_path});
  EXPECT_TRUE(absl::StrContains(next->log(), "took over ")) << next->log();
  EXPECT_TRUE(IsServedBy(&player, next->address(), "echo", 5));
  const absl::StatusOr<ExitResult> end = gate->AwaitExit();
  EXPECT_TRUE(end.ok() && end->exited_with(0)) << gate->log();
}

TEST_F(LimitsTest, ALoopOfTwoGatewaysEnds) {
  auto one = Gate(
      {{"BACKEND_ADDR", "127.0.0.1:6010"}, {"UNCONFIRMED_TIMEOUT_SECS", "2"}});
  auto other = Gate({{"PROXY_ADDR", "127.0.0.1:6010"},
                     {"ADMIN_ADDR", "127.0.0.1:6011"},
                     {"BACKEND_ADDR", "127.0.0.1:6000"},
                     {"UNCONFIRMED_TIMEOUT_SECS", "2"}});
  const LoopbackPeer client(Address("127.0.7.1:7000"));
  ASSERT_TRUE(client.Send(one->address(), "once").ok());
  const SocketAddress admins[] = {kAdmin, Address("127.0.0.1:6011")};
  const auto total = [&](const std::string& name) {
    return Metric(admins[0], name) + Metric(admins[1], name);
  };
  const std::string kDropped =
      "udpgate_datagrams_dropped_total{reason=\"unconfirmed_limit_per_ip\"}";
  // One datagram goes round, and with it the loop ends.
  ASSERT_TRUE(AwaitTrue([&] { return total(kDropped) == 1; }))
      << one->log() << other->log();
  const int64_t created_count = total("udpgate_sessions_created_total");
  EXPECT_GE(created_count, 1024);
  EXPECT_LE(created_count, 1026);
  GateProcess& last = Metric(admins[0], kDropped) == 1 ? *one : *other;
  EXPECT_TRUE(last.AwaitLog("new client 127.0.0.1:")) << last.log();
  EXPECT_TRUE(last.AwaitLog(" dropped (unconfirmed_limit_per_ip): "))
      << last.log();
  EXPECT_TRUE(last.AwaitLog("loop?")) << last.log();
  // For good: nothing comes after the sessions that fell silent.
  ASSERT_TRUE(AwaitTrue([&] { return total("udpgate_sessions_active") == 0; }));
  EXPECT_EQ(total("udpgate_sessions_created_total"), created_count);
  EXPECT_EQ(total(kDropped), 1);
}

class LimitPerIpTest : public LimitsTest,
                       public ::testing::WithParamInterface<int> {};

INSTANTIATE_TEST_SUITE_P(Workers, LimitPerIpTest, ::testing::Values(0, 1, 4));

TEST_P(LimitPerIpTest, APlayerThatComesBackTakesThePlaceOfItsOldSession) {
  auto gate = Gate({{"MAX_SESSIONS_PER_IP", "2"},
                    {"WORKER_COUNT", absl::StrCat(GetParam())}});
  LoopbackPeer left, plays, back;
  ASSERT_TRUE(IsServedBy(&left, gate->address(), "echo"));
  // It is never silent for long, and always served.
  ASSERT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(IsServedBy(&plays, gate->address(), "echo"));
    return back.Ask(gate->address(), "back", absl::Milliseconds(200)).ok();
  })) << gate->log();
  EXPECT_TRUE(IsServedBy(&plays, gate->address(), "echo"));
  EXPECT_EQ(Metric(kAdmin, "udpgate_sessions_ended_total{reason=\"replaced\"}"),
            1);
  EXPECT_EQ(Metric(kAdmin, "udpgate_sessions_created_total"), 3);
  EXPECT_GE(Metric(kAdmin,
                   "udpgate_datagrams_dropped_total{reason=\"session_limit_per_"
                   "ip\"}"),
            1);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
