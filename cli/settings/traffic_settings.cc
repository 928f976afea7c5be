// The settings of the data plane and of where backends come from.
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/settings/gateway_id.h"
#include "cli/settings/parsers.h"
#include "cli/settings/table_builder.h"
#include "udpgate/proxy_option_ranges.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace cli {
namespace {

// The program alone defines it; the other ranges are the library's.
constexpr IntegerRange kAddressWaitSeconds{"", 0, 86400};

void AddListenSettings(TableBuilder* table) {
  table->Group("Listening");
  table
      ->Add("PROXY_ADDR", "0.0.0.0:19132",
            "Address to listen on. [::]:19132 serves IPv4 and IPv6, :19132 "
            "means all addresses, and with port 0 the kernel chooses a port.",
            "1.2.3.4:port, [v6]:port or :port, with a port from 0 to 65535; "
            "not a multicast or broadcast address, and a link-local one with "
            "its interface, [fe80::1%eth0]:port",
            ApplyListenAddress)
      .option = "listen_address";
  table->AddInteger("LISTENER_COUNT", "1", proxy_ranges::kListenerCount,
                    "Number of sockets and reader threads on PROXY_ADDR "
                    "(SO_REUSEPORT if more than 1).",
                    InProxy(&ProxyOptions::listener_count));
  table->AddByteCount("RECEIVE_BUFFER_BYTES", "8388608",
                      proxy_ranges::kReceiveBufferBytes,
                      "Size of the receive and send buffers of each "
                      "listening socket, and of the receive buffer of each "
                      "upstream socket, there at most 1 MiB. The log says how "
                      "much the kernel granted.",
                      InProxy(&ProxyOptions::receive_buffer_bytes));
  table->Add("DONT_FRAGMENT", "off",
             "Whether a datagram that is too large for one packet of the "
             "interface is dropped rather than fragmented, in both "
             "directions.",
             "off or on", ApplyDontFragment);
  table->Add("TRAFFIC_CLASS", "copy",
             "Whether a datagram leaves with the DSCP and ECN marks it arrived "
             "with (copy) or without marks (clear), in both directions.",
             "copy or clear", ApplyTrafficClass);
  table
      ->AddInteger("ADDRESS_WAIT_SECS", "300", kAddressWaitSeconds,
                   "How long startup waits until this machine has the "
                   "addresses of PROXY_ADDR, NETHERNET_ADDR, ADMIN_ADDR and "
                   "UPSTREAM_BIND_ADDRS. 0: fail immediately.",
                   [](int64_t value, Settings* settings) {
                     settings->address_wait = absl::Seconds(value);
                   })
      .unit = "seconds";
}

void AddBackendSettings(TableBuilder* table) {
  table->Group("Backend");
  table
      ->Add("BACKEND_ADDR", "",
            "One fixed backend. The gateway then does not use Redis.",
            "host:port, 1.2.3.4:port or [v6]:port, with a port from 1 to "
            "65535; not a wildcard, multicast or broadcast address",
            [](absl::string_view value, Settings* settings) {
              return ParseRemoteAddress(value, &settings->backend_address);
            })
      .default_note = "none: resolve through Redis";
  table
      ->AddInteger("BACKEND_REFUSALS_MAX", "3",
                   proxy_ranges::kBackendRefusalsMax,
                   "Number of consecutive ICMP errors from the backend's side, "
                   "without a reply between them, that end a session.",
                   InLimits(&ProxyLimits::backend_refusals_max))
      .is_live = true;
  table
      ->AddMilliseconds("RESOLVE_TIMEOUT_MS", "3000",
                        proxy_ranges::kResolveTimeout,
                        "How long a new client waits for its backend.",
                        InLimits(&ProxyLimits::resolve_timeout))
      .is_live = true;
  Setting& bind_addresses = table->Add(
      "UPSTREAM_BIND_ADDRS", "",
      "Source addresses of upstream sockets, used in turn. Each address has "
      "its own range of source ports.",
      "1 to 64 IP addresses of this machine, without ports, separated by "
      "commas",
      ApplyBindAddresses);
  bind_addresses.default_note = "none: the system's routes choose";
  bind_addresses.option = "upstream_bind_addresses";
  table->AddSeconds(
      "PORT_QUARANTINE_SECS", "30", proxy_ranges::kPortQuarantine,
      "How long the source port of an ended session is in "
      "quarantine if a backend has replied to it. It is reused earlier only if "
      "no other port is free.",
      InProxy(&ProxyOptions::port_quarantine));
  table->AddSeconds("BACKEND_HOLDOFF_SECS", "10", proxy_ranges::kBackendHoldoff,
                    "How long a backend address that refused sessions or "
                    "stopped replying gets no new session, if another address "
                    "or backend is left. 0: it is not avoided.",
                    InProxy(&ProxyOptions::backend_holdoff));
}

void AddRedisConnectionSettings(TableBuilder* table) {
  table->Group("Redis");
  table
      ->Add("REDIS_ADDR", "127.0.0.1:6379",
            "Address of the Redis server, or of nodes of one Redis Cluster, "
            "separated by commas; one is enough.",
            "host:port, 1.2.3.4:port or [v6]:port, with a port from 1 to "
            "65535, not a wildcard, multicast or broadcast address; up to 16 "
            "of these; or unix:/path of at most 107 bytes",
            ApplyRedisAddress)
      .option = "RedisOptions::address";
  Setting& url = table->Add(
      "REDIS_URL", "",
      "Address, user, password and database of Redis in one. REDIS_ADDR, "
      "REDIS_USERNAME, REDIS_PASSWORD and REDIS_DB override its parts. It has "
      "no flag, because it may hold the password.",
      "redis://[user[:password]@]host[:port][/database], the same with "
      "rediss:// for TLS, or unix://[user[:password]@]/path[?db=database], "
      "with percent-encoded "
      "special characters",
      ApplyRedisUrl);
  url.default_note = "none: the other settings";
  url.is_secret = true;
  table
      ->AddText("REDIS_USERNAME", "", redis_ranges::kUsernameBytesMax,
                "Redis ACL user.", &Settings::redis_username)
      .option = "RedisOptions::username";
  table
      ->AddText("REDIS_PASSWORD", "", redis_ranges::kPasswordBytesMax,
                "Redis password. It has no flag, because other users can read "
                "the command line of a process.",
                &Settings::redis_password)
      .is_secret = true;
  table->AddText("REDIS_PASSWORD_FILE", "", kPathBytesMax,
                 "File that holds the password instead. One trailing line "
                 "break is removed. It is read again at each connect and when "
                 "it changes.",
                 &Settings::redis_password_file);
  table->AddInteger("REDIS_DB", "0", redis_ranges::kDatabase, "Database index.",
                    InSettings(&Settings::redis_database));
}

void AddRedisTlsSettings(TableBuilder* table) {
  table->Add("REDIS_TLS", "off",
             "Whether to use TLS 1.2 or newer to Redis. Its certificate and "
             "the name in it are verified.",
             "on or off", ApplyRedisTls);
  table
      ->AddText("REDIS_TLS_CA_FILE", "", kPathBytesMax,
                "File of the certificate authorities (PEM). All TLS files "
                "are read again at each connect.",
                &Settings::redis_tls_ca_file)
      .default_note = "none: the system's authorities";
  table
      ->Add("REDIS_TLS_SERVER_NAME", "",
            "Name that the certificate of Redis must have.",
            "a host name or an IP address", ApplyRedisTlsServerName)
      .default_note = "none: the host of REDIS_ADDR";
  table
      ->AddText("REDIS_TLS_CERTIFICATE_FILE", "", kPathBytesMax,
                "File of the gateway's certificate chain (PEM), if Redis "
                "requires one.",
                &Settings::redis_tls_certificate_file)
      .default_note = "none: no certificate";
  table->AddText("REDIS_TLS_KEY_FILE", "", kPathBytesMax,
                 "File of the certificate's private key (PEM).",
                 &Settings::redis_tls_key_file);
}

void AddRedisSentinelSettings(TableBuilder* table) {
  table
      ->Add("REDIS_SENTINELS", "",
            "Sentinels, which name the address of the master; REDIS_ADDR must "
            "not be set. The user, password and database of REDIS_URL are "
            "those of the master. REDIS_TLS applies to the sentinels, too.",
            absl::StrCat("1 to ", redis_ranges::kSentinelsMax,
                         " of host:port, 1.2.3.4:port or [v6]:port, separated "
                         "by commas"),
            ApplyRedisSentinels)
      .default_note = "none: no Sentinel";
  table->Add("REDIS_SENTINEL_MASTER", "",
             "The name by which the sentinels know the master.",
             absl::StrCat("1 to ", redis_ranges::kNameBytesMax,
                          " printable ASCII characters without spaces"),
             ApplyRedisSentinelMaster);
  table
      ->AddText("REDIS_SENTINEL_USERNAME", "", redis_ranges::kUsernameBytesMax,
                "ACL user at the sentinels. REDIS_USERNAME is that at Redis.",
                &Settings::redis_sentinel_username)
      .option = "RedisSentinelOptions::username";
  table
      ->AddText("REDIS_SENTINEL_PASSWORD", "", redis_ranges::kPasswordBytesMax,
                "Password at the sentinels. It has no flag, because other "
                "users can read the command line of a process.",
                &Settings::redis_sentinel_password)
      .is_secret = true;
  table->AddText("REDIS_SENTINEL_PASSWORD_FILE", "", kPathBytesMax,
                 "File that holds the password at the sentinels instead, as "
                 "REDIS_PASSWORD_FILE.",
                 &Settings::redis_sentinel_password_file);
}

void AddRedisSettings(TableBuilder* table) {
  AddRedisConnectionSettings(table);
  AddRedisTlsSettings(table);
  AddRedisSentinelSettings(table);
  table
      ->AddText("REDIS_BACKEND_KEY", "udp_gate:backend",
                redis_ranges::kNameBytesMax,
                "Key that holds the current backend, host:port, or several "
                "backends. Several keys, separated by spaces, are tried in "
                "order; placeholders such as {client_ip}: docs/redis.md.",
                &Settings::redis_backend_key)
      .option = "RedisOptions::backend_key";
  table->AddText("REDIS_DISCONNECT_CHANNEL", "udp_gate:disconnect",
                 redis_ranges::kNameBytesMax,
                 "Pub/sub channel of disconnect events.",
                 &Settings::redis_disconnect_channel);
  table
      ->AddText("REDIS_DISCONNECT_STREAM", "", redis_ranges::kNameBytesMax,
                "Stream of disconnect events, in addition to the channel. It "
                "keeps events while the gateway is not connected.",
                &Settings::redis_disconnect_stream)
      .default_note = "none: the channel alone";
  table->AddSeconds("REDIS_DISCONNECT_MAX_AGE_SECS", "60",
                    redis_ranges::kDisconnectAgeMax,
                    "Maximum age of events of REDIS_DISCONNECT_STREAM that "
                    "are read at the first start, or if the stream no longer "
                    "has the entry that was read last.",
                    InSettings(&Settings::redis_disconnect_age_max));
  table
      ->AddText("REDIS_STATUS_KEY", "", redis_ranges::kNameBytesMax,
                "Key that holds the response to GET /v1/join for the whole "
                "fleet, a JSON object of at most 64 KiB (NETHERNET_ADDR).",
                &Settings::redis_status_key)
      .default_note = "none: the backend's own response";
  table->Add("REDIS_JOINS_KEY", "udp_gate:joins",
             "Stream through which gateways tell each other their joins, so "
             "that TCP may reach one and UDP another (NETHERNET_ADDR).",
             absl::StrCat("off, or a name of at most ",
                          redis_ranges::kNameBytesMax, " bytes"),
             ApplyRedisJoinsKey);
  table->AddMilliseconds("REDIS_TIMEOUT_MS", "1000",
                         redis_ranges::kCommandTimeout,
                         "Time limit for one Redis command or connection "
                         "attempt.",
                         InSettings(&Settings::redis_timeout));
  table->AddSeconds("BACKEND_STALE_SECS", "0",
                    redis_ranges::kStaleBackendAgeMax,
                    "While Redis is unavailable, new clients get the last "
                    "known backend if it is no older than this. 0: they are "
                    "rejected.",
                    InSettings(&Settings::backend_stale_max));
  table->AddInteger("RESOLVES_PER_SEC", "1000", redis_ranges::kGetsPerSecondMax,
                    "Maximum batches of GET commands per second. A batch reads "
                    "the keys of all clients that wait then.",
                    InSettings(&Settings::resolves_per_second));
  table->AddInteger("REDIS_KEY_SETS_MAX", "16384", redis_ranges::kKeySetsMax,
                    "Maximum number of different keys of clients whose last "
                    "result is kept, if REDIS_BACKEND_KEY has placeholders.",
                    InSettings(&Settings::redis_key_sets_max));
}

// What a fleet of gateways knows of one.
void AddRedisFleetSettings(TableBuilder* table) {
  table
      ->Add("GATEWAY_ID", "",
            "Name of this gateway among those that use the same Redis.",
            absl::StrCat("1 to ", kGatewayIdBytesMax,
                         " printable ASCII characters without spaces"),
            ApplyGatewayId)
      .default_note = "the host name";
  Setting& key = table->AddText(
      "REDIS_GATEWAY_KEY", "", redis_ranges::kNameBytesMax,
      "Key of the index of gateways, for an autoscaler. Every 5 s each gateway "
      "writes a hash {KEY}:GATEWAY_ID with its sessions, which expires after "
      "15 s.",
      &Settings::redis_gateway_key);
  key.default_note = "none: no hash is written";
  key.option = "RedisGatewayEntryOptions::key";
  table
      ->AddText("REDIS_EVENT_STREAM", "", redis_ranges::kNameBytesMax,
                "Stream to which session events are added: opened, confirmed, "
                "ended.",
                &Settings::redis_event_stream)
      .default_note = "none: no events are written";
  table->AddInteger("REDIS_EVENT_STREAM_MAXLEN", "100000",
                    redis_ranges::kEventStreamEntriesMax,
                    "Approximate number of entries that Redis keeps in "
                    "REDIS_EVENT_STREAM.",
                    InSettings(&Settings::redis_event_stream_entries_max));
}

void AddSessionSettings(TableBuilder* table) {
  table->Group("Sessions", /*is_live=*/true);
  table->AddSeconds("SESSION_IDLE_TIMEOUT_SECS", "60",
                    proxy_ranges::kSessionIdleTimeout,
                    "A session expires after this time without a datagram in "
                    "either direction.",
                    InLimits(&ProxyLimits::session_idle_timeout));
  table->AddSeconds("BACKEND_SILENT_TIMEOUT_SECS", "30",
                    proxy_ranges::kBackendSilentTimeout,
                    "A session expires if its client sends and its backend "
                    "does not reply for this time. 0: never.",
                    InLimits(&ProxyLimits::backend_silent_timeout));
  table->AddSeconds("CLIENT_SILENT_TIMEOUT_SECS", "300",
                    proxy_ranges::kClientSilentTimeout,
                    "A session expires if its client does not send for this "
                    "time, even if its backend does. 0: never.",
                    InLimits(&ProxyLimits::client_silent_timeout));
  table->AddInteger("MAX_SESSIONS", "0", proxy_ranges::kMaxSessions,
                    "Maximum number of live sessions. The descriptor limit, "
                    "less a reserve, and the source ports may allow fewer. 0: "
                    "as many as these allow.",
                    InLimits(&ProxyLimits::max_sessions));
  table
      ->AddInteger("PENDING_DATAGRAMS_MAX", "16",
                   proxy_ranges::kPendingDatagramsMax,
                   "Maximum number of datagrams that are buffered for one "
                   "client while its backend is resolved.",
                   InLimits(&ProxyLimits::pending_datagrams_max))
      .unit = "datagrams";
}

void AddAdmissionSettings(TableBuilder* table) {
  table->Group("Access control and rate limits", /*is_live=*/true);
  table
      ->Add("ALLOW_CIDRS", "",
            "Only clients from these prefixes may create sessions.",
            kAllowedCidrs, InLimitsAsCidrs(&ProxyLimits::allow_cidrs))
      .default_note = "none: all clients may";
  table->Add("DENY_CIDRS", "",
             "Clients from these prefixes may not create sessions, even if "
             "ALLOW_CIDRS contains them.",
             kAllowedCidrs, InLimitsAsCidrs(&ProxyLimits::deny_cidrs));
  table->AddInteger("MAX_SESSIONS_PER_IP", "0", proxy_ranges::kMaxSessionsPerIp,
                    "Maximum number of live sessions per IPv4 address or IPv6 "
                    "/64. One more evicts the session whose client has been "
                    "silent longest. 0: no limit.",
                    InLimits(&ProxyLimits::max_sessions_per_ip));
  table->AddInteger("MAX_UNCONFIRMED_SESSIONS_PER_IP", "512",
                    proxy_ranges::kMaxUnconfirmedSessionsPerIp,
                    "Maximum number of unconfirmed sessions per IPv4 address "
                    "or IPv6 /64. It ends forwarding loops between gateways. "
                    "0: no limit.",
                    InLimits(&ProxyLimits::max_unconfirmed_sessions_per_ip));
  table->AddInteger("NEW_SESSIONS_PER_SEC", "10000",
                    proxy_ranges::kNewSessionsPerSecond,
                    "Maximum number of sessions created per second, which is "
                    "the maximum burst too. 0: no limit.",
                    InLimits(&ProxyLimits::new_sessions_per_second));
  table->AddInteger("NEW_SESSIONS_PER_SEC_PER_IP", "0",
                    proxy_ranges::kNewSessionsPerSecondPerIp,
                    "NEW_SESSIONS_PER_SEC per IPv4 address or IPv6 /64.",
                    InLimits(&ProxyLimits::new_sessions_per_second_per_ip));
}

void AddUnconfirmedSettings(TableBuilder* table) {
  table->AddInteger("PENDING_CLIENTS_MAX", "4096",
                    proxy_ranges::kPendingClientsMax,
                    "Maximum number of clients that wait for their backend.",
                    InLimits(&ProxyLimits::pending_clients_max));
  table->AddByteCount("PENDING_BYTES_MAX", "16777216",
                      proxy_ranges::kPendingBytesMax,
                      "Maximum size of all datagrams that are buffered for "
                      "clients that wait for their backend.",
                      InLimits(&ProxyLimits::pending_bytes_max));
  table->AddSeconds("UNCONFIRMED_TIMEOUT_SECS", "30",
                    proxy_ranges::kUnconfirmedTimeout,
                    "An unconfirmed session expires after this time without a "
                    "datagram from its client.",
                    InLimits(&ProxyLimits::unconfirmed_timeout));
  table->AddInteger("UNCONFIRMED_REPLY_FACTOR", "10",
                    proxy_ranges::kUnconfirmedReplyFactor,
                    "Anti-amplification limit: until a client sends after a "
                    "reply, it gets at most this many times the bytes it sent, "
                    "and at least 2048 bytes. 0: no limit.",
                    InLimits(&ProxyLimits::unconfirmed_reply_factor));
  table->AddInteger("PAUSED_SESSIONS_MAX", "64",
                    proxy_ranges::kPausedSessionsMax,
                    "Maximum number of sessions per worker whose replies wait "
                    "in the kernel because of UNCONFIRMED_REPLY_FACTOR. "
                    "Replies of further sessions are dropped.",
                    InLimits(&ProxyLimits::paused_sessions_max));
}

void AddThreadSettings(TableBuilder* table) {
  table->Group("Threads and queues");
  table
      ->AddInteger("WORKER_COUNT", "", proxy_ranges::kWorkerCount,
                   "Number of worker threads. 0: no workers, each listener "
                   "thread handles the datagrams it reads.",
                   InProxy(&ProxyOptions::worker_count))
      .default_note = "CPUs - 1, at least 1";
  table
      ->AddInteger("QUEUE_SIZE", "4096", proxy_ranges::kQueueSizeDatagrams,
                   "Maximum queue depth of one worker. Its limit in bytes is 2 "
                   "KiB times this number. A full queue drops datagrams and "
                   "counts them.",
                   InProxy(&ProxyOptions::queue_size_datagrams))
      .unit = "datagrams";
  table
      ->AddInteger("BATCH_SIZE", "64", proxy_ranges::kBatchSize,
                   "Maximum number of datagrams that one system call reads or "
                   "sends.",
                   InProxy(&ProxyOptions::batch_size))
      .unit = "datagrams";
  table
      ->AddInteger("SESSION_EVENTS_MAX", "1024",
                   proxy_ranges::kSessionEventsMax,
                   "Maximum number of session events per worker that wait for "
                   "SESSION_LOG, ADMIN_ADDR and REDIS_EVENT_STREAM. A full "
                   "queue drops events and counts them.",
                   InProxy(&ProxyOptions::session_events_max))
      .unit = "events";
}

}  // namespace

void AddTrafficSettings(TableBuilder* table) {
  AddListenSettings(table);
  AddBackendSettings(table);
  AddRedisSettings(table);
  AddRedisFleetSettings(table);
  AddSessionSettings(table);
  AddAdmissionSettings(table);
  AddUnconfirmedSettings(table);
  AddThreadSettings(table);
}

}  // namespace cli
}  // namespace udpgate
