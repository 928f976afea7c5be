#include "cli/reload.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "cli/gateway.h"
#include "cli/settings/table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A Proxy that is composed but not started, with the settings of a `.env`.
class ReloadTest : public ::testing::Test {
 protected:
  ReloadTest() {
    sources_.environment =
        [](const std::string& name) -> absl::optional<std::string> {
      if (name == "PROXY_ADDR") return "127.0.0.1:0";
      if (name == "BACKEND_ADDR") return "127.0.0.1:9";
      return absl::nullopt;
    };
    Write("");
  }
  ~ReloadTest() override { std::fclose(log_); }

  void Write(const std::string& dotenv) {
    sources_.dotenv_path = directory_.WriteFile("test.env", dotenv);
  }

  void Start() {
    const absl::StatusOr<CommandLine> running = ParseCommandLine(sources_);
    ASSERT_TRUE(running.ok()) << running.status();
    absl::StatusOr<std::unique_ptr<Proxy>> proxy = Proxy::Create(
        running->settings.proxy, {std::make_shared<StaticBackendResolver>(
                                     SocketAddress::Ipv4Loopback(9))});
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
    Reloader::Parts parts;
    parts.reload_names = [this] { ++name_reloads_; };
    parts.apply = [this](const Settings& settings) {
      backend_port_ = settings.nethernet_backend_port;
      return apply_status_;
    };
    reloader_ =
        std::make_unique<Reloader>(sources_, *running, ValidateSettings,
                                   std::move(parts), proxy_.get(), &logger_);
  }

  // What a reload of this `.env` says.
  std::string Reload(const std::string& dotenv) {
    Write(dotenv);
    const absl::StatusOr<std::string> done = reloader_->Reload();
    return done.ok() ? *done : std::string(done.status().message());
  }

  std::string Log() {
    std::string text(1 << 16, 0);
    text.resize(pread(fileno(log_), text.data(), text.size(), 0));
    return text;
  }

  test::TemporaryDirectory directory_;
  std::FILE* const log_ = std::tmpfile();
  Logger logger_{LogSeverity::kInfo, LogFormat::kText, fileno(log_)};
  SettingSources sources_;
  std::unique_ptr<Proxy> proxy_;
  std::unique_ptr<Reloader> reloader_;
  int name_reloads_ = 0;
  int backend_port_ = -1;
  absl::Status apply_status_;
};

TEST_F(ReloadTest, AppliesLiveSettings) {
  Write("MAX_SESSIONS=50\n");
  Start();
  EXPECT_EQ(proxy_->max_sessions(), 50);
  EXPECT_EQ(Reload("MAX_SESSIONS=60\n"), "reload: changed MAX_SESSIONS");
  EXPECT_EQ(proxy_->max_sessions(), 60);
  EXPECT_THAT(Log(), HasSubstr("info reload: changed MAX_SESSIONS\n"));
  // Also back to the default.
  EXPECT_EQ(Reload(""), "reload: changed MAX_SESSIONS");
  EXPECT_GT(proxy_->max_sessions(), 60);
}

TEST_F(ReloadTest, NamesTheSettingsThatRequireARestart) {
  Start();
  EXPECT_EQ(Reload("BATCH_SIZE=32\nMAX_SESSIONS=60\n"),
            "reload: changed MAX_SESSIONS; restart required for BATCH_SIZE");
  // As long as they differ from what the process runs with.
  EXPECT_EQ(Reload("BATCH_SIZE=32\nMAX_SESSIONS=60\n"),
            "reload: nothing changed; restart required for BATCH_SIZE");
  EXPECT_EQ(Reload("MAX_SESSIONS=60\n"), "reload: nothing changed");
}

