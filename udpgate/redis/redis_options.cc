#include "udpgate/redis/redis_options.h"

#include <sys/un.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/key_templates.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace {

using redis_ranges::kNameBytesMax;
using redis_ranges::kPasswordBytesMax;
using redis_ranges::kPathBytesMax;
using redis_ranges::kUsernameBytesMax;
constexpr size_t kUnixPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

absl::Status Invalid(absl::string_view field, absl::string_view allowed) {
  return OptionError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("RedisOptions::", field),
                     absl::StrCat(" must be ", allowed));
}

bool IsBetween(absl::Duration value, absl::Duration min, absl::Duration max) {
  return value >= min && value <= max;
}

bool IsBetween(int value, int min, int max) {
  return value >= min && value <= max;
}

bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kNameBytesMax;
}

absl::Status ValidateAddress(absl::string_view address) {
  if (!absl::ConsumePrefix(&address, "unix:")) {
    const absl::StatusOr<HostPort> parsed = HostPort::Parse(address);
    if (parsed.ok()) return absl::OkStatus();
    return OptionError(absl::StatusCode::kInvalidArgument,
                       "RedisOptions::address",
                       absl::StrCat(": ", parsed.status().message()));
  }
  // A NUL would end the path, or start an abstract name (unix(7)).
  if (!address.empty() && address.size() <= kUnixPathBytesMax &&
      address.find('\0') == absl::string_view::npos) {
    return absl::OkStatus();
  }
  return Invalid("address",
                 absl::StrCat("host:port or unix:/path with a path of 1 to ",
                              kUnixPathBytesMax, " bytes"));
}

absl::Status ValidateTimes(const RedisOptions& options) {
  const absl::Duration min = absl::Milliseconds(1);
  if (absl::Status status =
          redis_ranges::kCommandTimeout.Check(options.command_timeout);
      !status.ok()) {
    return status;
  }
  if (!IsBetween(options.reconnect_backoff_min, min, absl::Hours(1))) {
    return Invalid("reconnect_backoff_min", "1 ms to 1 hour");
  }
  if (!IsBetween(options.reconnect_backoff_max, options.reconnect_backoff_min,
                 absl::Hours(1))) {
    return Invalid("reconnect_backoff_max", "reconnect_backoff_min to 1 hour");
  }
  if (!IsBetween(options.ping_interval, min, absl::Hours(1))) {
    return Invalid("ping_interval", "1 ms to 1 hour");
  }
  if (!IsBetween(options.reconnect_patience, absl::ZeroDuration(),
                 absl::Minutes(1))) {
    return Invalid("reconnect_patience", "0 to 1 minute");
  }
  if (!IsBetween(options.failure_pause, absl::ZeroDuration(),
                 absl::Seconds(10))) {
    return Invalid("failure_pause", "0 to 10 seconds");
  }
  if (absl::Status status =
          redis_ranges::kDisconnectAgeMax.Check(options.disconnect_age_max);
      !status.ok()) {
    return status;
  }
  return redis_ranges::kStaleBackendAgeMax.Check(options.stale_backend_age_max);
}

}  // namespace

bool IsRedisMasterName(absl::string_view name) {
  return IsName(name) &&
         std::all_of(name.begin(), name.end(), absl::ascii_isgraph);
}

absl::Status RedisOptions::Validate() const {
  const std::string allowed_name =
      absl::StrCat("1 to ", kNameBytesMax, " bytes");
  if (address_source == nullptr) {
    if (absl::Status status = ValidateAddress(address); !status.ok()) {
      return status;
    }
  }
  if (transport != nullptr && absl::StartsWith(address, "unix:")) {
    return Invalid("address", "host:port with TLS");
  }
  if (username.size() > kUsernameBytesMax) {
    return Invalid("username",
                   absl::StrCat("up to ", kUsernameBytesMax, " bytes"));
  }
  if (password.size() > kPasswordBytesMax) {
    return Invalid("password",
                   absl::StrCat("up to ", kPasswordBytesMax, " bytes"));
  }
  if (password_file.size() > kPathBytesMax ||
      password_file.find('\0') != std::string::npos) {
    return Invalid("password_file",
                   absl::StrCat("a path of up to ", kPathBytesMax, " bytes"));
  }
  if (absl::Status status = redis_ranges::kDatabase.Check(database);
      !status.ok()) {
    return status;
  }
  if (!IsName(backend_key)) return Invalid("backend_key", allowed_name);
  if (const auto keys = KeyTemplates::Parse(backend_key); !keys.ok()) {
    return OptionError(absl::StatusCode::kInvalidArgument,
                       "RedisOptions::backend_key",
                       absl::StrCat(": ", keys.status().message()));
  }
  if (!IsName(disconnect_channel)) {
    return Invalid("disconnect_channel", allowed_name);
  }
  if (disconnect_stream.size() > kNameBytesMax) {
    return Invalid("disconnect_stream",
                   absl::StrCat("up to ", kNameBytesMax, " bytes"));
  }
  if (absl::Status status = ValidateTimes(*this); !status.ok()) return status;
  if (!IsBetween(gets_in_flight_max, 1, 1024)) {
    return Invalid("gets_in_flight_max", "1 to 1024");
  }
  if (absl::Status status =
          redis_ranges::kGetsPerSecondMax.Check(gets_per_second_max);
      !status.ok()) {
    return status;
  }
  if (!IsBetween(node_connections_max, 1, 1024)) {
    return Invalid("node_connections_max", "1 to 1024");
  }
  if (!IsBetween(requests_waiting_max, 1, 1'000'000)) {
    return Invalid("requests_waiting_max", "1 to 1000000");
  }
  if (absl::Status status = redis_ranges::kKeySetsMax.Check(key_sets_max);
      !status.ok()) {
    return status;
  }
  if (!IsBetween(disconnect_pairs_max, 1, 1'000'000)) {
    return Invalid("disconnect_pairs_max", "1 to 1000000");
  }
  if (!IsBetween(disconnect_payload_bytes_max, 1, 32768)) {
    return Invalid("disconnect_payload_bytes_max", "1 to 32768");
  }
  return absl::OkStatus();
}

RedisOptions RedisOptions::ForKey(absl::string_view key) const {
  RedisOptions options = *this;
  if (nodes != nullptr) options.address_source = nodes->SourceFor(key);
  return options;
}

RedisOptions RedisOptions::ForAnyNode() const {
  RedisOptions options = *this;
  if (nodes != nullptr) options.address_source = nodes->SourceForAny();
  return options;
}

RedisOptions RedisOptions::WithClock(RedisOptions options) {
  if (options.clock == nullptr) options.clock = Clock::Monotonic();
  return options;
}

}  // namespace udpgate
