// What the parts of a `KeeperCore` share.
#ifndef UDPGATE_STORE_INTERNAL_KEEPER_CONTEXT_H_
#define UDPGATE_STORE_INTERNAL_KEEPER_CONTEXT_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/logging.h"
#include "udpgate/session_store.h"
#include "udpgate/store/internal/kept_gateway.h"
#include "udpgate/store/session_keeper_options.h"
#include "udpgate/store/session_keeper_stats.h"

namespace udpgate {
namespace store {
namespace internal {

inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// Records of one call.
inline constexpr size_t kBatchMax = 128;

// Of the session part of a token: the record was adopted for a client whose
// session is not confirmed yet.
inline constexpr uint64_t kClaimBit = uint64_t{1} << 63;

inline bool IsClaim(const SessionToken& token) {
  return (token.session & kClaimBit) != 0;
}

// What is logged at most once in ten seconds.
enum class LogTopic : uint8_t {
  kStore,
  kFence,
  kRecord,
  kLost,
  kClock,
  kQueue,
  kRecovery,
  kRecovered,
  kStandby,
  kCount,
};

// Threads: one at a time.
struct KeeperContext {
  const SessionKeeperOptions* options = nullptr;
  KeptGateway* gateway = nullptr;  // null before it is known
  SessionKeeperStats stats;

  // Of this iteration.
  int64_t now_nanoseconds = 0;
  absl::Time now_wall;

  uint64_t run = 0;
  uint64_t claim_count = 0;  // begins at random
  bool is_standby = false;
  bool is_fenced = false;

  int64_t After(absl::Duration time) const {
    return now_nanoseconds + absl::ToInt64Nanoseconds(time);
  }
  // The time of day at this moment of the monotonic clock.
  absl::Time WallAt(int64_t nanoseconds) const {
    return now_wall - absl::Nanoseconds(now_nanoseconds - nanoseconds);
  }
  // The age that a session of this record has here: an event that may have come
  // after its begin must end it.
  absl::Duration AgeOf(const StoredSession& record) const {
    return std::max(now_wall - record.since, absl::ZeroDuration()) +
           options->clock_difference_max;
  }
  SessionToken NextClaim() { return {run, kClaimBit | ++claim_count}; }

  // Logs, unless a line of the same topic was logged within ten seconds.
  void Log(LogSeverity severity, LogTopic topic, absl::string_view text) {
    if (options->log_sink == nullptr) return;
    int64_t& next = next_log_nanoseconds[static_cast<size_t>(topic)];
    uint64_t& held_back = held_back_logs[static_cast<size_t>(topic)];
    if (now_nanoseconds < next) {
      ++held_back;
      return;
    }
    next = After(absl::Seconds(10));
    options->log_sink(severity, held_back == 0
                                    ? std::string(text)
                                    : absl::StrCat(text, " (", held_back,
                                                   " more not logged)"));
    held_back = 0;
  }

  std::array<int64_t, static_cast<size_t>(LogTopic::kCount)>
      next_log_nanoseconds = {};
  std::array<uint64_t, static_cast<size_t>(LogTopic::kCount)> held_back_logs =
      {};
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_KEEPER_CONTEXT_H_
