// What `apply` writes into the Settings.
#include <string>
#include <vector>

#include "cli/settings/table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

// Sets the variables of one Settings.
class SettingArrivalTest : public ::testing::Test {
 protected:
  void Apply(absl::string_view variable, absl::string_view value) {
    const Setting* setting = FindSetting(variable);
    ASSERT_NE(setting, nullptr) << variable;
    EXPECT_TRUE(setting->apply(value, &settings_)) << variable;
  }

  Settings settings_;
};

TEST_F(SettingArrivalTest, Limits) {
  const ProxyLimits& limits = settings_.proxy.limits;
  Apply("MAX_SESSIONS_PER_IP", "11");
  EXPECT_EQ(limits.max_sessions_per_ip, 11);
  Apply("MAX_UNCONFIRMED_SESSIONS_PER_IP", "20");
  EXPECT_EQ(limits.max_unconfirmed_sessions_per_ip, 20);
  Apply("NEW_SESSIONS_PER_SEC", "12");
  EXPECT_EQ(limits.new_sessions_per_second, 12);
  Apply("NEW_SESSIONS_PER_SEC_PER_IP", "13");
  EXPECT_EQ(limits.new_sessions_per_second_per_ip, 13);
  Apply("PENDING_CLIENTS_MAX", "14");
  EXPECT_EQ(limits.pending_clients_max, 14);
  Apply("PENDING_BYTES_MAX", "15MiB");
  EXPECT_EQ(limits.pending_bytes_max, 15 << 20);
  Apply("UNCONFIRMED_TIMEOUT_SECS", "16");
  EXPECT_EQ(limits.unconfirmed_timeout, absl::Seconds(16));
  Apply("UNCONFIRMED_REPLY_FACTOR", "17");
  EXPECT_EQ(limits.unconfirmed_reply_factor, 17);
  Apply("PAUSED_SESSIONS_MAX", "23");
  EXPECT_EQ(limits.paused_sessions_max, 23);
  Apply("BACKEND_SILENT_TIMEOUT_SECS", "24");
  EXPECT_EQ(limits.backend_silent_timeout, absl::Seconds(24));
  Apply("BACKEND_HOLDOFF_SECS", "25");
  EXPECT_EQ(settings_.proxy.backend_holdoff, absl::Seconds(25));
  Apply("CLIENT_SILENT_TIMEOUT_SECS", "0");
  EXPECT_EQ(limits.client_silent_timeout, absl::ZeroDuration());
  Apply("ALLOW_CIDRS", "10.0.0.0/8, ::1");
  EXPECT_EQ(limits.allow_cidrs, *ParseCidrList("10.0.0.0/8 ::1/128"));
  Apply("DENY_CIDRS", "10.1.0.0/16");
  EXPECT_EQ(limits.deny_cidrs, *ParseCidrList("10.1.0.0/16"));
  Apply("PORT_QUARANTINE_SECS", "18");
  EXPECT_EQ(settings_.proxy.port_quarantine, absl::Seconds(18));
  Apply("BACKEND_STALE_SECS", "19");
  EXPECT_EQ(settings_.backend_stale_max, absl::Seconds(19));
  Apply("RESOLVES_PER_SEC", "20");
  EXPECT_EQ(settings_.resolves_per_second, 20);
  Apply("UPSTREAM_BIND_ADDRS", "127.0.0.1, 127.0.0.2 ::1");
  EXPECT_THAT(
      settings_.proxy.upstream_bind_addresses,
      ::testing::ElementsAre(SocketAddress::Ipv4Loopback(0),
                             *SocketAddress::FromIpAndPort("127.0.0.2", 0),
                             SocketAddress::Ipv6Loopback(0)));
  EXPECT_TRUE(settings_.proxy.Validate().ok()) << settings_.proxy.Validate();
}

