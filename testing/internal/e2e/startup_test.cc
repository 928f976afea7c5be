// The start of the program, its log and its resources.
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/internal/support/threads.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {
namespace {

using StartupTest = GateTest;

TEST_F(StartupTest, LogsItsConfiguration) {
  StartGate({{"WORKER_COUNT", "3"},
             {"LISTENER_COUNT", "2"},
             {"RECEIVE_BUFFER_BYTES", "1GiB"}});
  const std::string log = gate().log();
  EXPECT_TRUE(absl::StrContains(
      log, absl::StrCat("listening on ", address().ToString())))
      << log;
  EXPECT_TRUE(absl::StrContains(log, redis().tcp_address())) << log;
  EXPECT_TRUE(absl::StrContains(log, kBackendKey)) << log;
  EXPECT_TRUE(absl::StrContains(log, "workers: 3")) << log;
  EXPECT_TRUE(absl::StrContains(log, "listeners: 2")) << log;
  EXPECT_TRUE(absl::StrContains(log, "receive buffer: ")) << log;
  // No kernel grants a gibibyte unless it was told to.
  EXPECT_TRUE(absl::StrContains(log, "sysctl -w net.core.rmem_max=")) << log;
  EXPECT_TRUE(absl::StrContains(log, "send buffer: ")) << log;
  EXPECT_TRUE(absl::StrContains(log, "sysctl -w net.core.wmem_max=")) << log;
}

TEST_F(StartupTest, AFixedBackendNeedsNoRedis) {
  EchoBackend lobby("lobby");
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", lobby.address().ToString()},
                         // The log would show it if it were used.
                         {"REDIS_ADDR", "127.0.0.9:1"}};
  GateProcess fixed(GateBinary(), options);
  ASSERT_TRUE(fixed.Start().ok());
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, fixed.address(), "lobby", 5));
  EXPECT_FALSE(absl::StrContains(fixed.log(), "127.0.0.9:1")) << fixed.log();
  absl::StatusOr<ExitResult> result = fixed.Terminate();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->status, 0) << fixed.log();
}

TEST_F(StartupTest, AFixedBackendMayBeAHostName) {
  EchoBackend lobby("lobby");
  EchoBackend lobby_v6("lobby",
                       SocketAddress::Ipv6Loopback(lobby.address().port()));
  StartGate(
      {{"BACKEND_ADDR", absl::StrCat("localhost:", lobby.address().port())}});
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

TEST_F(StartupTest, AppliesTheSessionLimit) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"MAX_SESSIONS", "2"}});
  LoopbackPeer first;
  LoopbackPeer second;
  ASSERT_TRUE(IsServedBy(&first, address(), "lobby"));
  ASSERT_TRUE(IsServedBy(&second, address(), "lobby"));
  LoopbackPeer third;
  ASSERT_TRUE(third.Send(address(), "full").ok());
  // One session ends, and then there is room for the third.
  Publish(first.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&third, address(), "lobby"));
  EXPECT_EQ(lobby.sources().size(), 3u);
  EXPECT_TRUE(IsServedBy(&second, address(), "lobby"));
}

TEST_F(StartupTest, WorksWithTheSmallestSettings) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"WORKER_COUNT", "1"},
             {"QUEUE_SIZE", "1"},
             {"BATCH_SIZE", "1"},
             {"PENDING_DATAGRAMS_MAX", "1"},
             {"MAX_SESSIONS", "1"},
             {"RECEIVE_BUFFER_BYTES", "4096"}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 50));
}

TEST_F(StartupTest, WorksWithLargeSettings) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"WORKER_COUNT", "32"},
             {"LISTENER_COUNT", "8"},
             {"QUEUE_SIZE", "16384"},
             {"BATCH_SIZE", "1024"},
             {"PENDING_DATAGRAMS_MAX", "1024"}});
  std::vector<LoopbackPeer> clients(50);
  for (LoopbackPeer& client : clients) {
    EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 2));
  }
}

TEST_F(StartupTest, RaisesItsSoftDescriptorLimit) {
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", "127.0.0.1:9"}};
  options.open_files_soft_max = 128;
  options.open_files_hard_max = 3000;
  GateProcess limited(GateBinary(), options);
  ASSERT_TRUE(limited.Start().ok());
  std::string limits =
      ReadFile(absl::StrCat("/proc/", limited.pid(), "/limits"));
  limits = limits.substr(limits.find("Max open files"));
  std::istringstream line(limits);
  std::string word;
  int soft_max = 0;
  line >> word >> word >> word >> soft_max;
  EXPECT_EQ(soft_max, 3000) << limits;
}

