#include "udpgate/dns/host_lookup_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace {

absl::Status OutOfRange(absl::string_view field, absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("HostLookupOptions::", field, " must be ", allowed));
}

}  // namespace

absl::Status HostLookupOptions::Validate() const {
  const auto is_cache_time = [](absl::Duration time) {
    return time >= absl::ZeroDuration() && time <= absl::Hours(1);
  };
  if (!is_cache_time(success_cache_time)) {
    return OutOfRange("success_cache_time", "0 to 1 hour");
  }
  if (!is_cache_time(failure_cache_time)) {
    return OutOfRange("failure_cache_time", "0 to 1 hour");
  }
  if (cache_entries_max < 1 || cache_entries_max > 1'000'000) {
    return OutOfRange("cache_entries_max", "1 to 1000000");
  }
  if (lookups_waiting_max < 1 || lookups_waiting_max > 1'000'000) {
    return OutOfRange("lookups_waiting_max", "1 to 1000000");
  }
  if (attempt_timeout < absl::Milliseconds(1) ||
      attempt_timeout > absl::Minutes(1)) {
    return OutOfRange("attempt_timeout", "1 ms to 1 minute");
  }
  if (attempts_max < 1 || attempts_max > 10) {
    return OutOfRange("attempts_max", "1 to 10");
  }
  if (family_grace < absl::ZeroDuration() || family_grace > absl::Minutes(1)) {
    return OutOfRange("family_grace", "0 to 1 minute");
  }
  if (dns_port < 1 || dns_port > 65535) {
    return OutOfRange("dns_port", "1 to 65535");
  }
  if (files_check_interval < absl::Milliseconds(1) ||
      files_check_interval > absl::Hours(1)) {
    return OutOfRange("files_check_interval", "1 ms to 1 hour");
  }
  return absl::OkStatus();
}

}  // namespace udpgate