TEST_F(SettingArrivalTest, Integers) {
  Apply("SESSION_IDLE_TIMEOUT_SECS", "11");
  EXPECT_EQ(settings_.proxy.limits.session_idle_timeout, absl::Seconds(11));
  Apply("WORKER_COUNT", "12");
  EXPECT_EQ(settings_.proxy.worker_count, 12);
  Apply("QUEUE_SIZE", "13");
  EXPECT_EQ(settings_.proxy.queue_size_datagrams, 13);
  Apply("LISTENER_COUNT", "14");
  EXPECT_EQ(settings_.proxy.listener_count, 14);
  Apply("BATCH_SIZE", "0015");
  EXPECT_EQ(settings_.proxy.batch_size, 15);
  Apply("REDIS_DB", "16");
  EXPECT_EQ(settings_.redis_database, 16);
  Apply("MAX_SESSIONS", "17");
  EXPECT_EQ(settings_.proxy.limits.max_sessions, 17);
  Apply("BACKEND_REFUSALS_MAX", "18");
  EXPECT_EQ(settings_.proxy.limits.backend_refusals_max, 18);
  Apply("RESOLVE_TIMEOUT_MS", "19");
  EXPECT_EQ(settings_.proxy.limits.resolve_timeout, absl::Milliseconds(19));
  Apply("REDIS_TIMEOUT_MS", "20");
  EXPECT_EQ(settings_.redis_timeout, absl::Milliseconds(20));
  Apply("PENDING_DATAGRAMS_MAX", "21");
  EXPECT_EQ(settings_.proxy.limits.pending_datagrams_max, 21);
}

TEST_F(SettingArrivalTest, Texts) {
  Apply("DONT_FRAGMENT", "on");
  EXPECT_TRUE(settings_.proxy.dont_fragment);
  Apply("DONT_FRAGMENT", "off");
  EXPECT_FALSE(settings_.proxy.dont_fragment);
  Apply("TRAFFIC_CLASS", "clear");
  EXPECT_FALSE(settings_.proxy.copies_traffic_class);
  Apply("TRAFFIC_CLASS", "copy");
  EXPECT_TRUE(settings_.proxy.copies_traffic_class);
  Apply("PROXY_ADDR", ":77");
  EXPECT_TRUE(settings_.listen_on_all_addresses);
  EXPECT_EQ(settings_.proxy.listen_address.port(), 77);
  Apply("PROXY_ADDR", "[::1]:78");
  EXPECT_FALSE(settings_.listen_on_all_addresses);
  EXPECT_EQ(settings_.proxy.listen_address.ToString(), "[::1]:78");
  Apply("BACKEND_ADDR", " lobby:79 ");
  EXPECT_EQ(settings_.backend_address, "lobby:79");
  Apply("REDIS_ADDR", "unix:/run/redis.sock");
  EXPECT_EQ(settings_.redis_address, "unix:/run/redis.sock");
  Apply("REDIS_ADDR", "a:1, b:2");
  EXPECT_EQ(settings_.redis_address, "a:1,b:2");
  Apply("REDIS_ADDR", "[::1]:80");
  EXPECT_EQ(settings_.redis_address, "[::1]:80");
  Apply("REDIS_TLS", "on");
  EXPECT_TRUE(settings_.redis_tls);
  Apply("REDIS_TLS", "off");
  EXPECT_FALSE(settings_.redis_tls);
  Apply("REDIS_TLS_CA_FILE", "a");
  EXPECT_EQ(settings_.redis_tls_ca_file, "a");
  Apply("REDIS_TLS_SERVER_NAME", "n");
  EXPECT_EQ(settings_.redis_tls_server_name, "n");
  Apply("REDIS_TLS_CERTIFICATE_FILE", "c");
  EXPECT_EQ(settings_.redis_tls_certificate_file, "c");
  Apply("REDIS_TLS_KEY_FILE", "k");
  EXPECT_EQ(settings_.redis_tls_key_file, "k");
  Apply("REDIS_SENTINELS", "a:1, b:2");
  EXPECT_EQ(settings_.redis_sentinels,
            (std::vector<std::string>{"a:1", "b:2"}));
  Apply("REDIS_SENTINEL_MASTER", "m");
  EXPECT_EQ(settings_.redis_sentinel_master, "m");
  Apply("REDIS_SENTINEL_USERNAME", "v");
  EXPECT_EQ(settings_.redis_sentinel_username, "v");
  Apply("REDIS_SENTINEL_PASSWORD", "q");
  EXPECT_EQ(settings_.redis_sentinel_password, "q");
  Apply("REDIS_SENTINEL_PASSWORD_FILE", "r");
  EXPECT_EQ(settings_.redis_sentinel_password_file, "r");
  Apply("REDIS_KEY_SETS_MAX", "5");
  EXPECT_EQ(settings_.redis_key_sets_max, 5);
  Apply("REDIS_USERNAME", "u");
  EXPECT_EQ(settings_.redis_username, "u");
  Apply("REDIS_PASSWORD", "p");
  EXPECT_EQ(settings_.redis_password, "p");
  Apply("REDIS_PASSWORD_FILE", "f");
  EXPECT_EQ(settings_.redis_password_file, "f");
  Apply("REDIS_BACKEND_KEY", "k");
  EXPECT_EQ(settings_.redis_backend_key, "k");
  Apply("REDIS_DISCONNECT_CHANNEL", "c");
  EXPECT_EQ(settings_.redis_disconnect_channel, "c");
  Apply("REDIS_DISCONNECT_STREAM", "s");
  EXPECT_EQ(settings_.redis_disconnect_stream, "s");
  Apply("REDIS_DISCONNECT_MAX_AGE_SECS", "7");
  EXPECT_EQ(settings_.redis_disconnect_age_max, absl::Seconds(7));
  Apply("ADMIN_ADDR", "127.0.0.1:81");
  EXPECT_EQ(settings_.admin_address, SocketAddress::Ipv4Loopback(81));
  Apply("ADMIN_ADDR", "off");
  EXPECT_FALSE(settings_.admin_address.is_valid());
  Apply("ADMIN_TOKEN", "0123456789abcdef");
  EXPECT_EQ(settings_.admin_token, "0123456789abcdef");
  Apply("ADMIN_TOKEN_FILE", "t");
  EXPECT_EQ(settings_.admin_token_file, "t");
  Apply("LOG_LEVEL", "warn");
  EXPECT_EQ(settings_.log_level, LogSeverity::kWarning);
}

