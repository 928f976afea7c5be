// The options of a `SessionKeeper`, with their units and defaults.
//
//   udpgate::SessionKeeperOptions options;
//   options.gateway_id = "gateway-1";
//   options.record_lifetime = absl::Minutes(5);
#ifndef UDPGATE_STORE_SESSION_KEEPER_OPTIONS_H_
#define UDPGATE_STORE_SESSION_KEEPER_OPTIONS_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"
#include "udpgate/option_error.h"
#include "udpgate/socket_address.h"

namespace udpgate {

struct UDPGATE_EXPORT SessionKeeperOptions {
  // The name of this gateway among those that share the store. 1 to 64
  // printable ASCII characters without spaces. Two gateways with one id fence
  // each other off the records.
  std::string gateway_id;

  // GatewayLease::forward_address. At most 128 bytes.
  std::string forward_address;

  // Created in standby: it serves nobody and follows the records of the other
  // gateways until `SessionKeeper::Promote`.
  bool is_standby = false;

  // Whether the local address of a record is one of this gateway, so that its
  // session can be continued here. Called on the keeper's thread and by
  // `Recover`. Null: an address of `Proxy::listen_addresses`; a wildcard
  // address is every address with its port.
  std::function<bool(const SocketAddress& local)> is_own_address;

  // How long a record lives that nobody refreshes. It is refreshed before half
  // of it is over. 10 seconds to 1 day.
  absl::Duration record_lifetime = absl::Minutes(10);

  // How often the gateway says that it lives, and after what silence others may
  // adopt its sessions. 100 ms to 1 minute; at least twice `lease_interval`, at
  // most 10 minutes.
  absl::Duration lease_interval = absl::Seconds(1);
  absl::Duration lease_lifetime = absl::Seconds(3);

  // How long a new client waits for its record. Then the wrapped resolver alone
  // decides. Zero: half of ResolveRequest::timeout. 0 to 1 minute.
  absl::Duration newcomer_timeout = absl::ZeroDuration();

  // How long `Recover` and `Promote` wait for the first reply of the store, and
  // how long for all records. Without them the gateway starts, and recovery is
  // tried again in the background. 0 to 1 minute; 0 to 10 minutes.
  absl::Duration recovery_connect_timeout = absl::Seconds(1);
  absl::Duration recovery_timeout = absl::Seconds(5);

  // How often records and sessions are compared. Also done soon after anything
  // was dropped. 1 second to 1 hour.
  absl::Duration sweep_interval = absl::Seconds(30);

  // How long changes wait, so that several become one call. 0 to 10 seconds.
  absl::Duration write_delay = absl::Milliseconds(20);

  // How often a standby asks what has changed. 100 ms to 1 minute.
  absl::Duration follow_interval = absl::Seconds(1);

  // How far the clocks of the gateways may differ. A session that a gateway
  // sees begin less than this after a disconnect event may be older than the
  // event on its own gateway, and counts as named by it. Two events that name
  // the same client should be at least twice this apart. 0 to 1 hour.
  absl::Duration clock_difference_max = absl::Milliseconds(500);

  // How long `Stop` waits for changes that are under way. 0 to 10 seconds.
  absl::Duration stop_timeout = absl::Milliseconds(500);

  // Changes that wait for the store. More are dropped, counted, and made up for
  // by the next comparison. 1 to 10,000,000.
  int queue_max = 131'072;

  // Limits of calls to the store, of up to 128 records each: per second, and
  // without a result so far. 10 to 100,000; 1 to 256.
  int calls_per_second_max = 1000;
  int calls_in_flight_max = 8;

  // New clients that wait for their records, and how many records per second
  // are looked for. The wrapped resolver alone decides on further ones. 1 to
  // 1,000,000.
  int newcomers_waiting_max = 4096;
  int finds_per_second_max = 10'000;

  // Session events that wait for the keeper's thread. 1 to 10,000,000.
  int events_max = 65'536;

  // Disconnect events that are remembered, so that no record which they name is
  // used: of single clients, and others. 1 to 1,000,000; 1 to 65,536.
  int client_disconnects_max = 65'536;
  int disconnects_max = 1024;

  // Records that a standby knows. 1 to 10,000,000.
  int standby_sessions_max = 262'144;

  // Receives the log lines; see logging.h.
  LogSink log_sink = StderrLogSink();

  // Must outlive the keeper. Null: `Clock::Monotonic()`.
  const Clock* clock = nullptr;
  // The time of day. Null: `absl::Now`.
  std::function<absl::Time()> wall_clock;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

// The ranges of those options that programs offer as settings.
namespace session_keeper_ranges {
inline constexpr DurationRange kRecordLifetime{
    "SessionKeeperOptions::record_lifetime", absl::Seconds(10),
    absl::Hours(24)};
inline constexpr DurationRange kLeaseInterval{
    "SessionKeeperOptions::lease_interval", absl::Milliseconds(100),
    absl::Minutes(1)};
}  // namespace session_keeper_ranges

}  // namespace udpgate

#endif  // UDPGATE_STORE_SESSION_KEEPER_OPTIONS_H_
