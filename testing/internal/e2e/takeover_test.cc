// One gate takes over from another, with the real program.
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/paced_traffic.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::HasSubstr;

// An address of this host that no other test uses, nor a copy of this one that
// runs at the same time, with port 0. Not of 127.0.0.0/16, where most peers
// are.
SocketAddress OwnAddress() {
  std::random_device random;
  std::uniform_int_distribution<int> second(1, 255);
  std::uniform_int_distribution<int> other(1, 254);
  return *SocketAddress::Parse(absl::StrCat(
      "127.", second(random), ".", other(random), ".", other(random), ":0"));
}

class TakeoverTest : public ::testing::Test {
 protected:
  std::map<std::string, std::string> Environment() const {
    return {{"BACKEND_ADDR", backend_.address().ToString()},
            {"TAKEOVER_SOCKET", socket_path_}};
  }
  std::unique_ptr<GateProcess> MakeGate(
      std::map<std::string, std::string> environment,
      std::vector<std::string> flags = {}) {
    GateProcessOptions options;
    options.environment = std::move(environment);
    options.flags = std::move(flags);
    return std::make_unique<GateProcess>(GateBinary(), options);
  }
  std::unique_ptr<GateProcess> MakeSuccessor(
      std::map<std::string, std::string> environment) {
    return MakeGate(std::move(environment), {"--takeover", socket_path_});
  }
  // The milliseconds that the log says that datagrams waited.
  static double PauseMilliseconds(const std::string& log) {
    const absl::string_view before = "forwarding paused for ";
    const size_t begin = log.find(before.data());
    if (begin == std::string::npos) return -1;
    const size_t end = log.find('\n', begin);
    absl::Duration pause;
    if (!absl::ParseDuration(
            log.substr(begin + before.size(), end - begin - before.size()),
            &pause)) {
      return -1;
    }
    return absl::ToDoubleMilliseconds(pause);
  }

  TemporaryDirectory directory_;
  const std::string socket_path_ = directory_.path() + "/takeover.sock";
  EchoBackend backend_{"first"};
  EchoBackend second_{"second"};
};

TEST_F(TakeoverTest, FiveHundredPlayersNoticeNoneOfTenTakeOvers) {
  // Fewer where the gate is too slow for a game's rate.
  constexpr int kPlayers = 500 / kSlowness;
  constexpr int kTakeOvers = 10;
  std::map<std::string, std::string> environment = Environment();
  environment["ADMIN_ADDR"] = "127.0.0.1:0";
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  PacedPlayers players(gate->address(), "first", kPlayers);
  double longest_milliseconds = 0;
  // A new client's backend is another one: who stays is seen by the replies.
  environment["BACKEND_ADDR"] = second_.address().ToString();
  for (int i = 0; i < kTakeOvers; ++i) {
    ASSERT_TRUE(players.AwaitRounds(3));
    environment["WORKER_COUNT"] = absl::StrCat(1 + i % 3);
    auto successor = MakeSuccessor(environment);
    ASSERT_TRUE(successor->Start().ok()) << successor->log();
    EXPECT_EQ(successor->address(), gate->address());
    const absl::StatusOr<ExitResult> result = gate->AwaitExit();
    ASSERT_TRUE(result.ok()) << result.status() << gate->log();
    EXPECT_TRUE(result->exited_with(0)) << gate->log();
    EXPECT_THAT(gate->log(), HasSubstr(absl::StrCat("has taken over ", kPlayers,
                                                    " sessions")));
    EXPECT_THAT(successor->log(),
                HasSubstr(absl::StrCat("took over ", kPlayers, " sessions")));
    const double pause_milliseconds = PauseMilliseconds(successor->log());
    EXPECT_GE(pause_milliseconds, 0) << successor->log();
    longest_milliseconds = std::max(longest_milliseconds, pause_milliseconds);
    gate = std::move(successor);
  }
  players.Stop();
  EXPECT_EQ(players.disordered(), 0);
  EXPECT_EQ(players.received(), players.sent());
  EXPECT_EQ(backend_.sources().size(), static_cast<size_t>(kPlayers));
  EXPECT_EQ(second_.received_count(), 0u);
  RecordProperty("longest_pause_microseconds",
                 static_cast<int>(longest_milliseconds * 1000));
  std::printf("longest pause with %d sessions: %.1f ms\n", kPlayers,
              longest_milliseconds);
  // The target is 20 ms; this is where something is wrong.
  EXPECT_LT(longest_milliseconds, 200 * kSlowness);
  // The counters go on.
  const absl::StatusOr<ExitResult> result = gate->Terminate();
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->exited_with(0));
  EXPECT_THAT(gate->log(), HasSubstr(absl::StrCat(
                               "stopped: ", kPlayers, " sessions created, ",
                               2 * (players.sent() + kPlayers),
                               " datagrams forwarded, 0 dropped")));
}

