// The program from outside: settings, start, stop, and what it shows of
// itself.
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/child_process.h"
#include "testing/e2e/e2e.h"
#include "testing/http_client.h"
#include "testing/temporary_directory.h"
#include "testing/threads.h"
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace test {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

int LineCount(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

// What a gate that ends by itself wrote and returned.
struct Outcome {
  int status = -1;
  std::string output;
};

Outcome RunToEnd(GateProcessOptions options) {
  GateProcess gate(GateBinary(), std::move(options));
  Outcome outcome;
  if (absl::Status launched = gate.Launch(); !launched.ok()) {
    outcome.output = std::string(launched.message());
    return outcome;
  }
  absl::StatusOr<ExitResult> result = gate.AwaitExit();
  if (result.ok()) outcome.status = result->status;
  outcome.output = gate.log();
  return outcome;
}

Outcome RunWithFlags(std::vector<std::string> flags) {
  GateProcessOptions options;
  options.flags = std::move(flags);
  return RunToEnd(std::move(options));
}

// The IP address that these settings make the gate listen on. Each level of
// settings names another one.
std::string ListenIp(GateProcessOptions options) {
  options.environment["BACKEND_ADDR"] = "127.0.0.1:9";
  GateProcess gate(GateBinary(), std::move(options));
  absl::Status started = gate.Start();
  if (!started.ok()) return started.ToString();
  return gate.address().IpToString();
}

TEST(SettingsTest, AFlagBeatsTheEnvironmentWhichBeatsDotEnv) {
  GateProcessOptions options;
  options.dot_env = "# a comment\nexport PROXY_ADDR='127.0.0.2:0'\n";
  EXPECT_EQ(ListenIp(options), "127.0.0.2");
  options.environment = {{"PROXY_ADDR", "127.0.0.3:0"}};
  EXPECT_EQ(ListenIp(options), "127.0.0.3");
  options.flags = {"--proxy-addr=127.0.0.4:0"};
  EXPECT_EQ(ListenIp(options), "127.0.0.4");
  options.flags = {"--proxy-addr", "127.0.0.5:0"};
  EXPECT_EQ(ListenIp(options), "127.0.0.5");
}

TEST(SettingsTest, AnEmptyValueMeansNotSet) {
  GateProcessOptions options;
  options.dot_env = "PROXY_ADDR=127.0.0.2:0\nSESSION_IDLE_TIMEOUT_SECS=\n";
  options.environment = {{"PROXY_ADDR", ""}, {"QUEUE_SIZE", ""}};
  EXPECT_EQ(ListenIp(options), "127.0.0.2");
  options.environment = {{"PROXY_ADDR", "127.0.0.3:0"}};
  options.flags = {"--proxy-addr=", "--batch-size="};
  EXPECT_EQ(ListenIp(options), "127.0.0.3");
}

TEST(SettingsTest, AllIsDefaultWithoutAnySetting) {
  GateProcessOptions options;
  options.flags = {"--check"};
  const Outcome outcome = RunToEnd(options);
  EXPECT_EQ(outcome.status, 0) << outcome.output;
}

TEST(SettingsTest, TheEndsOfEachRangeAreAllowed) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {"--redis-db=0", "--session-idle-timeout-secs=1", "--worker-count=0",
            "--queue-size=1", "--listener-count=1", "--batch-size=1",
            "--max-sessions=0", "--backend-refusals-max=1",
            "--resolve-timeout-ms=1", "--redis-timeout-ms=1",
            "--pending-datagrams-max=1", "--receive-buffer-bytes=4096",
            "--log-level=debug", "--session-events-max=1",
            "--session-log-lines-per-sec=0"},
           {"--redis-db=1000000", "--session-idle-timeout-secs=86400",
            "--worker-count=256", "--queue-size=1048576", "--listener-count=64",
            "--batch-size=1024", "--max-sessions=1000000",
            "--backend-refusals-max=1000", "--resolve-timeout-ms=3600000",
            "--redis-timeout-ms=60000", "--pending-datagrams-max=1024",
            "--receive-buffer-bytes=1GiB", "--log-level=error",
            "--session-events-max=1048576",
            "--session-log-lines-per-sec=1000000"}}) {
    std::vector<std::string> all = flags;
    all.push_back("--check");
    const Outcome outcome = RunWithFlags(all);
    EXPECT_EQ(outcome.status, 0) << outcome.output;
  }
}

