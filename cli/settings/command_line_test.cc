#include "cli/settings/command_line.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/settings/gateway_id.h"
#include "cli/settings/table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kSecret[] = "hunter2-very-secret";

class CommandLineTest : public ::testing::Test {
 protected:
  absl::StatusOr<CommandLine> Parse() {
    SettingSources sources;
    sources.arguments = arguments_;
    sources.environment =
        [this](const std::string& name) -> absl::optional<std::string> {
      const auto found = environment_.find(name);
      if (found == environment_.end()) return absl::nullopt;
      return found->second;
    };
    sources.dotenv_path = dotenv_path_;
    return ParseCommandLine(sources);
  }

  Settings ParseOk() {
    absl::StatusOr<CommandLine> command_line = Parse();
    EXPECT_TRUE(command_line.ok()) << command_line.status();
    if (!command_line.ok()) return Settings();
    EXPECT_THAT(command_line->warnings, IsEmpty());
    return command_line->settings;
  }

  // The one line of the error.
  std::string ParseError() {
    const absl::StatusOr<CommandLine> command_line = Parse();
    EXPECT_FALSE(command_line.ok());
    const std::string text(command_line.status().message());
    EXPECT_THAT(text, Not(HasSubstr("\n")));
    EXPECT_THAT(text, Not(HasSubstr(kSecret)));
    return text;
  }

  void WriteDotenv(const std::string& content) {
    dotenv_path_ = directory_.WriteFile("test.env", content);
  }

  test::TemporaryDirectory directory_;
  std::vector<std::string> arguments_;
  std::map<std::string, std::string> environment_;
  std::string dotenv_path_ = absl::StrCat(directory_.path(), "/none.env");
};

TEST_F(CommandLineTest, DefaultsAreThoseOfTheContract) {
  const Settings settings = ParseOk();
  EXPECT_EQ(settings.proxy.listen_address.ToString(), "0.0.0.0:19132");
  EXPECT_FALSE(settings.listen_on_all_addresses);
  EXPECT_EQ(settings.redis_address, "127.0.0.1:6379");
  EXPECT_EQ(settings.gateway_id, DefaultGatewayId());
  EXPECT_EQ(settings.redis_username, "");
  EXPECT_EQ(settings.redis_password, "");
  EXPECT_EQ(settings.redis_database, 0);
  EXPECT_EQ(settings.redis_backend_key, "udp_gate:backend");
  EXPECT_EQ(settings.redis_disconnect_channel, "udp_gate:disconnect");
  EXPECT_EQ(settings.proxy.limits.session_idle_timeout, absl::Seconds(60));
  EXPECT_EQ(settings.proxy.worker_count, ProxyOptions::DefaultWorkerCount());
  EXPECT_EQ(settings.proxy.queue_size_datagrams, 4096);
  EXPECT_EQ(settings.proxy.listener_count, 1);
  EXPECT_EQ(settings.proxy.batch_size, 64);
  EXPECT_EQ(settings.backend_address, "");
  EXPECT_EQ(settings.proxy.limits.max_sessions, 0);
  EXPECT_EQ(settings.proxy.limits.backend_refusals_max, 3);
  EXPECT_EQ(settings.proxy.limits.resolve_timeout, absl::Seconds(3));
  EXPECT_EQ(settings.redis_timeout, absl::Seconds(1));
  EXPECT_EQ(settings.proxy.limits.pending_datagrams_max, 16);
  EXPECT_EQ(settings.proxy.receive_buffer_bytes, 8 << 20);
  EXPECT_EQ(settings.log_level, LogSeverity::kInfo);
}

TEST_F(CommandLineTest, GatewayHasTheIdThatItIsGiven) {
  arguments_ = {"--gateway-id", "gateway-1"};
  EXPECT_EQ(ParseOk().gateway_id, "gateway-1");
  arguments_ = {"--gateway-id", "gateway 1"};
  EXPECT_THAT(ParseError(),
              HasSubstr("GATEWAY_ID=\"gateway 1\" (--gateway-id): allowed: 1 "
                        "to 64 printable ASCII characters without spaces"));
}

TEST_F(CommandLineTest, FlagBeatsEnvironmentBeatsDotenvBeatsDefault) {
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 4096);
  WriteDotenv("QUEUE_SIZE=1\n");
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 1);
  environment_["QUEUE_SIZE"] = "2";
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 2);
  arguments_ = {"--queue-size", "3"};
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 3);
}