TEST_F(StartupTest, NamesItsThreads) {
  StartGate({{"WORKER_COUNT", "3"}, {"LISTENER_COUNT", "2"}});
  std::multimap<std::string, pid_t> threads;
  const auto count = [&](absl::string_view prefix) {
    return std::count_if(threads.begin(), threads.end(),
                         [&](const auto& thread) {
                           return absl::StartsWith(thread.first, prefix);
                         });
  };
  // A thread takes its name once it runs.
  EXPECT_TRUE(AwaitTrue([&] {
    threads = test::ThreadsOf(gate().pid());
    return count("udpgate-read") == 2 && count("udpgate-work") == 3 &&
           count("udpgate-redis") == 3 && count("udpgate-dns") == 1;
  }));
  // The main thread has the program's name; a sanitizer's thread has it too.
  if (kSlowness == 1) {
    EXPECT_TRUE(AwaitTrue([&] {
      threads = test::ThreadsOf(gate().pid());
      return count("udp-gate") == 1;
    }));
  }
  EXPECT_EQ(static_cast<size_t>(count("udpgate-") + count("udp-gate")),
            threads.size());
}

// Their scheduling policy is SCHED_BATCH.
TEST_F(StartupTest, ControlThreadsDoNotPreemptTheDataPlane) {
  if (::sched_getscheduler(0) != SCHED_OTHER) GTEST_SKIP() << "another policy";
  StartGate();
  for (const absl::string_view prefix :
       {"udpgate-work", "udpgate-read", "udpgate-redis", "udpgate-dns",
        "udpgate-control"}) {
    const bool gives_way = !absl::StartsWith(prefix, "udpgate-work") &&
                           !absl::StartsWith(prefix, "udpgate-read");
    EXPECT_TRUE(AwaitTrue([&] {
      int right = 0;
      for (const auto& thread : test::ThreadsOf(gate().pid())) {
        if (!absl::StartsWith(thread.first, prefix)) continue;
        if ((::sched_getscheduler(thread.second) == SCHED_BATCH) != gives_way) {
          return false;
        }
        ++right;
      }
      return right > 0;
    })) << prefix;
  }
}

TEST_F(StartupTest, ExitsWithStatusOneForAnAddressOfAnotherHost) {
  GateProcessOptions options;
  options.environment = {{"PROXY_ADDR", "192.0.2.77:1234"},
                         {"ADDRESS_WAIT_SECS", "0"},
                         {"BACKEND_ADDR", "127.0.0.1:9"}};
  const Outcome outcome = RunToEnd(options);
  EXPECT_EQ(outcome.status, 1) << outcome.output;
  EXPECT_TRUE(absl::StrContains(outcome.output, "192.0.2.77:1234"))
      << outcome.output;
}

class PasswordTest : public StartupTest,
                     public ::testing::WithParamInterface<std::string> {};

INSTANTIATE_TEST_SUITE_P(LogFormats, PasswordTest,
                         ::testing::Values("text", "json"),
                         [](const auto& format) { return format.param; });

TEST_P(PasswordTest, IsNeitherLoggedNorInTheCommandLine) {
  RedisServerOptions options;
  options.extra_arguments = {"--requirepass", "hunter-two"};
  options.password = "hunter-two";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  StartGate({{"REDIS_ADDR", server.tcp_address()},
             {"REDIS_PASSWORD", "hunter-two"},
             {"LOG_FORMAT", GetParam()},
             {"LOG_LEVEL", "debug"}});
  ASSERT_TRUE(AwaitSubscriber(&server));
  EXPECT_FALSE(absl::StrContains(gate().log(), "hunter")) << gate().log();
  EXPECT_FALSE(absl::StrContains(
      ReadFile(absl::StrCat("/proc/", gate().pid(), "/cmdline")), "hunter"));
  server.Kill();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return LineCount(gate().log()) > 0 &&
           absl::StrContains(gate().log(), "Connection");
  })) << gate().log();
  EXPECT_FALSE(absl::StrContains(gate().log(), "hunter")) << gate().log();
}

// The listeners of the first gateway and of the second one.
class SecondGatewayTest
    : public StartupTest,
      public ::testing::WithParamInterface<std::pair<int, int>> {
 protected:
  void ExpectSecondGatewayFails(const std::string& proxy_address) {
    GateProcessOptions options;
    options.environment = RedisEnvironment();
    options.environment["LISTENER_COUNT"] = absl::StrCat(GetParam().second);
    options.environment["PROXY_ADDR"] = proxy_address;
    const Outcome outcome = RunToEnd(options);
    EXPECT_EQ(outcome.status, 1) << outcome.output;
    EXPECT_EQ(LineCount(outcome.output), 1) << outcome.output;
    EXPECT_TRUE(absl::StrContains(
        outcome.output,
        absl::StrCat("error cannot start: PROXY_ADDR: bind ", proxy_address,
                     ": Address already in use\n")))
        << outcome.output;
  }

  void ExpectFirstGatewayHasAllClients(const SocketAddress& gate_address) {
    std::vector<LoopbackPeer> clients(20);
    for (LoopbackPeer& client : clients) {
      EXPECT_TRUE(IsServedBy(&client, gate_address, "lobby"));
    }
  }
};