// What docs/upgrade.md says of the pause. All that can be is done before it: of
// each session only the numbers that change are left.
TEST_F(TakeoverTest, ThousandsOfSessionsAreMadeReadyBeforeThePause) {
  constexpr int kClients = 18000 / kSlowness;
  constexpr int kTakeOvers = 5;
  std::map<std::string, std::string> environment = Environment();
  environment["NEW_SESSIONS_PER_SEC"] = "0";
  environment["MAX_UNCONFIRMED_SESSIONS_PER_IP"] = "0";
  // Longer than it takes to begin them all.
  environment["UNCONFIRMED_TIMEOUT_SECS"] = "3600";
  environment["SESSION_IDLE_TIMEOUT_SECS"] = "3600";
  // Ports of one address are fewer than those of clients and gate together.
  environment["UPSTREAM_BIND_ADDRS"] = OwnAddress().IpToString();
  const SocketAddress host = OwnAddress();
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_GE(limit.rlim_cur, static_cast<rlim_t>(kClients + 500));
  std::vector<LoopbackPeer> clients;
  clients.reserve(kClients);
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back(host);
    ASSERT_TRUE(IsServedBy(&clients.back(), gate->address(), "first"));
  }
  std::vector<double> milliseconds;
  for (int i = 0; i < kTakeOvers; ++i) {
    auto successor = MakeSuccessor(environment);
    ASSERT_TRUE(successor->Start().ok()) << successor->log();
    EXPECT_THAT(
        successor->log(),
        HasSubstr(absl::StrCat("took over ", kClients, " sessions, ", kClients,
                               " of them prepared in advance")));
    milliseconds.push_back(PauseMilliseconds(successor->log()));
    ASSERT_TRUE(gate->AwaitExit().ok());
    gate = std::move(successor);
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::printf("pauses with %d sessions: median %.1f ms, longest %.1f ms\n",
              kClients, milliseconds[kTakeOvers / 2], milliseconds.back());
  RecordProperty("median_pause_microseconds",
                 static_cast<int>(milliseconds[kTakeOvers / 2] * 1000));
  // The target is 20 ms on a machine that is idle; this is where something is
  // wrong.
  EXPECT_LT(milliseconds[kTakeOvers / 2], 250 * kSlowness);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(IsServedBy(&client, gate->address(), "first"));
  }
}