TEST_F(CommandLineTest, EmptyMeansNotSetOnEveryLevel) {
  WriteDotenv("QUEUE_SIZE=1\n");
  environment_["QUEUE_SIZE"] = "2";
  arguments_ = {"--queue-size="};
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 2);
  arguments_ = {"--queue-size", ""};
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 2);
  environment_["QUEUE_SIZE"] = "";
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 1);
  WriteDotenv("QUEUE_SIZE=\nREDIS_PASSWORD=''\n");
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 4096);
  arguments_.clear();
  for (const Setting& setting : SettingTable()) {
    environment_[setting.variable] = "";
    if (!setting.is_secret) arguments_.push_back(setting.flag() + "=");
  }
  EXPECT_EQ(ParseOk().redis_backend_key, "udp_gate:backend");
}

TEST_F(CommandLineTest, EmptyFlagDoesNotEatTheNextArgument) {
  arguments_ = {"--backend-addr=", "--queue-size", "7", "--batch-size=8"};
  const Settings settings = ParseOk();
  EXPECT_EQ(settings.backend_address, "");
  EXPECT_EQ(settings.proxy.queue_size_datagrams, 7);
  EXPECT_EQ(settings.proxy.batch_size, 8);
}

TEST_F(CommandLineTest, LastFlagAndLastLineHold) {
  arguments_ = {"--queue-size", "3", "--queue-size=4"};
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 4);
  arguments_ = {"--queue-size", "3", "--queue-size="};
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 4096);
  arguments_.clear();
  WriteDotenv("QUEUE_SIZE=1\nQUEUE_SIZE=2\n");
  EXPECT_EQ(ParseOk().proxy.queue_size_datagrams, 2);
}

TEST_F(CommandLineTest, EverySettingComesByFlagEnvironmentAndDotenv) {
  for (const Setting& setting : SettingTable()) {
    SCOPED_TRACE(setting.variable);
    // Each refuses this as a value, or takes it as text. So a refusal shows
    // that it arrived.
    const std::string bad(5000, 'x');
    arguments_.clear();
    environment_.clear();
    environment_[setting.variable] = bad;
    EXPECT_THAT(ParseError(),
                AllOf(StartsWith(setting.variable + "="),
                      HasSubstr("(environment)"), HasSubstr(setting.allowed)));
    environment_.clear();
    WriteDotenv(absl::StrCat("\n", setting.variable, "=", bad, "\n"));
    EXPECT_THAT(ParseError(),
                AllOf(StartsWith(setting.variable + "="),
                      HasSubstr("test.env:2"), HasSubstr(setting.allowed)));
    WriteDotenv("");
    if (setting.is_secret) continue;
    arguments_ = {absl::StrCat(setting.flag(), "=", bad)};
    EXPECT_THAT(ParseError(),
                AllOf(StartsWith(setting.variable + "="),
                      HasSubstr(setting.flag()), HasSubstr(setting.allowed)));
    arguments_ = {setting.flag(), bad};
    EXPECT_THAT(ParseError(), StartsWith(setting.variable + "="));
  }
}

TEST_F(CommandLineTest, ErrorQuotesTheValueOnOneLineAndBounded) {
  arguments_ = {"--worker-count=-1"};
  EXPECT_EQ(ParseError(),
            "WORKER_COUNT=\"-1\" (--worker-count): allowed: an integer from 0 "
            "to 256");
  arguments_ = {"--worker-count", "-1"};
  EXPECT_THAT(ParseError(), HasSubstr("WORKER_COUNT=\"-1\""));
  arguments_ = {"--log-level", "a\nb\x1b[31m"};
  EXPECT_THAT(ParseError(), HasSubstr("LOG_LEVEL=\"a\\nb\\x1b[31m\""));
  arguments_ = {"--log-level", std::string(100000, 'x')};
  EXPECT_LT(ParseError().size(), 300u);
}

TEST_F(CommandLineTest, ValueInBracketsIsOneValue) {
  arguments_ = {"--proxy-addr", "[::]:0", "--redis-backend-key", "[a,b]"};
  const Settings settings = ParseOk();
  EXPECT_EQ(settings.proxy.listen_address.ToString(), "[::]:0");
  EXPECT_EQ(settings.redis_backend_key, "[a,b]");
}