TEST(SettingsTest, AnUnknownNameInDotEnvIsWarnedAbout) {
  GateProcessOptions options;
  options.flags = {"--check"};
  options.dot_env = "REDIS_ADR=127.0.0.1:1\nPATH=/bin\n";
  const Outcome outcome = RunToEnd(options);
  EXPECT_EQ(outcome.status, 0);
  EXPECT_TRUE(absl::StrContains(outcome.output, "REDIS_ADR")) << outcome.output;
  EXPECT_FALSE(absl::StrContains(outcome.output, "PATH")) << outcome.output;
}

std::string FlagOf(absl::string_view variable) {
  std::string flag = "--";
  for (const char c : variable) {
    flag += c == '_' ? '-' : static_cast<char>(std::tolower(c));
  }
  return flag;
}

using BadSettingTest =
    ::testing::TestWithParam<std::pair<std::string, std::string>>;

std::vector<std::pair<std::string, std::string>> BadSettings() {
  std::vector<std::pair<std::string, std::string>> settings;
  const auto add = [&](const char* name, std::vector<std::string> values) {
    for (std::string& value : values) settings.emplace_back(name, value);
  };
  add("PROXY_ADDR", {"nonsense", "127.0.0.1", "127.0.0.1:65536", "[::1:1",
                     "localhost:1", ":", "127.0.0.1:-1"});
  add("REDIS_ADDR", {"nonsense", "127.0.0.1", "127.0.0.1:0",
                     "unix:", "unix:relative", "host:65536"});
  add("REDIS_DB", {"-1", "x", "1.5", "99999999999999999999", "2000000000"});
  add("SESSION_IDLE_TIMEOUT_SECS", {"0", "-1", "x", "86401", "1s"});
  add("WORKER_COUNT", {"-1", "257", "many", "1e2"});
  add("QUEUE_SIZE", {"0", "-1", "1048577", "x"});
  add("LISTENER_COUNT", {"0", "65", "x"});
  add("BATCH_SIZE", {"0", "1025", "x"});
  add("BACKEND_ADDR",
      {"nonsense", "127.0.0.1", "127.0.0.1:0", ":19132", "127.0.0.1:99999"});
  add("MAX_SESSIONS", {"-1", "x"});
  add("BACKEND_REFUSALS_MAX", {"0", "1001", "x"});
  add("RESOLVE_TIMEOUT_MS", {"0", "-1", "x", "3600001"});
  add("REDIS_TIMEOUT_MS", {"0", "-1", "x", "3600001", "3600000"});
  add("PENDING_DATAGRAMS_MAX", {"0", "1025", "x"});
  add("RECEIVE_BUFFER_BYTES", {"0", "4095", "x", "2GiB", "8MB"});
  add("LOG_LEVEL", {"loud", "INFO ", "0"});
  add("LOG_FORMAT", {"JSON", "xml"});
  add("SESSION_LOG", {"on", "ends"});
  add("SESSION_LOG_LINES_PER_SEC", {"-1", "x"});
  add("SESSION_EVENTS_MAX", {"0", "1048577", "x"});
  add("FAST_PATH", {"on", "yes", "AUTO"});
  add("FAST_PATH_INTERFACES", {",", "a/b", "an-interface-name-too-long"});
  add("REDIS_PASSWORD_FILE", {"/no/such/file", "/"});
  return settings;
}

INSTANTIATE_TEST_SUITE_P(
    Settings, BadSettingTest, ::testing::ValuesIn(BadSettings()),
    [](const ::testing::TestParamInfo<BadSettingTest::ParamType>& setting) {
      return absl::StrCat(setting.param.first, setting.index);
    });

