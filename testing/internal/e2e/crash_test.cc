// `kill -9` under load: what it costs, with the socket of a service manager and
// without.
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/crowd.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/child_process.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::HasSubstr;

// As a service manager with the socket unit and Restart=always: binds the
// socket, and starts the gateway again at once. Prints the gateway's process
// id. The gateway dies with it.
constexpr char kSupervise[] = R"(
import ctypes, os, signal, socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
listener.bind(("127.0.0.1", 0))
print("bound %s:%d." % listener.getsockname(), flush=True)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
while True:
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.environ["LISTEN_FDS"] = "1"
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.execv(sys.argv[1], sys.argv[1:])
    print("process %d." % child, flush=True)
    os.waitpid(child, 0)
)";

// The text between the last `before` and the next full stop.
std::string LastBetween(const std::string& log, const std::string& before) {
  const size_t begin = log.rfind(before);
  if (begin == std::string::npos) return "";
  const size_t start = begin + before.size();
  // Of an address: the full stop before the end of the line.
  const size_t end = log.find(".\n", start);
  return end == std::string::npos ? "" : log.substr(start, end - start);
}

class CrashTest : public GateTest {
 protected:
  static std::map<std::string, std::string> Environment() {
    std::map<std::string, std::string> environment = RedisEnvironment();
    environment["SESSION_STORE"] = "redis";
    environment["GATEWAY_ID"] = "crash";
    environment["MAX_UNCONFIRMED_SESSIONS_PER_IP"] = "0";
    environment["NEW_SESSIONS_PER_SEC"] = "0";
    environment["SESSION_IDLE_TIMEOUT_SECS"] = "3600";
    environment["BACKEND_SILENT_TIMEOUT_SECS"] = "0";
    environment["CLIENT_SILENT_TIMEOUT_SECS"] = "0";
    // Nobody else takes these source ports while the gateway is dead.
    environment["UPSTREAM_BIND_ADDRS"] = "127.77.0.2";
    return environment;
  }
  static int RecordCount() {
    int count = -1;
    (void)absl::SimpleAtoi(
        redis()
            .Command({"SCARD", "udp_gate:session:@index:crash"})
            .value_or("-1"),
        &count);
    return count;
  }
};

TEST_F(CrashTest, AKillUnderLoadIsAGapOfAtMostASecond) {
  constexpr int kKills = 20;
  // deploy/systemd/service_test.py has 5,000, and the optimised gateway.
  const int client_count = 1000 / kSlowness;
  ChildProcessOptions options;
  options.arguments = {"python3", "-c", kSupervise, GateBinary()};
  options.environment = Environment();
  // The address is that of the socket; the backend is known only now.
  Crowd::Options crowd_options;
  crowd_options.client_count = client_count;
  crowd_options.client = *SocketAddress::Parse("127.77.0.1:0");
  auto supervisor = ChildProcess::Start(options);
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  ASSERT_TRUE((*supervisor)->AwaitOutput("listening on "))
      << (*supervisor)->output();
  crowd_options.gate =
      *SocketAddress::Parse(LastBetween((*supervisor)->output(), "bound "));
  Crowd crowd(crowd_options);
  SetBackendText(crowd.backend_address().ToString());
  ASSERT_TRUE(crowd.Join([&] { return RecordCount() == client_count; },
                         absl::Seconds(120)))
      << RecordCount() << " records\n"
      << (*supervisor)->output();

  std::mt19937 random(1);
  std::uniform_int_distribution<int> milliseconds(300, 1500);
  std::vector<absl::Duration> gaps;
  crowd.Start();
  for (int i = 0; i < kKills; ++i) {
    ASSERT_TRUE(crowd.AwaitAllServed()) << (*supervisor)->output();
    absl::SleepFor(absl::Milliseconds(milliseconds(random)));
    (void)crowd.TakeLongestSilence();
    const size_t from = (*supervisor)->output().size();
    int process = 0;
    ASSERT_TRUE(absl::SimpleAtoi(
        LastBetween((*supervisor)->output(), "process "), &process));
    ASSERT_EQ(::kill(process, SIGKILL), 0);
    ASSERT_TRUE(
        (*supervisor)->AwaitOutput("listening on ", kAwaitTimeout, from))
        << (*supervisor)->output();
    ASSERT_TRUE(crowd.AwaitAllServed()) << (*supervisor)->output();
    gaps.push_back(crowd.TakeLongestSilence());
    std::printf("kill %d: %s\n", i + 1,
                absl::FormatDuration(gaps.back()).c_str());
    std::fflush(stdout);
  }
  const Crowd::Report report = crowd.Stop();
  EXPECT_EQ(report.moved, 0);
  EXPECT_EQ(crowd.CountServed(), client_count) << (*supervisor)->output();
  EXPECT_EQ(crowd.CountHeard(), client_count) << (*supervisor)->output();
  EXPECT_EQ(RecordCount(), client_count);
  std::sort(gaps.begin(), gaps.end());
  std::printf(
      "%d kills with %d sessions: longest silence of a player, median %s, "
      "worst %s; %lld datagrams sent, %lld came back\n",
      kKills, client_count, absl::FormatDuration(gaps[gaps.size() / 2]).c_str(),
      absl::FormatDuration(gaps.back()).c_str(),
      static_cast<long long>(report.sent),
      static_cast<long long>(report.received));
  EXPECT_LE(gaps.back(), absl::Seconds(1) * kSlowness);
}

TEST_F(CrashTest, ManySessionsAreContinuedInLittleTime) {
  const int client_count = 5000 / kSlowness;
  std::map<std::string, std::string> environment = Environment();
  Crowd::Options crowd_options;
  crowd_options.client_count = client_count;
  crowd_options.client = *SocketAddress::Parse("127.77.0.1:0");
  auto gateway = std::make_unique<GateProcess>(
      GateBinary(), GateProcessOptions{environment, {}, ""});
  ASSERT_TRUE(gateway->Start().ok()) << gateway->log();
  crowd_options.gate = gateway->address();
  environment["PROXY_ADDR"] = gateway->address().ToString();
  Crowd crowd(crowd_options);
  SetBackendText(crowd.backend_address().ToString());
  ASSERT_TRUE(crowd.Join([&] { return RecordCount() == client_count; },
                         absl::Seconds(120)))
      << RecordCount() << " records\n"
      << gateway->log();
  gateway->Signal(SIGKILL);
  ASSERT_TRUE(gateway->AwaitExit().ok());
  gateway = std::make_unique<GateProcess>(
      GateBinary(), GateProcessOptions{environment, {}, ""});
  const absl::Time before = absl::Now();
  ASSERT_TRUE(gateway->Start().ok()) << gateway->log();
  const absl::Duration duration = absl::Now() - before;
  EXPECT_THAT(gateway->log(),
              HasSubstr(absl::StrCat("continues ", client_count,
                                     " sessions of the former process, 0 of")));
  EXPECT_EQ(crowd.CountHeard(), client_count) << gateway->log();
  EXPECT_EQ(crowd.CountServed(), client_count) << gateway->log();
  std::printf("%d sessions continued in %s, from exec to listening\n",
              client_count, absl::FormatDuration(duration).c_str());
  // tools/bench.sh --store measures the optimised gateway.
  EXPECT_LE(duration, absl::Seconds(3) * kSlowness);
  EXPECT_TRUE(gateway->Terminate()->exited_with(0));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