TEST_F(CommandLineTest, UnknownFlagsAndArguments) {
  arguments_ = {"--frobnicate"};
  EXPECT_THAT(ParseError(), HasSubstr("unknown flag \"--frobnicate\""));
  arguments_ = {"--worker-cuont=3"};
  EXPECT_THAT(ParseError(), AllOf(HasSubstr("\"--worker-cuont\""),
                                  HasSubstr("did you mean --worker-count?"),
                                  Not(HasSubstr("allowed"))));
  arguments_ = {"-x"};
  EXPECT_THAT(ParseError(), HasSubstr("unknown flag \"-x\""));
  arguments_ = {"stray"};
  EXPECT_THAT(ParseError(), HasSubstr("unexpected argument \"stray\""));
  arguments_ = {""};
  EXPECT_THAT(ParseError(), HasSubstr("unexpected argument \"\""));
  arguments_ = {"--", "stray\n"};
  EXPECT_THAT(ParseError(), HasSubstr("unexpected argument \"stray\\n\""));
  arguments_ = {"--"};
  ParseOk();
  arguments_ = {"--worker-count"};
  EXPECT_EQ(ParseError(),
            "WORKER_COUNT (--worker-count): the value is missing; allowed: an "
            "integer from 0 to 256");
  for (const char* argument : {"--check=maybe", "--check=0", "--help=1"}) {
    arguments_ = {argument};
    EXPECT_THAT(ParseError(), HasSubstr("take no value")) << argument;
  }
}

TEST_F(CommandLineTest, TakeoverIsAFlagWithAPath) {
  arguments_ = {"--takeover=/run/a", "--takeover", "/run/b", "--check"};
  const absl::StatusOr<CommandLine> command_line = Parse();
  ASSERT_TRUE(command_line.ok()) << command_line.status();
  EXPECT_EQ(command_line->takeover_path, "/run/b");
  EXPECT_EQ(command_line->action, CommandLine::Action::kCheck);
  for (const char* argument : {"--takeover", "--takeover="}) {
    arguments_ = {argument};
    EXPECT_THAT(ParseError(), HasSubstr("--takeover: the value is missing"));
  }
}

TEST_F(CommandLineTest, PasswordHasNoFlagAndIsNotShown) {
  arguments_ = {absl::StrCat("--redis-password=", kSecret)};
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_PASSWORD has no flag"));
  arguments_ = {"--redis-password", kSecret};
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_PASSWORD has no flag"));
  arguments_ = {"--redis-pasword", kSecret};
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_PASSWORD has no flag"));
}

TEST_F(CommandLineTest, PasswordIsNotShownInAnyError) {
  environment_["REDIS_PASSWORD"] = kSecret + std::string(5000, 'x');
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_PASSWORD=(hidden)"));
  environment_.clear();
  environment_["REDIS_ADDR"] =
      absl::StrCat("redis://user:", kSecret, "@host:6379/0");
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_ADDR=\"redis://***\""));
  environment_["REDIS_ADDR"] = absl::StrCat("redis://:", kSecret);
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_ADDR=\"redis://***\""));
  environment_["REDIS_ADDR"] = absl::StrCat("user:", kSecret, "@host:6379");
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_ADDR=\"***@host:6379\""));
  environment_.clear();
  WriteDotenv(absl::StrCat("REDIS_PASSWORD='", kSecret, "\n"));
  EXPECT_THAT(ParseError(), HasSubstr("test.env:1: REDIS_PASSWORD: "));
  WriteDotenv(absl::StrCat("REDIS_PASSWORD ", kSecret, "\n"));
  EXPECT_THAT(ParseError(), HasSubstr("test.env:1: "));
}

TEST_F(CommandLineTest, Password) {
  environment_["REDIS_PASSWORD"] = kSecret;
  EXPECT_EQ(ParseOk().redis_password, kSecret);
}

TEST_F(CommandLineTest, TheUrlOfRedisFillsInWhatIsNotSet) {
  environment_["REDIS_URL"] =
      absl::StrCat("redis://gate:", kSecret, "@redis.internal:7000/3");
  Settings settings = ParseOk();
  EXPECT_EQ(settings.redis_address, "redis.internal:7000");
  EXPECT_EQ(settings.redis_username, "gate");
  EXPECT_EQ(settings.redis_password, kSecret);
  EXPECT_EQ(settings.redis_database, 3);
  // Each setting of its own wins.
  WriteDotenv("REDIS_DB=4\nREDIS_USERNAME=other\n");
  arguments_ = {"--redis-addr=[::1]:1", "--redis-password-file",
                directory_.WriteFile("password", "from the file")};
  settings = ParseOk();
  EXPECT_EQ(settings.redis_address, "[::1]:1");
  EXPECT_EQ(settings.redis_username, "other");
  EXPECT_EQ(settings.redis_password, "from the file");
  EXPECT_EQ(settings.redis_database, 4);
}

