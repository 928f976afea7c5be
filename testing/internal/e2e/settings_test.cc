// The settings, as the program takes them from flags, environment and .env.
#include <cctype>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/support/certificate_authority.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

// The IP address that the gateway listens on with these settings. Each source
// of settings names another one.
std::string ListenIp(GateProcessOptions options) {
  options.environment["BACKEND_ADDR"] = "127.0.0.1:9";
  GateProcess gate(GateBinary(), std::move(options));
  absl::Status started = gate.Start();
  if (!started.ok()) return started.ToString();
  return gate.address().IpToString();
}

TEST(SettingsTest, FlagsOverrideTheEnvironmentWhichOverridesDotEnv) {
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

TEST(SettingsTest, NeedsNoSetting) {
  GateProcessOptions options;
  options.flags = {"--check"};
  const Outcome outcome = RunToEnd(options);
  EXPECT_EQ(outcome.status, 0) << outcome.output;
}

TEST(SettingsTest, ChecksTheFilesOfCertificates) {
  TemporaryDirectory directory;
  const std::string no_pem = directory.WriteFile("no.pem", "no certificate");
  const auto check = [](std::vector<std::string> flags) {
    flags.push_back("--check");
    return RunWithFlags(flags);
  };
  for (const std::string& file : {no_pem, std::string("/no/such/file")}) {
    const Outcome redis =
        check({"--redis-tls=on", "--redis-tls-ca-file=" + file});
    EXPECT_EQ(redis.status, 2) << redis.output;
    EXPECT_TRUE(absl::StrContains(
        redis.output, "REDIS_TLS: TLS: authorities \"" + file + "\""))
        << redis.output;
    const Outcome join = check({"--nethernet-addr=127.0.0.1:0",
                                "--nethernet-certificate-file=" + file,
                                "--nethernet-private-key-file=" + file});
    EXPECT_EQ(join.status, 2) << join.output;
    EXPECT_TRUE(
        absl::StrContains(join.output, "NETHERNET_CERTIFICATE_FILE " + file))
        << join.output;
  }
  CertificateAuthority authority;
  const CertificateFiles files = authority.Issue("gate", "DNS:gate");
  const Outcome good =
      check({"--redis-tls=on", "--redis-tls-ca-file=" + authority.file(),
             "--nethernet-addr=127.0.0.1:0",
             "--nethernet-certificate-file=" + files.certificate_file,
             "--nethernet-private-key-file=" + files.key_file});
  EXPECT_EQ(good.status, 0) << good.output;
}

TEST(SettingsTest, SaysWhichPlaceholdersAKeyMayHave) {
  GateProcessOptions options;
  options.flags = {"--check", "--redis-backend-key=b:{client_ip} b:{client}"};
  const Outcome outcome = RunToEnd(options);
  EXPECT_EQ(outcome.status, 2) << outcome.output;
  EXPECT_NE(
      outcome.output.find("REDIS_BACKEND_KEY: the placeholders are "
                          "{client_ip}, {client_net}, {client_port}, "
                          "{listen_port}, {stun_ufrag} and {prefix:N}, a brace "
                          "itself is {{ or }}; unknown is \"client\""),
      std::string::npos)
      << outcome.output;
}

TEST(SettingsTest, AcceptsTheBoundsOfEachRange) {
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

TEST(SettingsTest, WarnsOfUnknownNamesInDotEnv) {
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
  add("NETHERNET_ADDR", {"on", "127.0.0.1", "localhost:1", ":65536"});
  add("NETHERNET_PUBLIC_ADDRS", {"0.0.0.0", "host", "127.0.0.1:0"});
  add("NETHERNET_FORWARD_CLIENT", {"on", "proxy-v3"});
  add("NETHERNET_TRUSTED_PROXIES", {"10.0.0.1/8", "x"});
  add("NETHERNET_STATUS", {"text", "[]", "{"});
  add("REDIS_PASSWORD_FILE", {"/no/such/file", "/"});
  return settings;
}

INSTANTIATE_TEST_SUITE_P(
    Settings, BadSettingTest, ::testing::ValuesIn(BadSettings()),
    [](const ::testing::TestParamInfo<BadSettingTest::ParamType>& setting) {
      return absl::StrCat(setting.param.first, setting.index);
    });

TEST_P(BadSettingTest, ExitsWithStatusTwoAndOneLineThatNamesTheSetting) {
  const auto& [name, value] = GetParam();
  GateProcessOptions by_environment;
  by_environment.environment = {{name, value}};
  GateProcessOptions by_flag;
  by_flag.flags = {absl::StrCat(FlagOf(name), "=", value)};
  GateProcessOptions by_dot_env;
  by_dot_env.dot_env = absl::StrCat(name, "='", value, "'\n");
  for (GateProcessOptions* options : {&by_environment, &by_flag, &by_dot_env}) {
    // If the value is accepted after all, the gateway must not serve.
    options->flags.push_back("--check");
    const Outcome outcome = RunToEnd(*options);
    EXPECT_EQ(outcome.status, 2) << outcome.output;
    EXPECT_EQ(LineCount(outcome.output), 1) << outcome.output;
    EXPECT_TRUE(absl::StrContains(outcome.output, name)) << outcome.output;
    EXPECT_TRUE(absl::StrContains(outcome.output, value)) << outcome.output;
  }
}

// A URL may contain a password.
TEST(SettingsTest, HidesUrlsInErrors) {
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

TEST(SettingsTest, ExitsWithStatusTwoForAnUnknownFlag) {
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

}  // namespace
}  // namespace test
}  // namespace udpgate
