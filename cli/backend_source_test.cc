#include "cli/backend_source.h"

#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/settings/command_line.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/dns/named_backend_resolver.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/redis_backend_resolver.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The settings that these flags give.
Settings SettingsOf(std::vector<std::string> flags) {
  SettingSources sources;
  sources.arguments = std::move(flags);
  sources.environment = [](const std::string&) { return absl::nullopt; };
  sources.dotenv_path = "/no/such/file";
  const absl::StatusOr<CommandLine> command_line = ParseCommandLine(sources);
  EXPECT_TRUE(command_line.ok()) << command_line.status();
  return command_line.ok() ? command_line->settings : Settings();
}

template <typename Type>
bool Is(const std::shared_ptr<BackendResolver>& resolver) {
  return dynamic_cast<const Type*>(resolver.get()) != nullptr;
}

TEST(BackendSourceTest, AFixedAddressNeedsNeitherRedisNorNames) {
  const absl::StatusOr<BackendSource> source =
      MakeBackendSource(SettingsOf({"--backend-addr=127.0.0.1:9"}));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE(Is<StaticBackendResolver>(source->resolver));
  EXPECT_EQ(source->disconnects, nullptr);
  EXPECT_EQ(source->metrics, nullptr);
  EXPECT_EQ(source->reload_names, nullptr);
}

TEST(BackendSourceTest, AFixedNameIsLookedUpAndItsLookupReloads) {
  const absl::StatusOr<BackendSource> source =
      MakeBackendSource(SettingsOf({"--backend-addr=localhost:9"}));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE(Is<NamedBackendResolver>(source->resolver));
  EXPECT_EQ(source->disconnects, nullptr);
  EXPECT_EQ(source->metrics, nullptr);
  ASSERT_NE(source->reload_names, nullptr);
  source->reload_names();
}

TEST(BackendSourceTest, RedisResolvesAndDisconnectsAndHasMetrics) {
  const absl::StatusOr<BackendSource> source =
      MakeBackendSource(SettingsOf({"--redis-addr=127.0.0.1:1"}));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE(Is<RedisBackendResolver>(source->resolver));
  EXPECT_NE(
      dynamic_cast<const RedisDisconnectSource*>(source->disconnects.get()),
      nullptr);
  EXPECT_NE(source->reload_names, nullptr);
  ASSERT_NE(source->metrics, nullptr);
  std::set<std::string> names;
  for (const admin::HostMetric& metric : source->metrics()) {
    EXPECT_TRUE(absl::StartsWith(metric.name, "udpgate_redis_")) << metric.name;
    // Those of one name have other labels.
    std::string name = metric.name;
    for (const auto& [label, value] : metric.labels) {
      absl::StrAppend(&name, " ", label, "=", value);
    }
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(names.count("udpgate_redis_gets_sent_total"), 1u);
}

TEST(ValidateBackendSourceTest, ChecksRedisOnlyIfItIsUsed) {
  Settings settings = SettingsOf({});
  EXPECT_TRUE(ValidateBackendSource(settings).ok());
  settings.redis_database = -1;
  const absl::Status status = ValidateBackendSource(settings);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OptionAtFault(status), "RedisOptions::database");
  settings.backend_address = "127.0.0.1:9";
  EXPECT_TRUE(ValidateBackendSource(settings).ok());
}

TEST(DescribeBackendSourceTest, NamesTheSourceWithoutSecrets) {
  Settings settings = SettingsOf({"--redis-addr=127.0.0.1:1"});
  settings.redis_password = "hunter2";
  const std::string text = DescribeBackendSource(settings);
  EXPECT_THAT(text, HasSubstr("Redis at 127.0.0.1:1"));
  EXPECT_THAT(text, HasSubstr("key udp_gate:backend"));
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  settings.backend_address = "127.0.0.1:9";
  EXPECT_EQ(DescribeBackendSource(settings),
            "fixed backend 127.0.0.1:9, without Redis");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
