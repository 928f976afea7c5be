#include "cli/settings/table.h"

#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const Setting& Find(absl::string_view variable) {
  for (const Setting& setting : SettingTable()) {
    if (setting.variable == variable) return setting;
  }
  ADD_FAILURE() << "no setting " << variable;
  return SettingTable().front();
}

struct Case {
  const char* variable;
  std::vector<std::string> good;
  std::vector<std::string> bad;
};

// What every integer refuses.
const char* const kNoIntegers[] = {
    "-1",   "+1",  "1 ",  " 1",   "1x",
    "0x10", "1.0", "1e3", "abc",  "99999999999999999999",
    "1,0",  "--1", "1\n", "\t1",  "\xd9\xa1",
    "1_0",  "on",  "1KB", "1kib", "18446744073709551617"};

TEST(SettingTableTest, HasEverySettingOfTheContractOnce) {
  std::vector<std::string> variables;
  for (const Setting& setting : SettingTable()) {
    variables.push_back(setting.variable);
  }
  EXPECT_THAT(
      variables,
      ::testing::UnorderedElementsAre(
          "PROXY_ADDR", "REDIS_ADDR", "REDIS_URL", "REDIS_TLS",
          "REDIS_TLS_CA_FILE", "REDIS_TLS_SERVER_NAME",
          "REDIS_TLS_CERTIFICATE_FILE", "REDIS_TLS_KEY_FILE", "REDIS_SENTINELS",
          "REDIS_SENTINEL_MASTER", "REDIS_SENTINEL_USERNAME",
          "REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_PASSWORD_FILE",
          "REDIS_KEY_SETS_MAX", "REDIS_USERNAME", "REDIS_PASSWORD",
          "REDIS_PASSWORD_FILE", "REDIS_DB", "REDIS_BACKEND_KEY",
          "REDIS_DISCONNECT_CHANNEL", "REDIS_DISCONNECT_STREAM",
          "REDIS_DISCONNECT_MAX_AGE_SECS", "SESSION_IDLE_TIMEOUT_SECS",
          "WORKER_COUNT", "QUEUE_SIZE", "LISTENER_COUNT", "BATCH_SIZE",
          "BACKEND_ADDR", "MAX_SESSIONS", "BACKEND_REFUSALS_MAX",
          "RESOLVE_TIMEOUT_MS", "REDIS_TIMEOUT_MS", "PENDING_DATAGRAMS_MAX",
          "RECEIVE_BUFFER_BYTES", "LOG_LEVEL", "UPSTREAM_BIND_ADDRS",
          "PORT_QUARANTINE_SECS", "BACKEND_STALE_SECS", "RESOLVES_PER_SEC",
          "GATEWAY_ID", "ALLOW_CIDRS", "DENY_CIDRS", "MAX_SESSIONS_PER_IP",
          "MAX_UNCONFIRMED_SESSIONS_PER_IP", "NEW_SESSIONS_PER_SEC",
          "NEW_SESSIONS_PER_SEC_PER_IP", "PENDING_CLIENTS_MAX",
          "PENDING_BYTES_MAX", "UNCONFIRMED_TIMEOUT_SECS",
          "UNCONFIRMED_REPLY_FACTOR", "PAUSED_SESSIONS_MAX",
          "BACKEND_SILENT_TIMEOUT_SECS", "BACKEND_HOLDOFF_SECS",
          "CLIENT_SILENT_TIMEOUT_SECS", "FAST_PATH", "FAST_PATH_INTERFACES",
          "ADMIN_ADDR", "ADMIN_TOKEN", "ADMIN_TOKEN_FILE", "DRAIN_TIMEOUT_SECS",
          "TAKEOVER_SOCKET", "LOG_FORMAT", "SESSION_LOG",
          "SESSION_LOG_LINES_PER_SEC", "SESSION_EVENTS_MAX",
          "ADDRESS_WAIT_SECS", "READYZ_DISCONNECTS", "DONT_FRAGMENT",
          "TRAFFIC_CLASS", "NETHERNET_ADDR", "NETHERNET_CERTIFICATE_FILE",
          "NETHERNET_PRIVATE_KEY_FILE", "NETHERNET_PUBLIC_ADDRS",
          "NETHERNET_BACKEND_PORT", "NETHERNET_FORWARD_CLIENT",
          "NETHERNET_TRUSTED_PROXIES", "NETHERNET_JOINS_MAX",
          "NETHERNET_JOIN_TIMEOUT_SECS", "NETHERNET_STATUS", "REDIS_STATUS_KEY",
          "REDIS_JOINS_KEY", "REDIS_GATEWAY_KEY", "REDIS_EVENT_STREAM",
          "REDIS_EVENT_STREAM_MAXLEN", "SESSION_STORE", "SESSION_STORE_PREFIX",
          "SESSION_STORE_LIFETIME_SECS", "STANDBY", "SESSION_FORWARD",
          "SESSION_FORWARD_ADDR", "SESSION_FORWARD_SECRET_FILE"));
  EXPECT_EQ(Find("PROXY_ADDR").flag(), "--proxy-addr");
}

