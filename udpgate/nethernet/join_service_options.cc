#include "udpgate/nethernet/join_service_options.h"

#include "absl/strings/str_cat.h"
#include "udpgate/nethernet/internal/json_object.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace nethernet {
namespace {

struct NameAndHelp {
  absl::string_view name;
  absl::string_view help;
};

constexpr NameAndHelp kJoinResults[] = {
#define UDPGATE_ONE(value, name, help) {name, help},
    UDPGATE_JOIN_RESULTS(UDPGATE_ONE)
#undef UDPGATE_ONE
};

constexpr absl::string_view kPathNames[kRequestPathCount] = {"status", "join",
                                                             "other"};

constexpr absl::Duration kTimeoutMin = absl::Milliseconds(10);
constexpr absl::Duration kTimeoutMax = absl::Hours(1);
constexpr int64_t kCountMax = 1'000'000;

absl::Status CheckStatusText(const JoinServiceOptions& options) {
  if (options.status_json.empty()) return absl::OkStatus();
  if (options.status_json.size() > options.status_bytes_max) {
    return OptionError(
        absl::StatusCode::kInvalidArgument, "status_json",
        absl::StrCat(" has ", options.status_json.size(),
                     " bytes; allowed are ", options.status_bytes_max));
  }
  if (!internal::IsJsonObject(options.status_json)) {
    return OptionError(absl::StatusCode::kInvalidArgument, "status_json",
                       " is not a JSON object");
  }
  return absl::OkStatus();
}

absl::Status CheckPublicAddresses(const JoinServiceOptions& options) {
  for (const SocketAddress& address : options.public_addresses) {
    if (address.is_unicast()) continue;
    return OptionError(absl::StatusCode::kInvalidArgument, "public_addresses",
                       absl::StrCat(" contain ", address.ToString(),
                                    ", which is not the address of one host"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status JoinServiceOptions::Validate() const {
  const auto number = [](absl::string_view option, int64_t minimum,
                         int64_t maximum, int64_t value) {
    return IntegerRange{option, minimum, maximum}.Check(value);
  };
  const auto time = [](absl::string_view option, absl::Duration minimum,
                       absl::Duration maximum, absl::Duration value) {
    return DurationRange{option, minimum, maximum}.Check(value);
  };
  const absl::Duration zero = absl::ZeroDuration();
  for (const absl::Status& status : {
           number("public_addresses.size()", 0, 16,
                  static_cast<int64_t>(public_addresses.size())),
           CheckPublicAddresses(*this),
           number("proxy_port", 1, 65535, proxy_port),
           number("status_bytes_max", 1, 1 << 20,
                  static_cast<int64_t>(status_bytes_max)),
           CheckStatusText(*this),
           time("status_age_max", zero, absl::Minutes(1), status_age_max),
           time("status_failure_age_max", zero, absl::Minutes(1),
                status_failure_age_max),
           time("status_timeout", kTimeoutMin, kTimeoutMax, status_timeout),
           number("status_waiters_max", 1, kCountMax, status_waiters_max),
           number("status_backends_max", 1, 10'000, status_backends_max),
           time("answer_timeout", kTimeoutMin, kTimeoutMax, answer_timeout),
           time("resolve_timeout", kTimeoutMin, kTimeoutMax, resolve_timeout),
           time("connect_timeout", kTimeoutMin, kTimeoutMax, connect_timeout),
           number("answer_bytes_max", 1, 16 << 20,
                  static_cast<int64_t>(answer_bytes_max)),
           number("joins_in_progress_max", 1, kCountMax, joins_in_progress_max),
           number("joins_per_second_per_ip", 0, kCountMax,
                  joins_per_second_per_ip),
           number("rate_addresses_max", 1, 10'000'000, rate_addresses_max),
       }) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::string_view JoinResultName(JoinResult result) {
  return kJoinResults[static_cast<size_t>(result)].name;
}

absl::string_view JoinResultHelp(JoinResult result) {
  return kJoinResults[static_cast<size_t>(result)].help;
}

absl::string_view RequestPathName(RequestPath path) {
  return kPathNames[static_cast<size_t>(path)];
}

}  // namespace nethernet
}  // namespace udpgate
