// How to reach Redis and what to read there.
//
//   udpgate::RedisOptions options;
//   options.address = "redis.internal:6379";
//   options.password = password;
//   auto lookup = udpgate::HostLookup::Create({});
//   auto resolver = udpgate::RedisBackendResolver::Create(options, *lookup);
//   auto source = udpgate::RedisDisconnectSource::Create(options, *lookup);
//
// TLS: redis_tls.h. Sentinel: redis_sentinel.h. Cluster: redis_cluster.h.
#ifndef UDPGATE_REDIS_REDIS_OPTIONS_H_
#define UDPGATE_REDIS_REDIS_OPTIONS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"
#include "udpgate/redis/redis_address_source.h"
#include "udpgate/redis/redis_outage_log.h"
#include "udpgate/redis/redis_transport.h"

namespace udpgate {

// Whether Sentinel can know a master by this name: 1 to 1024 printable ASCII
// characters without spaces.
UDPGATE_EXPORT bool IsRedisMasterName(absl::string_view name);

// The password never appears in a log line or an error text.
struct UDPGATE_EXPORT RedisOptions {
  // `host:port` as `HostPort::Parse` takes it, or `unix:/path`. A host name is
  // looked up for each attempt to connect. If it has several addresses, each
  // attempt takes the next one.
  std::string address = "127.0.0.1:6379";

  // Knows the address instead (`RedisSentinel` of redis_sentinel.h). `address`
  // then only names Redis in texts. Null: none.
  std::shared_ptr<RedisAddressSource> address_source;

  // The nodes of a Redis Cluster (`RedisCluster` of redis_cluster.h), of which
  // each key belongs to one. Null: none.
  std::shared_ptr<RedisNodes> nodes;

  // Maximum number of connections of a resolver to nodes of a Cluster. Beyond
  // it, the one that was used least recently makes room. 1 to 1024.
  int node_connections_max = 64;

  // For AUTH (https://redis.io/commands/auth/): `AUTH username password` if
  // there is a user name, `AUTH password` if there is only a password, else no
  // AUTH. Up to 1024 and 4096 bytes.
  std::string username;
  std::string password;

  // File that holds the password instead, with one trailing line break or none.
  // `password` is used until the file can be read. It is read for each attempt
  // to connect and once a second; if the password has changed, a connection in
  // use sends AUTH again, so that credentials can rotate. (Not a subscription:
  // Redis allows no AUTH there, and keeps its login.) Up to 1024 bytes.
  std::string password_file;

  // TLS (`MakeRedisTls` of redis_tls.h). Null: the bytes go as they are. Not
  // with a unix socket.
  std::shared_ptr<const RedisTransportFactory> transport;

  // For SELECT. 0 to 1,000,000; Redis' own configuration sets how many exist.
  int database = 0;

  // The key of the current backend, `host:port`. Or up to 8 keys, separated by
  // white space, which are read together; the first one that exists counts.
  // They may have placeholders, such as `udp_gate:backend:{client_ip}`: see
  // key_templates.h. 1 to 1024 bytes.
  std::string backend_key = "udp_gate:backend";

  // The pub/sub channel of the disconnect events. Channels do not belong to a
  // database. 1 to 1024 bytes.
  std::string disconnect_channel = "udp_gate:disconnect";

  // The stream of disconnect events, beside the channel, which Redis keeps for
  // a gateway that is not connected: each entry has the field "event". Empty:
  // none. Up to 1024 bytes.
  std::string disconnect_stream;

  // If the gateway knows no last entry, or the stream no longer has it, entries
  // older than this are not read. 0 to 24 hours.
  absl::Duration disconnect_age_max = absl::Minutes(1);

  // Time limit of each command, and of each step of connecting: the lookup, the
  // connection, the login. 1 ms to 1 minute.
  absl::Duration command_timeout = absl::Seconds(1);

  // The first and the longest wait before an attempt to reconnect. The wait
  // doubles with each failure and is shortened at random by up to half. A new
  // resolution shortens it to `reconnect_backoff_min`. 1 ms to 1 hour.
  absl::Duration reconnect_backoff_min = absl::Milliseconds(100);
  absl::Duration reconnect_backoff_max = absl::Seconds(5);

  // How long resolutions wait for the next connection after one was closed in
  // use, through failed attempts. After that they fail while there is no
  // connection. 0 to 1 minute.
  absl::Duration reconnect_patience = absl::Seconds(1);

  // A connection is probed with PING after this much silence. 1 ms to 1 hour.
  absl::Duration ping_interval = absl::Seconds(5);

  // Maximum number of questions (a GET for each of the keys) without a reply.
  // Resolutions that start at the limit share the next one, if their keys are
  // the same. 1 to 1024.
  int gets_in_flight_max = 8;

  // Maximum number of batches of GETs per second, however many clients arrive:
  // one batch asks for all keys that resolutions wait for, and is sent in one
  // piece. Resolutions that start too early for the next batch wait for it. If
  // all clients have the same keys, a batch is one question (a GET for each of
  // them), which they share. 1 to 1,000,000.
  int gets_per_second_max = 1000;

  // The pause before the next GET after a reply without a usable backend
  // (missing key, invalid value, an error of Redis). New resolutions wait for
  // its end, see `RedisBackendResolver`. 0 to 10 seconds.
  absl::Duration failure_pause = absl::Milliseconds(100);

  // The maximum age of the last known backend that new sessions get while Redis
  // is unavailable (not connected, not replying, replying with errors). 0
  // disables that. 0 to 24 hours.
  absl::Duration stale_backend_age_max = absl::ZeroDuration();

  // Maximum number of pending resolutions; more are rejected. 1 to 1,000,000.
  int requests_waiting_max = 65536;

  // With placeholders: of how many different sets of keys the last result is
  // kept, for stale results and the pause after a failure. The least recently
  // used one makes room. 1 to 1,000,000.
  int key_sets_max = 16384;

  // Maximum size of a payload on the channel and in the stream; a longer one is
  // reported as invalid. 1 to 32768 bytes.
  int disconnect_payload_bytes_max = 4096;

  // Of how many events without a partner, of the channel and of the stream, it
  // is known that they came. The oldest one makes room. 1 to 1,000,000.
  int disconnect_pairs_max = 1024;

  // Writes the lines about lost connections and their recovery instead of
  // `log_sink`, one for all connections that use it. Null: each connection
  // writes its own.
  std::shared_ptr<RedisOutageLog> outage_log;

  // Receives the log lines; see logging.h. Null: nothing is logged.
  LogSink log_sink = StderrLogSink();

  // The clock of time-outs. The threads sleep in real time: they notice that a
  // simulated clock has moved when they next wake up. Null:
  // `Clock::Monotonic()`. Must outlive the object created with these options.
  const Clock* clock = nullptr;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;

  // The options of a connection that uses this key and no other: they lead to
  // the node of a Cluster that owns it.
  RedisOptions ForKey(absl::string_view key) const;
  // Those of a connection that any node can serve.
  RedisOptions ForAnyNode() const;
  // The options with the machine's clock if `clock` is null.
  static RedisOptions WithClock(RedisOptions options);
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_OPTIONS_H_
