// What a `SessionKeeper` counts.
#ifndef UDPGATE_STORE_SESSION_KEEPER_STATS_H_
#define UDPGATE_STORE_SESSION_KEEPER_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "udpgate/base/export.h"

namespace udpgate {

// Upper bounds of the ranges in which the times of the store's replies fall, in
// seconds; one more range is above them.
inline constexpr std::array<double, 8> kStoreSecondsBounds = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0};

// Counters, unless it says gauge.
struct UDPGATE_EXPORT SessionKeeperStats {
  // Records.
  uint64_t written = 0;
  uint64_t refreshed = 0;
  uint64_t removed = 0;
  uint64_t adopted = 0;
  // Sessions of which the store had no record any more, so that it was written
  // again.
  uint64_t rewritten = 0;
  // Sessions that another gateway has adopted, so that they ended here.
  uint64_t lost = 0;
  // Records that were of no use: invalid, or not what was asked for.
  uint64_t invalid = 0;
  // Records that were not used because a disconnect event names them.
  uint64_t disconnected = 0;
  // Records whose session began in the future, by the clock of this gateway.
  uint64_t from_future = 0;

  // Towards the store.
  uint64_t calls = 0;
  uint64_t calls_failed = 0;
  uint64_t changes_dropped = 0;  // `queue_max`
  uint64_t events_dropped = 0;   // `events_max`
  uint64_t changes_waiting = 0;  // gauge
  uint64_t calls_in_flight = 0;  // gauge
  uint64_t sweeps = 0;

  // Sessions that were continued after a start or a promotion; those of them
  // that got another source port; and those that could not be continued.
  uint64_t recovered = 0;
  uint64_t recovered_on_other_port = 0;
  uint64_t recovery_failed = 0;

  // New clients with a record whose owner is dead, and lives; that were not
  // looked up since too many waited, or the store was away; and whose lookup
  // took too long.
  uint64_t newcomers_adopted = 0;
  uint64_t newcomers_of_live_owner = 0;
  // Part of them: whose datagrams may be forwarded to the owner.
  uint64_t newcomers_forwarded = 0;
  uint64_t newcomers_without_record = 0;
  uint64_t newcomers_not_looked_up = 0;
  uint64_t newcomers_timed_out = 0;
  uint64_t newcomers_waiting = 0;  // gauge

  // Disconnect events that were forgotten to make room; those in memory
  // (gauge).
  uint64_t disconnects_forgotten = 0;
  uint64_t disconnects_remembered = 0;

  // Jumps of the time of day.
  uint64_t clock_jumps = 0;

  // Gauges: records of this gateway's sessions; records that a standby knows.
  uint64_t sessions = 0;
  uint64_t standby_sessions = 0;
  bool is_standby = false;
  // Another process uses the same gateway id.
  bool is_fenced = false;
  // The last call of the store has succeeded.
  bool is_store_available = false;
  // Since the lease was renewed last; infinite if never.
  absl::Duration lease_age = absl::InfiniteDuration();

  // Times of the store's replies.
  std::array<uint64_t, kStoreSecondsBounds.size() + 1> calls_by_duration = {};
  double calls_seconds_total = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_STORE_SESSION_KEEPER_STATS_H_