INSTANTIATE_TEST_SUITE_P(ListenerCounts, SecondGatewayTest,
                         ::testing::Values(std::make_pair(1, 1),
                                           std::make_pair(1, 2),
                                           std::make_pair(2, 1),
                                           std::make_pair(3, 3)));

TEST_P(SecondGatewayTest, OnTheSamePortFails) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"LISTENER_COUNT", absl::StrCat(GetParam().first)}});
  ExpectSecondGatewayFails(address().ToString());
  // A wildcard would receive a part of the first one's traffic, too.
  ExpectSecondGatewayFails(absl::StrCat("0.0.0.0:", address().port()));
  ExpectSecondGatewayFails(absl::StrCat("[::]:", address().port()));
  ExpectFirstGatewayHasAllClients(address());
}

TEST_P(SecondGatewayTest, BesideAWildcardFails) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"LISTENER_COUNT", absl::StrCat(GetParam().first)},
             {"PROXY_ADDR", "[::]:0"}});
  const SocketAddress loopback = SocketAddress::Ipv4Loopback(address().port());
  ExpectSecondGatewayFails(loopback.ToString());
  ExpectSecondGatewayFails(address().ToString());
  ExpectFirstGatewayHasAllClients(loopback);
}

// Runs the gateway as systemd does, with a NOTIFY_SOCKET and one bound socket.
constexpr char kActivate[] = R"(
import os, socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", 0))
print("bound %s:%d" % listener.getsockname(), flush=True)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
)";

TEST(ServiceManagerTest, ServesOnAPassedSocketAndReportsItsState) {
  EchoBackend lobby("lobby");
  TemporaryDirectory directory;
  sockaddr_un notify_address{};
  notify_address.sun_family = AF_UNIX;
  const std::string notify_path = absl::StrCat(directory.path(), "/notify");
  std::strcpy(notify_address.sun_path, notify_path.c_str());
  const internal::UniqueFd notify(
      ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(
      ::bind(notify.get(), reinterpret_cast<const sockaddr*>(&notify_address),
             sizeof(notify_address)),
      0);
  std::string notified;
  const auto is_notified = [&](absl::string_view text) {
    return AwaitTrue([&] {
      char buffer[4096];
      ssize_t size;
      while ((size = ::recv(notify.get(), buffer, sizeof(buffer),
                            MSG_DONTWAIT)) > 0) {
        absl::StrAppend(&notified, absl::string_view(buffer, size), "\n");
      }
      return absl::StrContains(notified, text);
    });
  };

  ChildProcessOptions options;
  options.arguments = {"python3", "-c", kActivate, GateBinary()};
  options.environment = {{"BACKEND_ADDR", lobby.address().ToString()},
                         {"DRAIN_TIMEOUT_SECS", "86400"},
                         {"NOTIFY_SOCKET", notify_path},
                         {"WATCHDOG_USEC", "20000000"}};
  auto gate = ChildProcess::Start(options);
  ASSERT_TRUE(gate.ok()) << gate.status();
  ASSERT_TRUE(is_notified("READY=1\nSTATUS=listening on 127.0.0.1:"))
      << (*gate)->output();
  EXPECT_TRUE(is_notified("WATCHDOG=1\n"));
  const std::string log = (*gate)->output();
  const std::string bound =
      log.substr(6, log.find('\n') - 6);  // behind "bound "
  EXPECT_TRUE(absl::StrContains(log, absl::StrCat("listening on ", bound)))
      << log;
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(bound);
  ASSERT_TRUE(address.ok()) << log;
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, *address, "lobby", 5));

  (*gate)->Signal(SIGTERM);
  EXPECT_TRUE(
      is_notified("STOPPING=1\nEXTEND_TIMEOUT_USEC=86410000000\n"
                  "STATUS=draining\n"));
  ASSERT_TRUE((*gate)->AwaitOutput("draining: "));
  absl::StatusOr<ExitResult> result = (*gate)->SignalAndAwaitExit(SIGTERM);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status, 0) << (*gate)->output();
  EXPECT_LT(result->duration, kStopTimeMax);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