TEST(SettingTableTest, DefaultsAreAllowed) {
  for (const Setting& setting : SettingTable()) {
    if (setting.default_text.empty()) continue;
    Settings settings;
    EXPECT_TRUE(setting.apply(setting.default_text, &settings))
        << setting.variable;
  }
}

TEST(SettingTableTest, IntegersAreStrictAndHaveLimits) {
  struct Range {
    const char* variable;
    int64_t minimum;
    int64_t maximum;
  };
  for (const Range& range :
       std::vector<Range>{{"SESSION_IDLE_TIMEOUT_SECS", 1, 86400},
                          {"WORKER_COUNT", 0, 256},
                          {"QUEUE_SIZE", 1, 1048576},
                          {"LISTENER_COUNT", 1, 64},
                          {"BATCH_SIZE", 1, 1024},
                          {"REDIS_DB", 0, 1000000},
                          {"MAX_SESSIONS", 0, 1000000000},
                          {"BACKEND_REFUSALS_MAX", 1, 1000},
                          {"RESOLVE_TIMEOUT_MS", 1, 3600000},
                          {"REDIS_TIMEOUT_MS", 1, 60000},
                          {"REDIS_DISCONNECT_MAX_AGE_SECS", 0, 86400},
                          {"PENDING_DATAGRAMS_MAX", 1, 1024},
                          {"RECEIVE_BUFFER_BYTES", 4096, 1 << 30},
                          {"PORT_QUARANTINE_SECS", 0, 3600},
                          {"BACKEND_STALE_SECS", 0, 86400},
                          {"RESOLVES_PER_SEC", 1, 1000000},
                          {"REDIS_KEY_SETS_MAX", 1, 1000000},
                          {"REDIS_EVENT_STREAM_MAXLEN", 1, 100000000},
                          {"MAX_SESSIONS_PER_IP", 0, 1000000000},
                          {"MAX_UNCONFIRMED_SESSIONS_PER_IP", 0, 1000000000},
                          {"NEW_SESSIONS_PER_SEC", 0, 1000000},
                          {"NEW_SESSIONS_PER_SEC_PER_IP", 0, 1000000},
                          {"PENDING_CLIENTS_MAX", 1, 1048576},
                          {"PENDING_BYTES_MAX", 65536, int64_t{1} << 40},
                          {"UNCONFIRMED_TIMEOUT_SECS", 1, 86400},
                          {"UNCONFIRMED_REPLY_FACTOR", 0, 1000000},
                          {"PAUSED_SESSIONS_MAX", 0, 65536},
                          {"BACKEND_SILENT_TIMEOUT_SECS", 0, 86400},
                          {"BACKEND_HOLDOFF_SECS", 0, 3600},
                          {"CLIENT_SILENT_TIMEOUT_SECS", 0, 86400},
                          {"DRAIN_TIMEOUT_SECS", 0, 86400},
                          {"ADDRESS_WAIT_SECS", 0, 86400},
                          {"SESSION_STORE_LIFETIME_SECS", 10, 86400},
                          {"NETHERNET_BACKEND_PORT", 0, 65535},
                          {"NETHERNET_JOINS_MAX", 1, 1000000},
                          {"NETHERNET_JOIN_TIMEOUT_SECS", 1, 3600}}) {
    SCOPED_TRACE(range.variable);
    const Setting& setting = Find(range.variable);
    Settings settings;
    const auto apply = [&](const std::string& value) {
      return setting.apply(value, &settings);
    };
    EXPECT_TRUE(apply(absl::StrCat(range.minimum)));
    EXPECT_TRUE(settings.proxy.Validate().ok()) << settings.proxy.Validate();
    EXPECT_TRUE(apply(absl::StrCat(range.maximum)));
    EXPECT_TRUE(settings.proxy.Validate().ok()) << settings.proxy.Validate();
    EXPECT_FALSE(apply(absl::StrCat(range.minimum - 1)));
    EXPECT_FALSE(apply(absl::StrCat(range.maximum + 1)));
    for (const char* bad : kNoIntegers) EXPECT_FALSE(apply(bad)) << bad;
    EXPECT_THAT(setting.allowed, AllOf(HasSubstr(absl::StrCat(range.minimum)),
                                       HasSubstr(absl::StrCat(range.maximum))));
  }
}

