#include "cli/settings/fleet_settings.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/settings/command_line.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class FleetSettingsTest : public ::testing::Test {
 protected:
  absl::StatusOr<CommandLine> Parse() {
    SettingSources sources;
    sources.environment =
        [this](const std::string& name) -> absl::optional<std::string> {
      const auto found = environment_.find(name);
      if (found == environment_.end()) return absl::nullopt;
      return found->second;
    };
    sources.dotenv_path = absl::StrCat(directory_.path(), "/none.env");
    return ParseCommandLine(sources);
  }

  // "" if the settings are valid.
  std::string Problem(std::map<std::string, std::string> environment) {
    environment_ = std::move(environment);
    return std::string(Parse().status().message());
  }

  test::TemporaryDirectory directory_;
  std::map<std::string, std::string> environment_;
};

TEST_F(FleetSettingsTest, NothingIsOnByDefault) {
  const absl::StatusOr<CommandLine> parsed = Parse();
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const Settings& settings = parsed->settings;
  EXPECT_FALSE(settings.has_session_store);
  EXPECT_EQ(settings.session_store_prefix, "udp_gate:session:");
  EXPECT_EQ(settings.session_store_lifetime, absl::Minutes(10));
  EXPECT_FALSE(settings.is_standby);
  EXPECT_FALSE(settings.forwards_sessions);
  EXPECT_FALSE(settings.session_forward_address.is_valid());
}

TEST_F(FleetSettingsTest, ValuesArrive) {
  const std::string secret(32, 's');
  environment_ = {{"SESSION_STORE", "redis"},
                  {"SESSION_STORE_PREFIX", "{lobby}:"},
                  {"SESSION_STORE_LIFETIME_SECS", "60"},
                  {"STANDBY", "on"},
                  {"PROXY_ADDR", "192.0.2.1:19132"},
                  {"SESSION_FORWARD", "on"},
                  {"SESSION_FORWARD_ADDR", "192.0.2.1:19133"},
                  {"SESSION_FORWARD_SECRET_FILE",
                   directory_.WriteFile("secret", absl::StrCat(secret, "\n"))}};
  const absl::StatusOr<CommandLine> parsed = Parse();
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const Settings& settings = parsed->settings;
  EXPECT_TRUE(settings.has_session_store);
  EXPECT_EQ(settings.session_store_prefix, "{lobby}:");
  EXPECT_EQ(settings.session_store_lifetime, absl::Seconds(60));
  EXPECT_TRUE(settings.is_standby);
  EXPECT_TRUE(settings.forwards_sessions);
  EXPECT_EQ(settings.session_forward_address.ToString(), "192.0.2.1:19133");
  EXPECT_EQ(settings.session_forward_secret, secret);
}

TEST_F(FleetSettingsTest, TheStoreNeedsRedis) {
  EXPECT_EQ(Problem({{"SESSION_STORE", "redis"}}), "");
  EXPECT_THAT(
      Problem({{"SESSION_STORE", "redis"}, {"BACKEND_ADDR", "10.0.0.1:1"}}),
      AllOf(StartsWith("SESSION_STORE=redis needs Redis"),
            HasSubstr("BACKEND_ADDR"), HasSubstr("allowed: ")));
  EXPECT_EQ(Problem({{"SESSION_STORE", "off"}, {"BACKEND_ADDR", "10.0.0.1:1"}}),
            "");
}

TEST_F(FleetSettingsTest, AStandbyNeedsTheStoreAndAnAddressThatMoves) {
  EXPECT_THAT(Problem({{"STANDBY", "on"}, {"PROXY_ADDR", "192.0.2.1:1"}}),
              AllOf(StartsWith("STANDBY=on needs SESSION_STORE=redis"),
                    HasSubstr("allowed: ")));
  const auto problem_with = [this](const std::string& address) {
    return Problem({{"STANDBY", "on"},
                    {"SESSION_STORE", "redis"},
                    {"PROXY_ADDR", address}});
  };
  EXPECT_EQ(problem_with("192.0.2.1:1"), "");
  EXPECT_EQ(problem_with("[2001:db8::1]:1"), "");
  for (const char* wildcard : {"0.0.0.0:1", "[::]:1", ":1", ""}) {
    EXPECT_THAT(problem_with(wildcard),
                AllOf(StartsWith("STANDBY=on needs the address that moves"),
                      HasSubstr("PROXY_ADDR"), HasSubstr("allowed: ")))
        << wildcard;
  }
  EXPECT_THAT(problem_with("192.0.2.1:0"), HasSubstr("has port 0"));
}

TEST_F(FleetSettingsTest, ForwardingNeedsTheStoreAnAddressAndASecret) {
  std::map<std::string, std::string> environment = {
      {"SESSION_FORWARD", "on"}, {"PROXY_ADDR", "192.0.2.1:1"}};
  EXPECT_THAT(Problem(environment),
              StartsWith("SESSION_FORWARD=on needs SESSION_STORE=redis"));
  environment["SESSION_STORE"] = "redis";
  EXPECT_THAT(Problem(environment),
              StartsWith("SESSION_FORWARD=on needs SESSION_FORWARD_ADDR"));
  environment["SESSION_FORWARD_ADDR"] = "192.0.2.1:2";
  EXPECT_THAT(
      Problem(environment),
      StartsWith("SESSION_FORWARD=on needs SESSION_FORWARD_SECRET_FILE"));
  environment["SESSION_FORWARD_SECRET_FILE"] =
      directory_.WriteFile("secret", std::string(32, 's'));
  EXPECT_EQ(Problem(environment), "");
  environment["SESSION_FORWARD_ADDR"] = "192.0.2.1:1";
  EXPECT_THAT(Problem(environment),
              AllOf(StartsWith("SESSION_FORWARD_ADDR=\"192.0.2.1:1\" is the "
                               "address of PROXY_ADDR"),
                    HasSubstr("allowed: ")));
  environment["PROXY_ADDR"] = ":1";
  EXPECT_THAT(Problem(environment), HasSubstr("is the address of PROXY_ADDR"));
}

TEST_F(FleetSettingsTest, ASecretThatIsWrongIsNotShown) {
  constexpr char kShortSecret[] = "hunter2-very-secret";
  const std::string path = directory_.WriteFile("secret", kShortSecret);
  EXPECT_THAT(Problem({{"SESSION_FORWARD_SECRET_FILE", path}}),
              AllOf(StartsWith("SESSION_FORWARD_SECRET_FILE="), HasSubstr(path),
                    HasSubstr("32 to 1024"), Not(HasSubstr(kShortSecret))));
  EXPECT_THAT(
      Problem({{"SESSION_FORWARD_SECRET_FILE", directory_.path() + "/none"}}),
      HasSubstr("a readable file"));
}

TEST(IsSessionStorePrefixTest, AllowsABraceOnlyInAHashTag) {
  for (const char* good : {"a", "{a}", "x{a}:", "{a}{b}", "{a}}"}) {
    EXPECT_TRUE(IsSessionStorePrefix(good)) << good;
  }
  for (const char* bad : {"", "{", "}", "{}", "{}{a}", "a}{b}", "{a", "a b"}) {
    EXPECT_FALSE(IsSessionStorePrefix(bad)) << bad;
  }
}

TEST(LooksLikeSettingTest, ANameWithoutAnUnderscoreIsNoPrefix) {
  EXPECT_TRUE(LooksLikeSetting("STANDBY"));
  EXPECT_TRUE(LooksLikeSetting("SESSION_STOR"));
  EXPECT_FALSE(LooksLikeSetting("HOME"));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