TEST_P(BadSettingTest, EndsWithStatusTwoAndOneLineThatNamesIt) {
  const auto& [name, value] = GetParam();
  GateProcessOptions by_environment;
  by_environment.environment = {{name, value}};
  GateProcessOptions by_flag;
  by_flag.flags = {absl::StrCat(FlagOf(name), "=", value)};
  GateProcessOptions by_dot_env;
  by_dot_env.dot_env = absl::StrCat(name, "='", value, "'\n");
  for (GateProcessOptions* options : {&by_environment, &by_flag, &by_dot_env}) {
    // Where the value passes after all, the gate must not begin to serve.
    options->flags.push_back("--check");
    const Outcome outcome = RunToEnd(*options);
    EXPECT_EQ(outcome.status, 2) << outcome.output;
    EXPECT_EQ(LineCount(outcome.output), 1) << outcome.output;
    EXPECT_TRUE(absl::StrContains(outcome.output, name)) << outcome.output;
    EXPECT_TRUE(absl::StrContains(outcome.output, value)) << outcome.output;
  }
}

// A URL may hold a password, which is in no error text.
TEST(SettingsTest, AUrlIsRefusedWithoutWhatIsBehindItsScheme) {
  for (const char* url : {"redis://host:1", "redis://:hunter2", "redis://:4711",
                          "rediss://user:hunter2@host:1/0"}) {
    const Outcome outcome =
        RunWithFlags({absl::StrCat("--redis-addr=", url), "--check"});
    EXPECT_EQ(outcome.status, 2) << url << "\n" << outcome.output;
    EXPECT_EQ(LineCount(outcome.output), 1) << outcome.output;
    EXPECT_TRUE(absl::StrContains(outcome.output, "REDIS_ADDR=\"redis"));
    EXPECT_TRUE(absl::StrContains(outcome.output, "://***\""))
        << outcome.output;
    for (const char* part : {"host:1\"", "hunter2", "4711"}) {
      EXPECT_FALSE(absl::StrContains(outcome.output, part)) << outcome.output;
    }
  }
}

TEST(SettingsTest, AnUnknownFlagEndsWithStatusTwo) {
  for (const char* flag :
       {"--no-such-flag", "--redis-password=secret", "-x", "extra"}) {
    const Outcome outcome = RunWithFlags({flag});
    EXPECT_EQ(outcome.status, 2) << flag << "\n" << outcome.output;
    EXPECT_EQ(LineCount(outcome.output), 1) << outcome.output;
    EXPECT_FALSE(absl::StrContains(outcome.output, "secret")) << outcome.output;
  }
}

TEST(SettingsTest, HelpShowsEverySetting) {
  const Outcome outcome = RunWithFlags({"--help"});
  EXPECT_EQ(outcome.status, 0);
  for (const auto& [name, value] : BadSettings()) {
    EXPECT_TRUE(absl::StrContains(outcome.output, name)) << name;
    EXPECT_TRUE(absl::StrContains(outcome.output, FlagOf(name))) << name;
  }
  EXPECT_TRUE(absl::StrContains(outcome.output, "REDIS_PASSWORD"));
  EXPECT_FALSE(absl::StrContains(outcome.output, "--redis-password "));
}