TEST_F(CommandLineTest, TheUrlOfRedisMayAskForTls) {
  environment_["REDIS_URL"] = "rediss://redis.internal";
  EXPECT_TRUE(ParseOk().redis_tls);
  arguments_ = {"--redis-tls=off"};
  EXPECT_FALSE(ParseOk().redis_tls);
  environment_["REDIS_URL"] = "redis://redis.internal";
  arguments_ = {"--redis-tls=on"};
  EXPECT_TRUE(ParseOk().redis_tls);
}

TEST_F(CommandLineTest, TlsOfRedisNeedsBothFilesAndItself) {
  arguments_ = {"--redis-tls=on", "--redis-tls-key-file=/k"};
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_TLS_KEY_FILE is set without "
                                      "REDIS_TLS_CERTIFICATE_FILE"));
  arguments_ = {"--redis-tls=on", "--redis-tls-certificate-file=/c"};
  EXPECT_THAT(ParseError(), HasSubstr("without REDIS_TLS_KEY_FILE"));
  arguments_.push_back("--redis-tls-key-file=/k");
  EXPECT_TRUE(ParseOk().redis_tls);
  // The operator believes that it is encrypted.
  arguments_ = {"--redis-tls-ca-file=/a"};
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_TLS is off"));
  arguments_ = {"--redis-tls=on", "--redis-addr=unix:/run/redis.sock"};
  EXPECT_THAT(ParseError(), HasSubstr("unix socket"));
}

TEST_F(CommandLineTest, SentinelNeedsItsMasterAndNoOtherAddressOfRedis) {
  arguments_ = {"--redis-sentinels=a:1,b:2"};
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_SENTINELS is set without "
                                      "REDIS_SENTINEL_MASTER"));
  arguments_ = {"--redis-sentinel-master=lobby"};
  EXPECT_THAT(ParseError(), HasSubstr("without REDIS_SENTINELS"));
  arguments_ = {"--redis-sentinel-username=u"};
  EXPECT_THAT(ParseError(), HasSubstr("without REDIS_SENTINELS; allowed: not "
                                      "set, or with REDIS_SENTINELS"));
  arguments_ = {"--redis-sentinels=a:1,b:2", "--redis-sentinel-master=lobby",
                "--redis-sentinel-username=u", "--redis-addr=127.0.0.1:6379"};
  environment_["REDIS_SENTINEL_PASSWORD"] = kSecret;
  EXPECT_THAT(ParseOk().redis_sentinels, ElementsAre("a:1", "b:2"));
  // The address of the URL is not used.
  environment_["REDIS_URL"] = absl::StrCat("rediss://u:", kSecret, "@host/3");
  const Settings with_url = ParseOk();
  EXPECT_EQ(with_url.redis_username, "u");
  EXPECT_EQ(with_url.redis_password, kSecret);
  EXPECT_EQ(with_url.redis_database, 3);
  EXPECT_TRUE(with_url.redis_tls);
  environment_["REDIS_URL"] = absl::StrCat("unix://:", kSecret, "@/run/redis");
  EXPECT_THAT(ParseError(),
              AllOf(HasSubstr("REDIS_URL names a unix socket, and "
                              "REDIS_SENTINELS is set"),
                    Not(HasSubstr(kSecret))));
  environment_.erase("REDIS_URL");
  arguments_.push_back("--redis-addr=host:6379");
  EXPECT_THAT(ParseError(),
              HasSubstr("REDIS_ADDR and REDIS_SENTINELS are both set"));
}

TEST_F(CommandLineTest, ThePasswordOfSentinelHasNoFlagAndIsNotShown) {
  arguments_ = {absl::StrCat("--redis-sentinel-password=", kSecret)};
  EXPECT_THAT(ParseError(), AllOf(HasSubstr("REDIS_SENTINEL_PASSWORD has no "
                                            "flag"),
                                  Not(HasSubstr(kSecret))));
  arguments_.clear();
  environment_["REDIS_SENTINEL_PASSWORD"] = kSecret + std::string(5000, 'x');
  EXPECT_THAT(ParseError(), HasSubstr("REDIS_SENTINEL_PASSWORD=(hidden)"));
}