// A range is written once, in the library: Validate allows both ends of every
// setting that has an option.
TEST(SettingTableTest, RangesAreThoseOfTheLibrary) {
  int count = 0;
  for (const Setting& setting : SettingTable()) {
    if (setting.allowed.find("an integer") != 0) continue;
    if (setting.option.empty() || setting.option.find("Redis") == 0) continue;
    SCOPED_TRACE(setting.variable);
    ++count;
    std::istringstream words(setting.allowed);
    std::string word;
    int64_t minimum, maximum;
    words >> word >> word >> word >> minimum >> word >> maximum;
    ASSERT_TRUE(words) << setting.allowed;
    for (const int64_t value : {minimum, maximum}) {
      Settings settings;
      ASSERT_TRUE(setting.apply(absl::StrCat(value), &settings));
      EXPECT_TRUE(settings.proxy.Validate().ok()) << settings.proxy.Validate();
    }
  }
  EXPECT_GT(count, 15);
}

TEST(NameSettingTest, PutsTheSettingInPlaceOfTheOption) {
  const auto error = [](absl::string_view option) {
    return NameSetting(
        OptionError(absl::StatusCode::kNotFound, option, ": wrong"));
  };
  for (const Setting& setting : SettingTable()) {
    if (setting.option.empty()) continue;
    EXPECT_EQ(error(setting.option),
              absl::NotFoundError(absl::StrCat(setting.variable, ": wrong")));
  }
  EXPECT_EQ(error("listen_address").message(), "PROXY_ADDR: wrong");
  EXPECT_EQ(error("interfaces").message(), "FAST_PATH_INTERFACES: wrong");
  EXPECT_EQ(error("RedisOptions::database").message(), "REDIS_DB: wrong");
  // Options without a setting, and errors without an option.
  EXPECT_EQ(error("relay_ports").message(), "relay_ports: wrong");
  EXPECT_EQ(NameSetting(absl::NotFoundError("x")), absl::NotFoundError("x"));
}

// So that the mapping is unique.
TEST(NameSettingTest, NoTwoSettingsHaveTheSameOption) {
  std::set<std::string> options;
  for (const Setting& setting : SettingTable()) {
    if (setting.option.empty()) continue;
    EXPECT_TRUE(options.insert(setting.option).second) << setting.option;
  }
}

TEST(SettingTableTest, ListsOfAddressesAreStrict) {
  Settings settings;
  for (const char* variable :
       {"ALLOW_CIDRS", "DENY_CIDRS", "NETHERNET_TRUSTED_PROXIES"}) {
    for (const char* bad :
         {"10.0.0.1/8", "10.0.0.0/33", "a", ",", "1.2.3.4,,"}) {
      EXPECT_FALSE(Find(variable).apply(bad, &settings)) << bad;
    }
  }
  for (const char* bad : {"0.0.0.0", "::", "224.0.0.1", "255.255.255.255",
                          "fe80::1", "127.0.0.1:1", "host", ","}) {
    EXPECT_FALSE(Find("UPSTREAM_BIND_ADDRS").apply(bad, &settings)) << bad;
  }
  EXPECT_TRUE(settings.proxy.upstream_bind_addresses.empty());
}

TEST(SettingTableTest, SizesTakeUnits) {
  Settings settings;
  const Setting& setting = Find("RECEIVE_BUFFER_BYTES");
  const auto bytes = [&](const char* value) {
    return setting.apply(value, &settings) ? settings.proxy.receive_buffer_bytes
                                           : int64_t{-1};
  };
  EXPECT_EQ(bytes("5000"), 5000);
  EXPECT_EQ(bytes("4KiB"), 4096);
  EXPECT_EQ(bytes("3MiB"), 3 << 20);
  EXPECT_EQ(bytes("1GiB"), 1 << 30);
  for (const char* bad : {"3KiB", "2GiB", "9999999999999GiB", "KiB", "-1MiB",
                          "1 MiB", "1MB", "1MiBKiB", "1.5MiB", "1M", "1MiB "}) {
    EXPECT_EQ(bytes(bad), -1) << bad;
  }
}