TEST(SettingsTest, VersionIsOneLine) {
  const Outcome outcome = RunWithFlags({"--version"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(LineCount(outcome.output), 1) << outcome.output;
}

using ProcessTest = GateTest;

TEST_F(ProcessTest, SaysAtTheStartHowItWorks) {
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

TEST_F(ProcessTest, AFixedBackendNeedsNoRedis) {
  EchoBackend lobby("lobby");
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", lobby.address().ToString()},
                         // Were it used, the log would say so.
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

TEST_F(ProcessTest, AFixedBackendMayBeAHostName) {
  EchoBackend lobby("lobby");
  EchoBackend lobby_v6("lobby",
                       SocketAddress::Ipv6Loopback(lobby.address().port()));
  StartGate(
      {{"BACKEND_ADDR", absl::StrCat("localhost:", lobby.address().port())}});
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

TEST_F(ProcessTest, LimitsItsSessionsAsItIsTold) {
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

TEST_F(ProcessTest, WorksWithTheSmallestSettings) {
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

TEST_F(ProcessTest, WorksWithLargeSettings) {
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

TEST_F(ProcessTest, RaisesItsSoftDescriptorLimit) {
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

TEST_F(ProcessTest, ItsThreadsBearNames) {
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
           count("udpgate-redis") == 2 && count("udpgate-dns") == 1;
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

// A thread of the control plane that wakes does not interrupt one that moves
// datagrams.
TEST_F(ProcessTest, TheControlPlaneGivesWay) {
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

class PasswordTest : public ProcessTest,
                     public ::testing::WithParamInterface<std::string> {};

INSTANTIATE_TEST_SUITE_P(LogFormats, PasswordTest,
                         ::testing::Values("text", "json"),
                         [](const auto& format) { return format.param; });

TEST_P(PasswordTest, IsShownNowhere) {
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

// The lines of a JSON log; fails where one is no object.
std::vector<nlohmann::json> JsonLines(const std::string& log) {
  std::vector<nlohmann::json> lines;
  for (const absl::string_view line :
       absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    lines.push_back(nlohmann::json::parse(line, nullptr, false));
    EXPECT_TRUE(lines.back().is_object()) << line;
    EXPECT_TRUE(lines.back().contains("time")) << line;
    EXPECT_TRUE(lines.back().contains("severity")) << line;
    EXPECT_TRUE(lines.back().contains("message")) << line;
  }
  return lines;
}

// With a gate of its own, whose log can be read after its end.
class SessionLogTest : public GateTest {
 protected:
  void Start(const std::map<std::string, std::string>& environment) {
    GateProcessOptions options;
    options.environment = RedisEnvironment();
    for (const auto& [name, value] : environment) {
      options.environment[name] = value;
    }
    gate_ = std::make_unique<GateProcess>(GateBinary(), options);
    const absl::Status started = gate_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }

  std::unique_ptr<GateProcess> gate_;
};

TEST_F(SessionLogTest, LogsSessionsAsJson) {
  EchoBackend backend("lobby");
  SetBackend(backend);
  Start(
      {{"LOG_FORMAT", "json"}, {"SESSION_LOG", "all"}, {"LOG_LEVEL", "debug"}});
  LoopbackPeer client, other;
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "lobby", 3));
  EXPECT_TRUE(IsServedBy(&other, gate_->address(), "lobby"));
  Publish(client.address().ToString());
  ASSERT_TRUE(gate_->AwaitLog("disconnected"));
  ASSERT_EQ(gate_->Terminate()->status, 0);
  std::map<std::string, std::vector<nlohmann::json>> by_event;
  for (const nlohmann::json& line : JsonLines(gate_->log())) {
    if (line.contains("event")) by_event[line["event"]].push_back(line);
  }
  ASSERT_EQ(by_event["session_opened"].size(), 2u) << gate_->log();
  ASSERT_EQ(by_event["session_ended"].size(), 2u) << gate_->log();
  const nlohmann::json& ended = by_event["session_ended"][0];
  EXPECT_EQ(ended["severity"], "info");
  EXPECT_EQ(ended["message"], "session ended");
  EXPECT_EQ(ended["client"], client.address().ToString());
  EXPECT_EQ(ended["local"], gate_->address().ToString());
  EXPECT_EQ(ended["backend"], backend.address().ToString());
  EXPECT_EQ(ended["relay_port"], by_event["session_opened"][0]["relay_port"]);
  EXPECT_EQ(ended["client_datagrams"], 3);
  EXPECT_EQ(ended["backend_datagrams"], 3);
  EXPECT_TRUE(ended["client_bytes"].is_number_unsigned());
  EXPECT_TRUE(ended["duration_seconds"].is_number_float());
  EXPECT_EQ(ended["reason"], "disconnected");
  EXPECT_EQ(by_event["session_ended"][1]["client"], other.address().ToString());
  EXPECT_EQ(by_event["session_ended"][1]["reason"], "stopped");
}

TEST_F(SessionLogTest, LogsTheEndsOfSessionsAsText) {
  EchoBackend backend("lobby");
  SetBackend(backend);
  Start({{"SESSION_LOG", "end"}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "lobby"));
  ASSERT_EQ(gate_->Terminate()->status, 0);
  EXPECT_TRUE(absl::StrContains(gate_->log(), "info session ended "))
      << gate_->log();
  EXPECT_TRUE(absl::StrContains(
      gate_->log(), absl::StrCat(" client=", client.address().ToString(), " ")))
      << gate_->log();
  EXPECT_TRUE(absl::StrContains(gate_->log(), " reason=stopped\n"))
      << gate_->log();
  EXPECT_FALSE(absl::StrContains(gate_->log(), "session opened"));
}

TEST_F(SessionLogTest, AFloodOfSessionsIsServedAndFillsNoLog) {
  EchoBackend backend("lobby");
  SetBackend(backend);
  Start({{"SESSION_LOG", "all"},
         {"SESSION_LOG_LINES_PER_SEC", "5"},
         {"SESSION_EVENTS_MAX", "2"}});
  std::vector<LoopbackPeer> clients(100);
  for (LoopbackPeer& client : clients) {
    EXPECT_TRUE(IsServedBy(&client, gate_->address(), "lobby"));
  }
  ASSERT_EQ(gate_->Terminate()->status, 0);
  // Each second of the test has its five, and the report of the last one.
  int line_count = 0;
  for (const absl::string_view line : absl::StrSplit(gate_->log(), '\n')) {
    if (absl::StrContains(line, "info session ")) ++line_count;
  }
  EXPECT_GE(line_count, 5) << gate_->log();
  EXPECT_LT(line_count, 100) << gate_->log();
}

// The listeners of the first gate and of the second.
class SecondGateTest
    : public ProcessTest,
      public ::testing::WithParamInterface<std::pair<int, int>> {
 protected:
  void ExpectSecondGateFails(const std::string& proxy_address) {
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

  void ExpectFirstGateHasAllClients(const SocketAddress& gate_address) {
    std::vector<LoopbackPeer> clients(20);
    for (LoopbackPeer& client : clients) {
      EXPECT_TRUE(IsServedBy(&client, gate_address, "lobby"));
    }
  }
};

INSTANTIATE_TEST_SUITE_P(ListenerCounts, SecondGateTest,
                         ::testing::Values(std::make_pair(1, 1),
                                           std::make_pair(1, 2),
                                           std::make_pair(2, 1),
                                           std::make_pair(3, 3)));

TEST_P(SecondGateTest, OnTheSamePortFailsAndTakesNothing) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"LISTENER_COUNT", absl::StrCat(GetParam().first)}});
  ExpectSecondGateFails(address().ToString());
  // The wildcard would take part of the first one's traffic, too.
  ExpectSecondGateFails(absl::StrCat("0.0.0.0:", address().port()));
  ExpectSecondGateFails(absl::StrCat("[::]:", address().port()));
  ExpectFirstGateHasAllClients(address());
}

TEST_P(SecondGateTest, BesideAWildcardFailsAndTakesNothing) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"LISTENER_COUNT", absl::StrCat(GetParam().first)},
             {"PROXY_ADDR", "[::]:0"}});
  const SocketAddress loopback = SocketAddress::Ipv4Loopback(address().port());
  ExpectSecondGateFails(loopback.ToString());
  ExpectSecondGateFails(address().ToString());
  ExpectFirstGateHasAllClients(loopback);
}

TEST_F(ProcessTest, AnAddressThatIsNotOfThisMachineEndsWithStatusOne) {
  GateProcessOptions options;
  options.environment = {{"PROXY_ADDR", "192.0.2.77:1234"},
                         {"ADDRESS_WAIT_SECS", "0"},
                         {"BACKEND_ADDR", "127.0.0.1:9"}};
  const Outcome outcome = RunToEnd(options);
  EXPECT_EQ(outcome.status, 1) << outcome.output;
  EXPECT_TRUE(absl::StrContains(outcome.output, "192.0.2.77:1234"))
      << outcome.output;
}

class StopTest : public ProcessTest, public ::testing::WithParamInterface<int> {
 protected:
  // A clean stop: in time, with status 0, and by itself and not by the
  // deadline that main() sets for the case that all else fails.
  void ExpectCleanStop() {
    absl::StatusOr<ExitResult> result = gate().Terminate(GetParam());
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->status, 0) << gate().log();
    EXPECT_LT(result->duration, kStopTimeMax);
    if (kSlowness == 1) {
      EXPECT_FALSE(absl::StrContains(gate().log(), "shutdown timed out"))
          << gate().log();
    }
  }
  // The gate has ended: nothing is left to stop.
  void TearDown() override {}
};

INSTANTIATE_TEST_SUITE_P(Signals, StopTest, ::testing::Values(SIGTERM, SIGINT),
                         [](const ::testing::TestParamInfo<int>& signal) {
                           return signal.param == SIGTERM ? "Terminate"
                                                          : "Interrupt";
                         });

TEST_P(StopTest, WhileNothingHappens) {
  StartGate();
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  ExpectCleanStop();
}

TEST_P(StopTest, WhileRedisHangs) {
  StartGate({{"REDIS_TIMEOUT_MS", "30000"}});
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  redis().Pause();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ExpectCleanStop();
}

TEST_P(StopTest, WhileRedisIsAway) {
  RedisServer never_started;
  StartGate({{"REDIS_ADDR", never_started.tcp_address()}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ExpectCleanStop();
}

TEST_P(StopTest, WhileARedisAcceptsAndNeverAnswers) {
  redis().Pause();
  StartGate({{"REDIS_TIMEOUT_MS", "30000"}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ExpectCleanStop();
}

TEST_P(StopTest, UnderTraffic) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"LISTENER_COUNT", "2"}});
  std::vector<LoopbackPeer> clients(20);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
  }
  std::atomic<bool> stopping{false};
  std::thread traffic([&] {
    while (!stopping) {
      for (LoopbackPeer& client : clients) {
        client.Send(address(), "more").IgnoreError();
        client.TryReceive().IgnoreError();
      }
    }
  });
  ASSERT_TRUE(lobby.AwaitReceived(1000));
  ExpectCleanStop();
  stopping = true;
  traffic.join();
}

TEST_P(StopTest, WhileNobodyReadsTheLog) {
  EchoBackend lobby("lobby");
  StartGate({{"LOG_LEVEL", "debug"}});
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  gate().HoldLog();
  // Something to log: no backend, a bad event, a connection that is lost.
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  Publish("nonsense");
  ASSERT_TRUE(redis().Command({"CLIENT", "KILL", "TYPE", "pubsub"}).ok());
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 100));
  ExpectCleanStop();
}