TEST_F(SettingArrivalTest, NetherNet) {
  Apply("NETHERNET_ADDR", ":82");
  EXPECT_TRUE(settings_.nethernet_on_all_addresses);
  EXPECT_EQ(settings_.nethernet_address.port(), 82);
  Apply("NETHERNET_ADDR", "127.0.0.1:83");
  EXPECT_FALSE(settings_.nethernet_on_all_addresses);
  EXPECT_EQ(settings_.nethernet_address, SocketAddress::Ipv4Loopback(83));
  Apply("NETHERNET_ADDR", ":84");
  Apply("NETHERNET_ADDR", "off");
  EXPECT_FALSE(settings_.nethernet_address.is_valid());
  EXPECT_FALSE(settings_.nethernet_on_all_addresses);
  Apply("NETHERNET_CERTIFICATE_FILE", "c");
  EXPECT_EQ(settings_.nethernet_certificate_file, "c");
  Apply("NETHERNET_PRIVATE_KEY_FILE", "k");
  EXPECT_EQ(settings_.nethernet_private_key_file, "k");
  Apply("NETHERNET_PUBLIC_ADDRS", "127.0.0.1 [::1]:85");
  EXPECT_THAT(settings_.nethernet_public_addresses,
              ::testing::ElementsAre(SocketAddress::Ipv4Loopback(0),
                                     SocketAddress::Ipv6Loopback(85)));
  Apply("NETHERNET_BACKEND_PORT", "86");
  EXPECT_EQ(settings_.nethernet_backend_port, 86);
  Apply("NETHERNET_FORWARD_CLIENT", "proxy-v2");
  EXPECT_EQ(settings_.nethernet_forward_client,
            nethernet::ForwardClient::kProxyV2);
  Apply("NETHERNET_FORWARD_CLIENT", "off");
  EXPECT_EQ(settings_.nethernet_forward_client, nethernet::ForwardClient::kOff);
  Apply("NETHERNET_TRUSTED_PROXIES", "10.0.0.0/8");
  EXPECT_EQ(settings_.nethernet_trusted_proxies, *ParseCidrList("10.0.0.0/8"));
  Apply("NETHERNET_JOINS_MAX", "87");
  EXPECT_EQ(settings_.nethernet_joins_max, 87);
  Apply("NETHERNET_JOIN_TIMEOUT_SECS", "88");
  EXPECT_EQ(settings_.nethernet_join_timeout, absl::Seconds(88));
  Apply("NETHERNET_STATUS", "{\"name\": \"soon\"}");
  EXPECT_EQ(settings_.nethernet_status, "{\"name\": \"soon\"}");
  Apply("REDIS_STATUS_KEY", "s");
  EXPECT_EQ(settings_.redis_status_key, "s");
  Apply("REDIS_JOINS_KEY", "j");
  EXPECT_EQ(settings_.redis_joins_key, "j");
  Apply("REDIS_JOINS_KEY", "off");
  EXPECT_EQ(settings_.redis_joins_key, "");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