TEST_F(CommandLineTest, TheUrlOfRedisHasNoFlagAndIsNotShown) {
  arguments_ = {absl::StrCat("--redis-url=redis://:", kSecret, "@host")};
  EXPECT_THAT(ParseError(),
              AllOf(HasSubstr("REDIS_URL has no flag"), HasSubstr("in .env")));
  EXPECT_THAT(ParseError(), Not(HasSubstr("_FILE")));
  arguments_.clear();
  environment_["REDIS_URL"] = absl::StrCat("redis://:", kSecret, "@host:0");
  EXPECT_THAT(ParseError(), StartsWith("REDIS_URL=(hidden) (environment)"));
  environment_.clear();
  WriteDotenv(absl::StrCat("REDIS_URL='redis://:", kSecret, "@host\n"));
  EXPECT_THAT(ParseError(), HasSubstr("test.env:1: REDIS_URL: "));
}

TEST_F(CommandLineTest, SentinelMayHaveAPasswordFile) {
  arguments_ = {"--redis-sentinels=a:1", "--redis-sentinel-master=lobby",
                "--redis-sentinel-password-file",
                directory_.WriteFile("sentinel", "from the file\n")};
  const Settings settings = ParseOk();
  EXPECT_EQ(settings.redis_sentinel_password, "from the file");
  EXPECT_EQ(settings.redis_password, "");
  environment_["REDIS_SENTINEL_PASSWORD"] = kSecret;
  EXPECT_THAT(ParseError(), AllOf(HasSubstr("REDIS_SENTINEL_PASSWORD_FILE"),
                                  HasSubstr("both")));
  environment_.clear();
  arguments_.erase(arguments_.begin(), arguments_.begin() + 2);
  EXPECT_THAT(ParseError(), HasSubstr("without REDIS_SENTINELS"));
}

TEST_F(CommandLineTest, PasswordFile) {
  const auto read = [this](absl::string_view content) {
    arguments_ = {"--redis-password-file",
                  directory_.WriteFile("password", content)};
    return ParseOk().redis_password;
  };
  EXPECT_EQ(read(kSecret), kSecret);
  EXPECT_EQ(read(absl::StrCat(kSecret, "\n")), kSecret);
  EXPECT_EQ(read(absl::StrCat(kSecret, "\r\n")), kSecret);
  EXPECT_EQ(read(absl::StrCat(" ", kSecret, " \n\n")),
            absl::StrCat(" ", kSecret, " \n"));
  EXPECT_EQ(read(std::string(4096, 'x') + "\n"), std::string(4096, 'x'));
}

TEST_F(CommandLineTest, BadPasswordFile) {
  const auto error = [this](absl::string_view content) {
    environment_["REDIS_PASSWORD_FILE"] =
        directory_.WriteFile("password", content);
    return ParseError();
  };
  EXPECT_THAT(error(""), HasSubstr("/password"));
  EXPECT_THAT(error("\n"), StartsWith("REDIS_PASSWORD_FILE="));
  EXPECT_THAT(error(kSecret + std::string(4096, 'x')), HasSubstr("/password"));
  EXPECT_THAT(error(kSecret + std::string(1 << 20, 'x')),
              HasSubstr("/password"));
  environment_["REDIS_PASSWORD_FILE"] = directory_.path();
  EXPECT_THAT(ParseError(), HasSubstr("directory"));
  environment_["REDIS_PASSWORD_FILE"] = directory_.path() + "/missing";
  EXPECT_THAT(ParseError(),
              AllOf(StartsWith("REDIS_PASSWORD_FILE="), HasSubstr("/missing"),
                    HasSubstr("; allowed: a readable file of 1 to 4096 ")));
}