TEST_P(StopTest, MoreThanOnce) {
  StartGate();
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  // The orchestrator is impatient.
  for (int i = 0; i < 5; ++i) gate().Signal(GetParam());
  ExpectCleanStop();
}

// A gate that drains, with one live session.
class DrainTest : public ProcessTest {
 protected:
  void StartDraining(std::map<std::string, std::string> environment) {
    SetBackend(lobby_);
    StartGate(std::move(environment));
    ASSERT_TRUE(IsServedBy(&player_, address(), "lobby"));
    gate().Signal(SIGTERM);
    ASSERT_TRUE(gate().AwaitLog("draining: "));
  }

  void ExpectEnd() {
    absl::StatusOr<ExitResult> result = gate().AwaitExit();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->status, 0) << gate().log();
    EXPECT_FALSE(absl::StrContains(gate().log(), "shutdown timed out"))
        << gate().log();
  }
  bool LogHas(absl::string_view text) {
    return absl::StrContains(gate().log(), text);
  }

  // The gate has ended: nothing is left to stop.
  void TearDown() override {}

  EchoBackend lobby_{"lobby"};
  LoopbackPeer player_;
};

TEST_F(DrainTest, LiveSessionsGoOnUntilTheyEndAndNewClientsAreRefused) {
  StartDraining({{"DRAIN_TIMEOUT_SECS", "86400"},
                 {"SESSION_IDLE_TIMEOUT_SECS", "6"},
                 {"UNCONFIRMED_TIMEOUT_SECS", "6"}});
  EXPECT_TRUE(IsServedBy(&player_, address(), "lobby", 20));
  LoopbackPeer newcomer;
  ASSERT_TRUE(newcomer.Send(address(), "hello").ok());
  EXPECT_TRUE(IsServedBy(&player_, address(), "lobby", 20));
  ExpectEnd();
  EXPECT_TRUE(LogHas("drained: 0 live sessions left")) << gate().log();
  EXPECT_TRUE(LogHas("draining 1")) << gate().log();
  EXPECT_EQ(lobby_.sources().size(), 1u);
}

