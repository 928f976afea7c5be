#include "udpgate/redis/redis_options.h"

#include <sys/un.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "udpgate/dns/host_port.h"

namespace udpgate {
namespace {

constexpr size_t kNameBytesMax = 1024;
constexpr size_t kSecretBytesMax = 4096;
constexpr size_t kUnixPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

absl::Status Invalid(absl::string_view field, absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("RedisOptions::", field, " must be ", allowed));
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
    return absl::InvalidArgumentError(
        absl::StrCat("RedisOptions::address: ", parsed.status().message()));
  }
  // A NUL would cut the path, or begin an abstract name (unix(7)).
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
  if (!IsBetween(options.command_timeout, min, absl::Minutes(1))) {
    return Invalid("command_timeout", "1 ms to 1 minute");
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
  if (!IsBetween(options.stale_backend_age_max, absl::ZeroDuration(),
                 absl::Hours(24))) {
    return Invalid("stale_backend_age_max", "0 to 24 hours");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RedisOptions::Validate() const {
  if (absl::Status status = ValidateAddress(address); !status.ok()) {
    return status;
  }
  if (username.size() > kSecretBytesMax) {
    return Invalid("username", "up to 4096 bytes");
  }
  if (password.size() > kSecretBytesMax) {
    return Invalid("password", "up to 4096 bytes");
  }
  if (!IsBetween(database, 0, 1'000'000)) {
    return Invalid("database", "0 to 1000000");
  }
  if (!IsName(backend_key)) return Invalid("backend_key", "1 to 1024 bytes");
  if (!IsName(disconnect_channel)) {
    return Invalid("disconnect_channel", "1 to 1024 bytes");
  }
  if (absl::Status status = ValidateTimes(*this); !status.ok()) return status;
  if (!IsBetween(gets_in_flight_max, 1, 1024)) {
    return Invalid("gets_in_flight_max", "1 to 1024");
  }
  if (!IsBetween(gets_per_second_max, 1, 1'000'000)) {
    return Invalid("gets_per_second_max", "1 to 1000000");
  }
  if (!IsBetween(requests_waiting_max, 1, 1'000'000)) {
    return Invalid("requests_waiting_max", "1 to 1000000");
  }
  if (!IsBetween(disconnect_payload_bytes_max, 1, 32768)) {
    return Invalid("disconnect_payload_bytes_max", "1 to 32768");
  }
  return absl::OkStatus();
}

}  // namespace udpgate