// Each setting is either applied or named, as the table says.
TEST_F(ReloadTest, TreatsEverySettingAsTheTableSays) {
  Start();
  for (const Setting& setting : SettingTable()) {
    // Given on a level above `.env`, or read with another file or setting.
    if (absl::StartsWith(setting.variable, "REDIS_SENTINEL") ||
        setting.variable == "SESSION_STORE" || setting.variable == "STANDBY" ||
        setting.variable == "SESSION_FORWARD" ||
        setting.variable == "PROXY_ADDR" ||
        setting.variable == "BACKEND_ADDR" || setting.variable == "LOG_LEVEL" ||
        absl::string_view(setting.variable).find("_FILE") !=
            absl::string_view::npos) {
      continue;
    }
    std::string value = setting.default_text;
    for (const char* candidate :
         {"7", "70000", "off", "all", "json", "clear", "on", "auto", "fail",
          "10.0.0.0/8", "127.0.0.1", "127.0.0.1:99", "0123456789abcdef", "{}",
          "redis://127.0.0.1:99"}) {
      Settings settings;
      if (candidate != setting.default_text &&
          setting.apply(candidate, &settings)) {
        value = candidate;
        break;
      }
    }
    ASSERT_NE(value, setting.default_text) << setting.variable;
    EXPECT_EQ(Reload(absl::StrCat(setting.variable, "=", value, "\n")),
              setting.is_live
                  ? absl::StrCat("reload: changed ", setting.variable)
                  : absl::StrCat("reload: nothing changed; restart required "
                                 "for ",
                                 setting.variable));
    EXPECT_THAT(Reload(""),
                StartsWith(setting.is_live ? "reload: changed"
                                           : "reload: nothing changed"));
  }
}

TEST_F(ReloadTest, NamesTheSettingsOfSentinelWhichNeedEachOther) {
  Start();
  EXPECT_THAT(
      Reload("REDIS_SENTINELS=a:1\nREDIS_SENTINEL_MASTER=m\n"
             "REDIS_SENTINEL_USERNAME=u\nREDIS_SENTINEL_PASSWORD=p\n"),
      ::testing::AllOf(
          StartsWith("reload: nothing changed; restart required for"),
          HasSubstr("REDIS_SENTINELS"), HasSubstr("REDIS_SENTINEL_MASTER"),
          HasSubstr("REDIS_SENTINEL_USERNAME"),
          HasSubstr("REDIS_SENTINEL_PASSWORD")));
}

TEST_F(ReloadTest, AnInvalidSettingChangesNothing) {
  Write("MAX_SESSIONS=50\n");
  Start();
  EXPECT_THAT(Reload("MAX_SESSIONS=60\nPENDING_CLIENTS_MAX=0\n"),
              HasSubstr("PENDING_CLIENTS_MAX=\"0\""));
  EXPECT_EQ(proxy_->max_sessions(), 50);
  EXPECT_THAT(Log(), HasSubstr("error reload failed, all settings unchanged: "
                               "PENDING_CLIENTS_MAX=\"0\""));
  EXPECT_EQ(Reload("MAX_SESSIONS=50\n"), "reload: nothing changed");
}

TEST_F(ReloadTest, ChangesTheLogLevel) {
  Start();
  EXPECT_EQ(Reload("LOG_LEVEL=error\n"), "reload: changed LOG_LEVEL");
  logger_.Log(LogSeverity::kInfo, "hidden");
  EXPECT_THAT(Log(), Not(HasSubstr("hidden")));
}

TEST_F(ReloadTest, AppliesWhatOtherPartsHaveLive) {
  Start();
  EXPECT_EQ(Reload("NETHERNET_BACKEND_PORT=19132\n"),
            "reload: changed NETHERNET_BACKEND_PORT");
  EXPECT_EQ(backend_port_, 19132);
  apply_status_ = absl::InvalidArgumentError("NETHERNET_CERTIFICATE_FILE: no");
  EXPECT_EQ(Reload("MAX_SESSIONS=50\n"),
            "reload: changed MAX_SESSIONS, NETHERNET_BACKEND_PORT; failed: "
            "NETHERNET_CERTIFICATE_FILE: no");
  EXPECT_EQ(backend_port_, 0);
  EXPECT_THAT(Log(), HasSubstr("error reload: NETHERNET_CERTIFICATE_FILE: no"));
  backend_port_ = -1;
  EXPECT_THAT(Reload("NETHERNET_BACKEND_PORT=x\n"),
              HasSubstr("NETHERNET_BACKEND_PORT"));
  EXPECT_EQ(backend_port_, -1);
}

TEST_F(ReloadTest, ReadsNamesAgainEvenIfASettingIsInvalid) {
  Start();
  Reload("");
  Reload("MAX_SESSIONS=many\n");
  EXPECT_EQ(name_reloads_, 2);
}

TEST_F(ReloadTest, WarnsOfUnknownSettingsAndOfACappedLimit) {
  Start();
  Reload("QUEUE_SIZ=1\nMAX_SESSIONS=1000000000\n");
  EXPECT_THAT(Log(), HasSubstr("QUEUE_SIZ: unknown setting, ignored"));
  EXPECT_THAT(Log(), HasSubstr("MAX_SESSIONS=1000000000 is capped at "));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