TEST_F(DrainTest, ASecondSignalStopsNow) {
  StartDraining({{"DRAIN_TIMEOUT_SECS", "86400"}});
  EXPECT_TRUE(IsServedBy(&player_, address(), "lobby"));
  absl::StatusOr<ExitResult> result = gate().Terminate(SIGINT);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status, 0) << gate().log();
  EXPECT_LT(result->duration, kStopTimeMax);
  EXPECT_TRUE(LogHas("drained: 1 live sessions left")) << gate().log();
}

TEST_F(DrainTest, TheAdminEndpointIsNotReady) {
  StartDraining(
      {{"DRAIN_TIMEOUT_SECS", "86400"}, {"ADMIN_ADDR", "127.0.0.1:0"}});
  const std::string log = gate().log();
  const std::string before = "admin endpoint: http://";
  const size_t begin = log.find(before) + before.size();
  const absl::StatusOr<SocketAddress> admin =
      SocketAddress::Parse(log.substr(begin, log.find('/', begin) - begin));
  ASSERT_TRUE(admin.ok()) << log;
  const absl::StatusOr<HttpReply> reply = HttpGet(*admin, "/readyz");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 503);
  EXPECT_TRUE(absl::StrContains(reply->body, "draining"));
  gate().Signal(SIGTERM);
  ExpectEnd();
}