TEST_F(TakeoverTest, AnUpgradeIsOneSignal) {
  // What systemd hears.
  const std::string notify_path = directory_.path() + "/notify";
  LoopbackPeer client;
  const int notify_fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, notify_path.data(), notify_path.size());
  ASSERT_EQ(
      ::bind(notify_fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)),
      0);
  std::map<std::string, std::string> environment = Environment();
  environment["NOTIFY_SOCKET"] = notify_path;
  environment["ADMIN_ADDR"] = "127.0.0.1:0";
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  ASSERT_TRUE(IsServedBy(&client, gate->address(), "first"));
  const auto await_message = [&](absl::string_view text) {
    std::string seen;
    return AwaitTrue([&] {
      char buffer[1024];
      // Without room for descriptors, which are closed then: what a
      // barrier waits for.
      const ssize_t size =
          ::recv(notify_fd, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (size > 0) {
        absl::StrAppend(&seen, std::string(buffer, size), "\n");
      }
      return absl::StrContains(seen, text);
    })
               ? seen
               : std::string();
  };
  ASSERT_NE(await_message("READY=1"), "");
  const size_t log_size = gate->log().size();
  const SocketAddress admin = gate->AdminAddress();

  gate->Signal(SIGUSR2);
  const std::string message = await_message("MAINPID=");
  ASSERT_NE(message, "") << gate->log();
  EXPECT_THAT(message, HasSubstr("READY=1"));
  int successor = 0;
  const std::string digits = message.substr(message.find("MAINPID=") + 8);
  ASSERT_TRUE(
      absl::SimpleAtoi(digits.substr(0, digits.find('\n')), &successor));
  EXPECT_NE(successor, gate->pid());
  // It goes by the barrier, which the last read above may have left.
  ASSERT_TRUE(AwaitTrue([&] {
    char byte;
    (void)::recv(notify_fd, &byte, 1, MSG_DONTWAIT);
    return !gate->running();
  })) << gate->log();
  EXPECT_TRUE(IsServedBy(&client, gate->address(), "first"));
  // The endpoint for operators has kept its port.
  ASSERT_TRUE(AwaitTrue([&] {
    return absl::StrContains(gate->log().substr(log_size), "admin endpoint: ");
  }));
  EXPECT_EQ(gate->AdminAddress(), admin);
  const absl::StatusOr<HttpReply> reply = HttpGet(admin, "/api/v1/sessions");
  ASSERT_TRUE(reply.ok()) << reply.status();
  const nlohmann::json sessions =
      nlohmann::json::parse(reply->body, nullptr, false);
  ASSERT_EQ(sessions["sessions"].size(), 1u) << reply->body;
  EXPECT_EQ(sessions["sessions"][0]["client"], client.address().ToString());
  // A second upgrade from the second gate.
  ASSERT_EQ(::kill(successor, SIGUSR2), 0);
  const std::string again = await_message("MAINPID=");
  ASSERT_NE(again, "") << gate->log();
  int third = 0;
  const std::string more = again.substr(again.find("MAINPID=") + 8);
  ASSERT_TRUE(absl::SimpleAtoi(more.substr(0, more.find('\n')), &third));
  EXPECT_TRUE(AwaitTrue([&] {
    char byte;
    (void)::recv(notify_fd, &byte, 1, MSG_DONTWAIT);
    return ::kill(successor, 0) != 0;
  }));
  EXPECT_TRUE(IsServedBy(&client, gate->address(), "first"));
  ASSERT_EQ(::kill(third, SIGTERM), 0);
  EXPECT_TRUE(AwaitTrue([&] { return ::kill(third, 0) != 0; }));
  ::close(notify_fd);
}

TEST_F(TakeoverTest, AnUpgradeThatFailsChangesNothing) {
  std::map<std::string, std::string> environment = Environment();
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, gate->address(), "first"));
  // A successor with a wrong setting.
  environment["BACKEND_ADDR"] = "no.such.host.invalid.:1x";
  auto successor = MakeSuccessor(environment);
  ASSERT_TRUE(successor->Launch().ok());
  absl::StatusOr<ExitResult> result = successor->AwaitExit();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->status, 2) << successor->log();
  // One that is killed while it takes over.
  environment = Environment();
  for (int i = 0; i < 5; ++i) {
    successor = MakeSuccessor(environment);
    ASSERT_TRUE(successor->Launch().ok());
    ASSERT_TRUE(successor->AwaitLog("taking over from the gateway"));
    successor->Signal(SIGKILL);
    ASSERT_TRUE(successor->AwaitExit().ok());
    EXPECT_TRUE(IsServedBy(&client, gate->address(), "first"));
  }
  // One that is told to shut down.
  successor = MakeSuccessor(environment);
  ASSERT_TRUE(successor->Launch().ok());
  ASSERT_TRUE(successor->AwaitLog("taking over from the gateway"));
  successor->Signal(SIGTERM);
  result = successor->AwaitExit();
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->exited_with(0)) << successor->log();
  // It had what it asked for before the signal, or it gave up.
  if (absl::StrContains(successor->log(), "took over")) {
    gate = MakeGate(Environment());
    ASSERT_TRUE(gate->Start().ok()) << gate->log();
    ASSERT_TRUE(IsServedBy(&client, gate->address(), "first"));
  }
  EXPECT_TRUE(IsServedBy(&client, gate->address(), "first"));
  // One that may not have so many descriptors.
  std::vector<LoopbackPeer> clients(100);
  for (LoopbackPeer& other : clients) {
    ASSERT_TRUE(IsServedBy(&other, gate->address(), "first"));
  }
  GateProcessOptions options;
  options.environment = Environment();
  options.environment["MAX_SESSIONS"] = "100";
  options.flags = {"--takeover", socket_path_};
  options.open_files_soft_max = options.open_files_hard_max = 80;
  GateProcess small(GateBinary(), options);
  ASSERT_TRUE(small.Launch().ok());
  result = small.AwaitExit();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->status, 1);
  EXPECT_THAT(small.log(), HasSubstr("RLIMIT_NOFILE"));
  EXPECT_TRUE(IsServedBy(&client, gate->address(), "first"));
  EXPECT_TRUE(gate->running()) << gate->log();
}