TEST_F(CommandLineTest, TheAdminTokenMayBeInAFile) {
  const auto write = [this](absl::string_view content) {
    arguments_ = {"--admin-token-file", directory_.WriteFile("token", content)};
  };
  write("0123456789abcdef\n");
  EXPECT_EQ(ParseOk().admin_token, "0123456789abcdef");
  write("0123456789 abcdef");
  EXPECT_THAT(ParseError(), AllOf(StartsWith("ADMIN_TOKEN_FILE="),
                                  HasSubstr("does not contain a valid token")));
  write("short");
  EXPECT_THAT(ParseError(), HasSubstr("16 to 1024 printable"));
  write("0123456789abcdef\n");
  environment_["ADMIN_TOKEN"] = "fedcba9876543210";
  EXPECT_THAT(ParseError(), HasSubstr("both set"));
  arguments_ = {"--admin-token=0123456789abcdef"};
  EXPECT_THAT(ParseError(), AllOf(HasSubstr("ADMIN_TOKEN has no flag"),
                                  HasSubstr("ADMIN_TOKEN_FILE")));
}

TEST_F(CommandLineTest, PasswordAndPasswordFileAreAnError) {
  environment_["REDIS_PASSWORD"] = kSecret;
  arguments_ = {"--redis-password-file",
                directory_.WriteFile("password", kSecret)};
  EXPECT_THAT(ParseError(),
              AllOf(HasSubstr("REDIS_PASSWORD_FILE"), HasSubstr("both")));
}

TEST_F(CommandLineTest, BadDotenvIsAnError) {
  WriteDotenv("QUEUE_SIZE=1\nwhat\n");
  EXPECT_THAT(ParseError(), HasSubstr("test.env:2: "));
  dotenv_path_ = directory_.path();
  EXPECT_THAT(ParseError(), HasSubstr("cannot be read"));
}

TEST_F(CommandLineTest, UnknownNamesInDotenvAreWarnedAbout) {
  WriteDotenv(absl::StrCat("REDIS_PASWORD=", kSecret, "\n",
                           "HOME=/\nREDIS_CLUSTER=1\nworker_count=3\n"
                           "UDP_GATE_X=1\nCOMPOSE_PROJECT_NAME=x\n"));
  const absl::StatusOr<CommandLine> command_line = Parse();
  ASSERT_TRUE(command_line.ok()) << command_line.status();
  EXPECT_THAT(
      command_line->warnings,
      ElementsAre(
          AllOf(HasSubstr("test.env:1: REDIS_PASWORD"),
                HasSubstr("did you mean REDIS_PASSWORD?"),
                Not(HasSubstr(kSecret))),
          HasSubstr("test.env:3: REDIS_CLUSTER: unknown setting, ignored"),
          AllOf(HasSubstr("test.env:4: worker_count"),
                HasSubstr("did you mean WORKER_COUNT?")),
          HasSubstr("test.env:5: UDP_GATE_X")));
}

TEST_F(CommandLineTest, BackendIsNotTheGateItself) {
  using Addresses = std::pair<const char*, const char*>;
  for (const auto& [listen, backend] :
       std::vector<Addresses>{{"10.0.0.1:19132", "10.0.0.1:19132"},
                              {"[2001:db8::1]:1", "[2001:db8::1]:1"},
                              {"0.0.0.0:19132", "127.0.0.1:19132"},
                              {"[::]:19132", "127.0.0.2:19132"},
                              {"[::]:19132", "[::1]:19132"},
                              {":19132", "[::1]:19132"}}) {
    environment_ = {{"PROXY_ADDR", listen}, {"BACKEND_ADDR", backend}};
    EXPECT_THAT(
        ParseError(),
        AllOf(StartsWith(absl::StrCat("BACKEND_ADDR=\"", backend, "\"")),
              HasSubstr(absl::StrCat("PROXY_ADDR=", listen))));
  }
  for (const auto& [listen, backend] :
       std::vector<Addresses>{{"10.0.0.1:19132", "10.0.0.2:19132"},
                              {"10.0.0.1:19132", "10.0.0.1:19133"},
                              {"10.0.0.1:19132", "127.0.0.1:19132"},
                              {"0.0.0.0:19132", "10.0.0.1:19132"},
                              {"0.0.0.0:19132", "[::1]:19132"},
                              {"0.0.0.0:0", "127.0.0.1:19132"},
                              {"0.0.0.0:19132", "lobby:19132"}}) {
    environment_ = {{"PROXY_ADDR", listen}, {"BACKEND_ADDR", backend}};
    ParseOk();
  }
}