TEST_F(DrainTest, TheTimeOutEndsIt) {
  StartDraining({{"DRAIN_TIMEOUT_SECS", "1"}});
  ExpectEnd();
  EXPECT_TRUE(LogHas("drained: 1 live sessions left")) << gate().log();
}

// Runs the gate as systemd does, with a NOTIFY_SOCKET and one bound socket.
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

TEST(ServiceManagerTest, ServesOnAGivenSocketAndReports) {
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
  std::string told;
  const auto is_told = [&](absl::string_view text) {
    return AwaitTrue([&] {
      char buffer[4096];
      ssize_t size;
      while ((size = ::recv(notify.get(), buffer, sizeof(buffer),
                            MSG_DONTWAIT)) > 0) {
        absl::StrAppend(&told, absl::string_view(buffer, size), "\n");
      }
      return absl::StrContains(told, text);
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
  ASSERT_TRUE(is_told("READY=1\nSTATUS=listening on 127.0.0.1:"))
      << (*gate)->output();
  EXPECT_TRUE(is_told("WATCHDOG=1\n"));
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
      is_told("STOPPING=1\nEXTEND_TIMEOUT_USEC=86410000000\n"
              "STATUS=draining\n"));
  ASSERT_TRUE((*gate)->AwaitOutput("draining: "));
  absl::StatusOr<ExitResult> result = (*gate)->SignalAndAwaitExit(SIGTERM);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status, 0) << (*gate)->output();
  EXPECT_LT(result->duration, kStopTimeMax);
}

using StopInProcessTest = InProcessGateTest;

TEST_F(StopInProcessTest, WhileTheNameServerHangs) {
  // Takes questions, and answers none.
  LoopbackPeer name_server;
  options_.lookup.dns_servers = name_server.address().ToString();
  SetBackendText("lobby.example:19132");
  StartInProcess();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  ASSERT_TRUE(name_server.Receive().ok());
  EXPECT_EQ(in_process().stats().sessions_pending, 1u);
  // TearDown measures the stop.
}

TEST_F(StopInProcessTest, LiveSessionsDoNotNoticeThatTheNameServerHangs) {
  EchoBackend lobby("lobby");
  LoopbackPeer name_server;
  options_.lookup.dns_servers = name_server.address().ToString();
  SetBackend(lobby);
  StartInProcess();
  LoopbackPeer player;
  ASSERT_TRUE(IsServedBy(&player, in_process().address(), "lobby"));
  SetBackendText("lobby.example:19132");
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  ASSERT_TRUE(name_server.Receive().ok());
  EXPECT_TRUE(IsServedBy(&player, in_process().address(), "lobby", 500));
  EXPECT_EQ(in_process().stats().sessions_pending, 1u);
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kResolveTimedOut) == 1;
  })) << Describe(in_process().stats());
}