TEST_F(TakeoverTest, WhatIsWrongIsNamed) {
  auto successor = MakeSuccessor(Environment());
  ASSERT_TRUE(successor->Launch().ok());
  absl::StatusOr<ExitResult> result = successor->AwaitExit();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->status, 1);
  EXPECT_THAT(successor->log(),
              HasSubstr(absl::StrCat("--takeover: connect ", socket_path_,
                                     ": No such file or directory")));
  // A gateway without a takeover socket.
  std::map<std::string, std::string> environment = Environment();
  environment.erase("TAKEOVER_SOCKET");
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  gate->Signal(SIGUSR2);
  EXPECT_TRUE(gate->AwaitLog("TAKEOVER_SOCKET is not set"));
  // Two gates with one path.
  auto first = MakeGate(Environment());
  ASSERT_TRUE(first->Start().ok()) << first->log();
  auto second = MakeGate(Environment());
  ASSERT_TRUE(second->Launch().ok());
  result = second->AwaitExit();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->status, 1);
  EXPECT_THAT(second->log(),
              HasSubstr(absl::StrCat("TAKEOVER_SOCKET: ", socket_path_,
                                     ": another gateway listens there")));
}

TEST_F(TakeoverTest, ADrainedGateStaysDrained) {
  std::map<std::string, std::string> environment = Environment();
  environment["DRAIN_TIMEOUT_SECS"] = "60";
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, gate->address(), "first"));
  gate->Signal(SIGTERM);
  ASSERT_TRUE(gate->AwaitLog("draining: new clients are rejected"));
  gate->Signal(SIGUSR2);
  EXPECT_TRUE(gate->AwaitLog("no new process is started during shutdown"));
  // By hand, without a socket of its own: it goes on at the same one.
  environment.erase("TAKEOVER_SOCKET");
  auto successor = MakeSuccessor(environment);
  ASSERT_TRUE(successor->Start().ok()) << successor->log();
  const absl::StatusOr<ExitResult> result = gate->AwaitExit();
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->exited_with(0)) << gate->log();
  EXPECT_TRUE(IsServedBy(&client, successor->address(), "first"));
  LoopbackPeer newcomer;
  ASSERT_TRUE(newcomer.Send(successor->address(), "refused").ok());
  auto third = MakeSuccessor(environment);
  ASSERT_TRUE(third->Start().ok()) << third->log();
  EXPECT_TRUE(IsServedBy(&client, third->address(), "first"));
  // The session is live, so the first signal drains and the second one stops.
  third->Signal(SIGTERM);
  ASSERT_TRUE(third->AwaitLog("draining: new clients are rejected"));
  ASSERT_TRUE(third->Terminate().ok());
  EXPECT_THAT(third->log(), HasSubstr("dropped: draining 1"));
}

class TakeoverRedisTest : public GateTest {};

// All counters of /metrics, by name and labels; those of histograms too.
std::map<std::string, double> Counters(const SocketAddress& admin) {
  std::map<std::string, double> counters;
  const absl::StatusOr<HttpReply> reply = HttpGet(admin, "/metrics");
  EXPECT_TRUE(reply.ok()) << reply.status();
  if (!reply.ok()) return counters;
  std::string kind;
  for (const absl::string_view line : absl::StrSplit(reply->body, '\n')) {
    if (absl::StartsWith(line, "# TYPE ")) {
      kind = std::string(line.substr(line.rfind(' ') + 1));
    } else if (kind != "gauge" && !line.empty() && line[0] != '#') {
      const size_t space = line.rfind(' ');
      EXPECT_TRUE(
          absl::SimpleAtod(line.substr(space + 1),
                           &counters[std::string(line.substr(0, space))]))
          << line;
    }
  }
  return counters;
}

