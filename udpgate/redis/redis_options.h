// How to reach Redis and what to read there.
//
//   udpgate::RedisOptions options;
//   options.address = "redis.internal:6379";
//   options.password = password;
//   auto lookup = udpgate::HostLookup::Create({});
//   auto resolver = udpgate::RedisBackendResolver::Create(options, *lookup);
//   auto source = udpgate::RedisDisconnectSource::Create(options, *lookup);
//
// TLS, Sentinel and Cluster are not offered.
#ifndef UDPGATE_REDIS_REDIS_OPTIONS_H_
#define UDPGATE_REDIS_REDIS_OPTIONS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"

namespace udpgate {

// The password never appears in a log line or an error text.
struct RedisOptions {
  // `host:port` as `HostPort::Parse` takes it, or `unix:/path`. A host name is
  // looked up for each connection; where it has several addresses, one attempt
  // tries the next after the other.
  std::string address = "127.0.0.1:6379";

  // For AUTH (https://redis.io/commands/auth/): with a user name
  // `AUTH username password`, else with a password `AUTH password`, else none.
  // Up to 1024 and 4096 bytes.
  std::string username;
  std::string password;

  // For SELECT. 0 to 1,000,000; how many there are is Redis' own setting.
  int database = 0;

  // The key of the current backend, `host:port`, and the pub/sub channel of
  // the disconnect events. 1 to 1024 bytes each. Channels belong to no
  // database.
  std::string backend_key = "udp_gate:backend";
  std::string disconnect_channel = "udp_gate:disconnect";

  // How long one command may take, and how long to look up, to connect and to
  // log in may take each. 1 ms to 1 minute.
  absl::Duration command_timeout = absl::Seconds(1);

  // The wait before the first attempt to connect again, and the longest; it
  // doubles with each failure and is shortened by a random part of up to half.
  // A new client's question shortens it to the first one. 1 ms to 1 hour.
  absl::Duration reconnect_backoff_min = absl::Milliseconds(100);
  absl::Duration reconnect_backoff_max = absl::Seconds(5);

  // After a connection was lost in use, new clients' questions wait for the
  // next one so long, through attempts that fail; later they fail while there
  // is no connection. 0 to 1 minute.
  absl::Duration reconnect_patience = absl::Seconds(1);

  // A connection that was silent for so long is asked for a sign of life. 1 ms
  // to 1 hour.
  absl::Duration ping_interval = absl::Seconds(5);

  // GETs sent and not answered at most; the questions that come while so many
  // run share the next one. 1 to 1024.
  int gets_in_flight_max = 8;

  // GETs a second at most, however many clients come; those who come too early
  // for the next one wait for it together and share it. 1 to 1,000,000.
  int gets_per_second_max = 1000;

  // After an answer without a usable backend (missing key, wrong value, an
  // error of Redis) the next GET is not sent before this time. Questions that
  // come meanwhile wait for it, see `RedisBackendResolver`. 0 to 10 seconds.
  absl::Duration failure_pause = absl::Milliseconds(100);

  // While Redis is away (not connected, not answering, answering errors) new
  // clients get the last backend known, where Redis gave it within this time.
  // 0: they do not. 0 to 24 hours.
  absl::Duration stale_backend_age_max = absl::ZeroDuration();

  // Questions of new clients without an answer yet at most; more are refused.
  // 1 to 1,000,000.
  int requests_waiting_max = 65536;

  // A payload on the channel that is longer is reported as invalid. 1 to
  // 32768 bytes.
  int disconnect_payload_bytes_max = 4096;

  // Where the log lines go; see logging.h.
  LogSink log_sink = StderrLogSink();

  // What time-outs go by; the threads wait in real time, though, and so notice
  // only when something wakes them that a clock of a test has moved. Null:
  // `Clock::Monotonic()`. Must outlive the object made with these options.
  const Clock* clock = nullptr;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_OPTIONS_H_
