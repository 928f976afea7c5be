#include "udpgate/store/session_keeper_options.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace {

constexpr size_t kForwardAddressBytesMax = 128;

absl::Status Invalid(absl::string_view field, absl::string_view allowed) {
  return OptionError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("SessionKeeperOptions::", field),
                     absl::StrCat(" must be ", allowed));
}

bool IsId(absl::string_view id) {
  return !id.empty() && id.size() <= kGatewayIdBytesMax &&
         std::all_of(id.begin(), id.end(), absl::ascii_isgraph);
}

struct Time {
  absl::Duration value;
  DurationRange range;
};

struct Count {
  int64_t value;
  IntegerRange range;
};

}  // namespace

absl::Status SessionKeeperOptions::Validate() const {
  if (!IsId(gateway_id)) {
    return Invalid("gateway_id",
                   "1 to 64 printable ASCII characters without spaces");
  }
  if (forward_address.size() > kForwardAddressBytesMax) {
    return Invalid("forward_address", "at most 128 bytes");
  }
  const absl::Duration zero = absl::ZeroDuration();
  const Time times[] = {
      {record_lifetime, session_keeper_ranges::kRecordLifetime},
      {lease_interval, session_keeper_ranges::kLeaseInterval},
      {newcomer_timeout,
       {"SessionKeeperOptions::newcomer_timeout", zero, absl::Minutes(1)}},
      {recovery_connect_timeout,
       {"SessionKeeperOptions::recovery_connect_timeout", zero,
        absl::Minutes(1)}},
      {recovery_timeout,
       {"SessionKeeperOptions::recovery_timeout", zero, absl::Minutes(10)}},
      {sweep_interval,
       {"SessionKeeperOptions::sweep_interval", absl::Seconds(1),
        absl::Hours(1)}},
      {write_delay,
       {"SessionKeeperOptions::write_delay", zero, absl::Seconds(10)}},
      {follow_interval,
       {"SessionKeeperOptions::follow_interval", absl::Milliseconds(100),
        absl::Minutes(1)}},
      {clock_difference_max,
       {"SessionKeeperOptions::clock_difference_max", zero, absl::Hours(1)}},
      {stop_timeout,
       {"SessionKeeperOptions::stop_timeout", zero, absl::Seconds(10)}},
  };
  for (const Time& time : times) {
    absl::Status status = time.range.Check(time.value);
    if (!status.ok()) return status;
  }
  if (lease_lifetime < 2 * lease_interval ||
      lease_lifetime > absl::Minutes(10)) {
    return Invalid("lease_lifetime", "twice lease_interval to 10 minutes");
  }
  const Count counts[] = {
      {queue_max, {"SessionKeeperOptions::queue_max", 1, 10'000'000}},
      {calls_per_second_max,
       {"SessionKeeperOptions::calls_per_second_max", 10, 100'000}},
      {calls_in_flight_max,
       {"SessionKeeperOptions::calls_in_flight_max", 1, 256}},
      {newcomers_waiting_max,
       {"SessionKeeperOptions::newcomers_waiting_max", 1, 1'000'000}},
      {finds_per_second_max,
       {"SessionKeeperOptions::finds_per_second_max", 1, 1'000'000}},
      {events_max, {"SessionKeeperOptions::events_max", 1, 10'000'000}},
      {client_disconnects_max,
       {"SessionKeeperOptions::client_disconnects_max", 1, 1'000'000}},
      {disconnects_max, {"SessionKeeperOptions::disconnects_max", 1, 65'536}},
      {standby_sessions_max,
       {"SessionKeeperOptions::standby_sessions_max", 1, 10'000'000}},
  };
  for (const Count& count : counts) {
    absl::Status status = count.range.Check(count.value);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace udpgate