TEST_F(TakeoverRedisTest, NoCounterStepsBackAndTheEndsStay) {
  const TemporaryDirectory directory;
  const std::string socket_path = directory.path() + "/takeover.sock";
  EchoBackend first("first");
  SetBackend(first);
  GateProcessOptions options;
  options.environment = RedisEnvironment();
  options.environment["TAKEOVER_SOCKET"] = socket_path;
  options.environment["ADMIN_ADDR"] = "127.0.0.1:0";
  options.environment["SESSION_LOG"] = "end";
  options.environment["SESSION_LOG_LINES_PER_SEC"] = "1";
  auto gate = std::make_unique<GateProcess>(GateBinary(), options);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  // Something of all kinds.
  std::vector<LoopbackPeer> clients(8);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(IsServedBy(&client, gate->address(), "first", 3));
  }
  for (int i = 0; i < 4; ++i) Publish(clients[i].address().ToString());
  Publish("nonsense");
  const SocketAddress admin = gate->AdminAddress();
  const auto ends_of = [&] {
    const absl::StatusOr<HttpReply> reply = HttpGet(admin, "/api/v1/ends");
    EXPECT_TRUE(reply.ok()) << reply.status();
    const nlohmann::json ends = nlohmann::json::parse(
        reply.ok() ? reply->body : std::string(), nullptr, false);
    return ends.is_object() ? ends["ends"] : nlohmann::json();
  };
  ASSERT_TRUE(AwaitTrue([&] { return ends_of().size() == 4; }));
  const nlohmann::json ends = ends_of();
  std::map<std::string, double> before;
  // The kernel counts it in steps of 10 ms.
  ASSERT_TRUE(AwaitTrue([&] {
    before = Counters(admin);
    return before["process_cpu_seconds_total"] > 0;
  }));
  EXPECT_GT(before["udpgate_redis_gets_sent_total"], 0);
  EXPECT_GT(before["udpgate_admin_requests_total"], 0);
  const std::string of_backend =
      absl::StrCat("{backend=\"", first.address().ToString(), "\"}");
  EXPECT_EQ(before["udpgate_backend_sessions_opened_total" + of_backend], 8);
  EXPECT_GT(before["udpgate_session_log_lines_left_out_total"], 0);
  options.flags = {"--takeover", socket_path};
  // What the first has given must pass through the second.
  for (int i = 0; i < 2; ++i) {
    auto successor = std::make_unique<GateProcess>(GateBinary(), options);
    ASSERT_TRUE(successor->Start().ok()) << successor->log();
    ASSERT_TRUE(gate->AwaitExit().ok());
    ASSERT_EQ(successor->AdminAddress(), admin) << successor->log();
    const std::map<std::string, double> after = Counters(admin);
    for (const auto& [name, count] : before) {
      const auto found = after.find(name);
      if (found == after.end()) {
        ADD_FAILURE() << name << " has vanished";
      } else {
        EXPECT_GE(found->second, count) << name;
      }
    }
    EXPECT_EQ(ends_of(), ends);
    before = after;
    gate = std::move(successor);
  }
  for (LoopbackPeer& client : clients) {
    EXPECT_TRUE(IsServedBy(&client, gate->address(), "first"));
  }
}

TEST_F(TakeoverRedisTest, DisconnectsGoOn) {
  const TemporaryDirectory directory;
  const std::string socket_path = directory.path() + "/takeover.sock";
  EchoBackend first("first");
  EchoBackend second("second");
  SetBackend(first);
  GateProcessOptions options;
  options.environment = RedisEnvironment();
  options.environment["TAKEOVER_SOCKET"] = socket_path;
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  const SocketAddress address = gate.address();
  LoopbackPeer client;
  LoopbackPeer other;
  ASSERT_TRUE(IsServedBy(&client, address, "first"));
  ASSERT_TRUE(IsServedBy(&other, address, "first"));
  SetBackend(second);
  options.flags = {"--takeover", socket_path};
  GateProcess successor(GateBinary(), options);
  ASSERT_TRUE(successor.Start().ok()) << successor.log();
  EXPECT_TRUE(IsServedBy(&client, address, "first"));
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address, "second"));
  EXPECT_TRUE(IsServedBy(&other, address, "first"));
  // By the port that the backend sees.
  Publish(absl::StrCat(first.sources().back().port()));
  EXPECT_TRUE(AwaitServedBy(&other, address, "second"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