// A reload.

class ReloadTest : public ::testing::Test {
 protected:
  void Start(const std::string& dot_env) {
    GateProcessOptions options;
    options.environment = {{"BACKEND_ADDR", backend_.address().ToString()}};
    options.dot_env = dot_env;
    gate_ = std::make_unique<GateProcess>(GateBinary(), options);
    const absl::Status started = gate_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }
  // The line that says what the reload has done.
  bool Reload(const std::string& dot_env, absl::string_view line) {
    const size_t before = gate_->log().size();
    gate_->directory().WriteFile(".env", dot_env);
    gate_->Signal(SIGHUP);
    return gate_->AwaitLog(line, kAwaitTimeout, before);
  }

  EchoBackend backend_{"echo"};
  std::unique_ptr<GateProcess> gate_;
};

TEST_F(ReloadTest, AppliesWhatCanChangeAndNamesWhatNeedsARestart) {
  Start("DENY_CIDRS=127.0.0.0/8\n");
  LoopbackPeer client;
  EXPECT_FALSE(client.Ask(gate_->address(), "x", absl::Milliseconds(100)).ok());
  ASSERT_TRUE(Reload("BATCH_SIZE=32\nMAX_SESSIONS_PER_IP=5\nQUEUE_SIZ=1\n",
                     "info reload: changed DENY_CIDRS, MAX_SESSIONS_PER_IP; "
                     "restart required for BATCH_SIZE\n"))
      << gate_->log();
  EXPECT_TRUE(absl::StrContains(gate_->log(), "QUEUE_SIZ")) << gate_->log();
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "echo"));
  EXPECT_EQ(gate_->Terminate()->status, 0);
}

TEST_F(ReloadTest, AWrongSettingLeavesAllAsItWas) {
  Start("");
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "echo"));
  ASSERT_TRUE(Reload("DENY_CIDRS=127.0.0.0/8\nMAX_SESSIONS=many\n",
                     "error reload failed, all settings unchanged: "
                     "MAX_SESSIONS=\"many\" (.env"))
      << gate_->log();
  LoopbackPeer other;
  EXPECT_TRUE(IsServedBy(&other, gate_->address(), "echo"));
  ASSERT_TRUE(Reload("", "info reload: nothing changed\n")) << gate_->log();
  EXPECT_EQ(gate_->Terminate()->status, 0);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