TEST(SettingTableTest, AddressesAndWords) {
  const std::string path107 = "unix:/" + std::string(106, 'p');
  for (const Case& test_case : std::vector<Case>{
           {"PROXY_ADDR",
            {"1.2.3.4:0", "0.0.0.0:65535", "[::]:19132", "[::1]:1",
             "[fe80::1%lo]:0", "[fec0::1]:1", ":0", ":19132", ":65535"},
            {"19132", "0.0.0.0", ":", ":-1", ":65536", ": 1", ":1x",
             "localhost:19132", "::1:19132", "[::1]", "1.2.3:1", "1.2.3.4:x",
             "224.0.0.1:1", "*:19132", " :1", "0.0.0.0:19132 ",
             "255.255.255.255:1", "[fe80::1]:0", "[febf::1]:1"}},
           {"BACKEND_ADDR",
            {"1.2.3.4:1", "[::1]:65535", "lobby-3.internal:19132", "a_b:1",
             "localhost:1"},
            {"1.2.3.4", "1.2.3.4:0", "1.2.3.400:1", "0.0.0.0:1", "[::]:1",
             "224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1", ":1",
             "a:", "a:65536", "a b:1", "-a:1", "http://a:1", "::1:1"}},
           {"REDIS_ADDR",
            {"127.0.0.1:6379", "redis.internal:6379", "[::1]:6379",
             "unix:/run/redis.sock", path107, "a:1,b:2", "[::1]:1, [::1]:2"},
            {"a:1,b", "a:1,unix:/run/redis.sock",
             "a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,b:1,b:2,b:3,b:4,b:5,b:6,"
             "b:7,b:8",
             "127.0.0.1", "redis", ":6379", "redis://127.0.0.1:6379",
             "unix:redis.sock", "unix:", path107 + "p", "user@host:6379",
             "127.0.0.1:6379/0", "0.0.0.0:6379"}},
           {"LOG_LEVEL",
            {"debug", "info", "warn", "error"},
            {"warning", "INFO", "trace", "0", "info "}},
           {"LOG_FORMAT", {"text", "json"}, {"JSON", "yaml", "json "}},
           {"SESSION_LOG", {"off", "end", "all"}, {"on", "ended", "All"}},
           {"SESSION_LOG_LINES_PER_SEC", {"0", "1000000"}, {"-1", "1000001"}},
           {"SESSION_EVENTS_MAX", {"1", "1048576"}, {"0", "1048577"}},
           {"READYZ_DISCONNECTS", {"warn", "fail"}, {"Warn", "off", "503"}},
           {"DONT_FRAGMENT", {"off", "on"}, {"On", "1", "true", "auto"}},
           {"TRAFFIC_CLASS", {"copy", "clear"}, {"on", "Copy", "keep", "0"}},
           {"FAST_PATH",
            {"off", "auto", "required"},
            {"on", "Off", "1", "true", "auto "}},
           {"FAST_PATH_INTERFACES",
            {"eth0", "eth0,eth1.5", "a, b", std::string(15, 'i')},
            {",", "eth0/1", "a:1", "..", std::string(16, 'i')}},
           {"ADMIN_ADDR",
            {"off", "127.0.0.1:9132", "[::]:0", "10.0.0.1:1"},
            {"on", "9132", ":9132", "localhost:9132", "224.0.0.1:1",
             "127.0.0.1:65536", "[fe80::1]:1"}},
           {"NETHERNET_ADDR",
            {"off", "0.0.0.0:19132", "[::]:19132", ":19132", ":0", "[::1]:0"},
            {"on", "19132", "localhost:19132", "224.0.0.1:1", "Off",
             "127.0.0.1:65536", "[fe80::1]:1", ":65536", "1.2.3.4"}},
           {"NETHERNET_PUBLIC_ADDRS",
            {"203.0.113.1", "203.0.113.1:19132", "2001:db8::1",
             "[2001:db8::1]:19132", "127.0.0.1, ::1", "10.0.0.1,10.0.0.2:7"},
            {"0.0.0.0", "::", "224.0.0.1:1", "fe80::1", "fe80::1%lo",
             "203.0.113.1:0", "host", "host:1", ",", "203.0.113.1:65536",
             "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,"
             "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,"
             "1.1.1.1"}},
           {"NETHERNET_FORWARD_CLIENT",
            {"x-forwarded-for", "proxy-v1", "proxy-v2", "off"},
            {"on", "proxy", "proxy-v3", "X-Forwarded-For"}},
           {"NETHERNET_STATUS",
            {"{}", "{\"name\":\"Back soon\",\"players\":0}"},
            {"[]", "text", "{", "{\"a\":1}x", "\"a\"", "{\"a\":\"\xff\"}",
             "{\"a\":\"" + std::string(16384, 'x') + "\"}"}},
           {"NETHERNET_CERTIFICATE_FILE", {"/c"}, {std::string(1025, 'f')}},
           {"NETHERNET_PRIVATE_KEY_FILE", {"/k"}, {std::string(1025, 'f')}},
           {"REDIS_STATUS_KEY", {"k"}, {std::string(1025, 'k')}},
           {"REDIS_JOINS_KEY", {"off", "k"}, {std::string(1025, 'k')}},
           {"ADMIN_TOKEN",
            {std::string(16, 't'), std::string(1024, '~')},
            {std::string(15, 't'), std::string(1025, 't'), "sixteen characters",
             "umlaut-\xc3\xa4-0123456789"}},
           {"ADMIN_TOKEN_FILE", {"/f"}, {std::string(1025, 'f')}},
           {"SESSION_STORE", {"off", "redis"}, {"on", "Redis", "file"}},
           {"SESSION_STORE_PREFIX",
            {"s", "udp_gate:session:", "{s}:", std::string(128, 's')},
            {"a b", std::string(129, 's'), "{s", "s}", "{}s", "}s{", "a\n"}},
           {"STANDBY", {"off", "on"}, {"auto", "ON", "1"}},
           {"SESSION_FORWARD", {"off", "on"}, {"auto", "ON", "1"}},
           {"SESSION_FORWARD_ADDR",
            {"10.0.0.1:19133", "[2001:db8::1]:1"},
            {"10.0.0.1", "10.0.0.1:0", "0.0.0.0:1", ":1", "host:1",
             "224.0.0.1:1", "[fe80::1%lo]:1", "off"}},
           {"SESSION_FORWARD_SECRET_FILE", {"/f"}, {std::string(1025, 'f')}},
           {"TAKEOVER_SOCKET", {"/run/t.sock"}, {std::string(108, 'f')}},
           {"REDIS_USERNAME", {"u"}, {std::string(1025, 'u')}},
           {"REDIS_URL",
            {"redis://h", "rediss://h", "redis://u:p@h:1/2",
             "unix://:p@/run/r.sock?db=1"},
            {"h:1", "redis://", "redis://0.0.0.0", "redis://h?a=b", "http://h",
             "redis://h/x"}},
           {"REDIS_TLS", {"on", "off"}, {"1", "ON", "required"}},
           {"REDIS_TLS_CA_FILE", {"/f"}, {std::string(1025, 'f')}},
           {"REDIS_TLS_SERVER_NAME",
            {"redis.internal", "10.0.0.1", "::1"},
            {"a b", "redis.internal:6379", "-a"}},
           {"REDIS_TLS_CERTIFICATE_FILE", {"/f"}, {std::string(1025, 'f')}},
           {"REDIS_TLS_KEY_FILE", {"/f"}, {std::string(1025, 'f')}},
           {"REDIS_SENTINELS",
            {"a:1", "1.2.3.4:26379, [::1]:26379,c.internal:1"},
            {"a", ",", "0.0.0.0:1", "a:1,b", "a:0",
             "a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,"
             "a:1"}},
           {"REDIS_SENTINEL_MASTER",
            {"lobby"},
            {"a b", "a\n", std::string(1025, 'm')}},
           {"REDIS_SENTINEL_USERNAME", {"u"}, {std::string(1025, 'u')}},
           {"REDIS_SENTINEL_PASSWORD", {"p"}, {std::string(4097, 'p')}},
           {"REDIS_SENTINEL_PASSWORD_FILE", {"/f"}, {std::string(1025, 'f')}},
           {"REDIS_PASSWORD", {"p"}, {std::string(4097, 'p')}},
           {"REDIS_BACKEND_KEY", {"k", "a b"}, {std::string(1025, 'k')}},
           {"REDIS_DISCONNECT_CHANNEL", {"c"}, {std::string(1025, 'c')}},
           {"REDIS_DISCONNECT_STREAM", {"s"}, {std::string(1025, 's')}},
           {"REDIS_PASSWORD_FILE", {"/f"}, {std::string(1025, 'f')}},
       }) {
    for (const std::string& value : test_case.good) {
      Settings settings;
      EXPECT_TRUE(Find(test_case.variable).apply(value, &settings))
          << test_case.variable << "=" << value;
    }
    for (const std::string& value : test_case.bad) {
      Settings settings;
      EXPECT_FALSE(Find(test_case.variable).apply(value, &settings))
          << test_case.variable << "=" << value;
    }
  }
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