TEST_F(CommandLineTest, NetherNetIsOffWithoutASetting) {
  const Settings settings = ParseOk();
  EXPECT_FALSE(settings.nethernet_address.is_valid());
  EXPECT_EQ(settings.nethernet_forward_client,
            nethernet::ForwardClient::kXForwardedFor);
  EXPECT_EQ(settings.nethernet_joins_max, 10000);
  EXPECT_EQ(settings.nethernet_join_timeout, absl::Seconds(60));
  EXPECT_EQ(settings.redis_status_key, "");
  EXPECT_EQ(settings.redis_joins_key, "udp_gate:joins");
}

TEST_F(CommandLineTest, CertificateAndKeyComeTogether) {
  environment_["NETHERNET_CERTIFICATE_FILE"] = "/c";
  EXPECT_THAT(ParseError(),
              AllOf(StartsWith("NETHERNET_CERTIFICATE_FILE is set without"),
                    HasSubstr("allowed: both or neither")));
  environment_["NETHERNET_PRIVATE_KEY_FILE"] = "/k";
  EXPECT_EQ(ParseOk().nethernet_private_key_file, "/k");
  environment_.erase("NETHERNET_CERTIFICATE_FILE");
  EXPECT_THAT(ParseError(),
              StartsWith("NETHERNET_PRIVATE_KEY_FILE is set without"));
}

TEST_F(CommandLineTest, SignalingHasAnAddressOfItsOwn) {
  environment_["NETHERNET_ADDR"] = "127.0.0.1:19132";
  environment_["ADMIN_ADDR"] = "127.0.0.1:19132";
  EXPECT_THAT(ParseError(), AllOf(StartsWith("NETHERNET_ADDR=\"127.0.0.1:"),
                                  HasSubstr("ADMIN_ADDR")));
  // The kernel chooses two ports.
  environment_["NETHERNET_ADDR"] = "127.0.0.1:0";
  environment_["ADMIN_ADDR"] = "127.0.0.1:0";
  ParseOk();
}

TEST_F(CommandLineTest, TheSignalingOfTheBackendIsNotTheGatewaysOwn) {
  environment_["BACKEND_ADDR"] = "127.0.0.1:19133";
  for (const char* address : {"0.0.0.0:19132", "127.0.0.1:19132", ":19132"}) {
    environment_["NETHERNET_ADDR"] = address;
    environment_["NETHERNET_BACKEND_PORT"] = "19132";
    EXPECT_THAT(ParseError(), AllOf(StartsWith("NETHERNET_BACKEND_PORT: "),
                                    HasSubstr("NETHERNET_ADDR")));
    environment_["NETHERNET_BACKEND_PORT"] = "0";
    ParseOk();
  }
  environment_["BACKEND_ADDR"] = "192.0.2.1:19133";
  environment_["NETHERNET_BACKEND_PORT"] = "19132";
  ParseOk();
}

TEST_F(CommandLineTest, LooksLikeSetting) {
  for (const char* name :
       {"REDIS_HOST", "PROXY_PORT", "LOGLEVEL", "QUEUESIZE", "SESSION_TIMEOUT",
        "RECIEVE_BUFFER_BYTES", "MAX_SESSION"}) {
    EXPECT_TRUE(LooksLikeSetting(name)) << name;
  }
  for (const char* name : {"HOME", "PATH", "A", "", "NODE_ENV", "TZ"}) {
    EXPECT_FALSE(LooksLikeSetting(name)) << name;
  }
}

TEST_F(CommandLineTest, Actions) {
  const auto action = [this](std::vector<std::string> arguments) {
    arguments_ = std::move(arguments);
    const absl::StatusOr<CommandLine> command_line = Parse();
    EXPECT_TRUE(command_line.ok()) << command_line.status();
    return command_line.ok() ? command_line->action : CommandLine::Action::kRun;
  };
  EXPECT_EQ(action({}), CommandLine::Action::kRun);
  EXPECT_EQ(action({"--check"}), CommandLine::Action::kCheck);
  EXPECT_EQ(action({"--version"}), CommandLine::Action::kVersion);
  EXPECT_EQ(action({"-V"}), CommandLine::Action::kVersion);
  EXPECT_EQ(action({"--queue-size", "1", "-h"}), CommandLine::Action::kHelp);
  // Help helps also where something else is wrong.
  environment_["WORKER_COUNT"] = "many";
  EXPECT_EQ(action({"--help"}), CommandLine::Action::kHelp);
  arguments_ = {"--check"};
  EXPECT_THAT(ParseError(), StartsWith("WORKER_COUNT="));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
