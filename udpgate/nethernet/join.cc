#include "udpgate/nethernet/join.h"

#include "udpgate/option_error.h"

namespace udpgate {
namespace nethernet {
namespace {

constexpr IntegerRange kJoinsMax{"joins_max", 1, 1'000'000};
constexpr IntegerRange kSharedJoinsMax{"shared_joins_max", 0, 1'000'000};
constexpr IntegerRange kAddressesPerJoinMax{"addresses_per_join_max", 1, 1024};
constexpr DurationRange kJoinTimeout{"join_timeout", absl::Seconds(1),
                                     absl::Hours(1)};
constexpr DurationRange kLinger{"linger", absl::ZeroDuration(), absl::Hours(1)};

}  // namespace

absl::string_view JoinStateName(JoinInfo::State state) {
  switch (state) {
    case JoinInfo::State::kWaiting:
      return "waiting";
    case JoinInfo::State::kLive:
      return "live";
    case JoinInfo::State::kLingering:
      return "lingering";
  }
  return "";
}

absl::Status JoinTableOptions::Validate() const {
  absl::Status status = kJoinsMax.Check(joins_max);
  status.Update(kJoinTimeout.Check(join_timeout));
  status.Update(kLinger.Check(linger));
  status.Update(kAddressesPerJoinMax.Check(addresses_per_join_max));
  status.Update(kSharedJoinsMax.Check(shared_joins_max));
  return status;
}

}  // namespace nethernet
}  // namespace udpgate
