// The ranges of those `RedisOptions` that programs offer as settings; compare
// proxy_option_ranges.h.
#ifndef UDPGATE_REDIS_REDIS_OPTION_RANGES_H_
#define UDPGATE_REDIS_REDIS_OPTION_RANGES_H_

#include <cstddef>

#include "absl/time/time.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace redis_ranges {

// The keys and the channel.
inline constexpr size_t kNameBytesMax = 1024;
inline constexpr size_t kUsernameBytesMax = 1024;
inline constexpr size_t kPasswordBytesMax = 4096;
// Of the options that name a file.
inline constexpr size_t kPathBytesMax = 1024;

// Nodes that `RedisCluster` is told of.
inline constexpr size_t kSeedsMax = 16;

// Of `RedisSentinelOptions::sentinels`.
inline constexpr size_t kSentinelsMax = 16;

// Redis' own configuration sets how many databases exist.
inline constexpr IntegerRange kDatabase{"RedisOptions::database", 0, 1'000'000};
inline constexpr DurationRange kCommandTimeout{
    "RedisOptions::command_timeout", absl::Milliseconds(1), absl::Minutes(1)};
inline constexpr DurationRange kStaleBackendAgeMax{
    "RedisOptions::stale_backend_age_max", absl::ZeroDuration(),
    absl::Hours(24)};
inline constexpr DurationRange kDisconnectAgeMax{
    "RedisOptions::disconnect_age_max", absl::ZeroDuration(), absl::Hours(24)};
inline constexpr IntegerRange kGetsPerSecondMax{
    "RedisOptions::gets_per_second_max", 1, 1'000'000};
inline constexpr IntegerRange kKeySetsMax{"RedisOptions::key_sets_max", 1,
                                          1'000'000};
inline constexpr IntegerRange kEventStreamEntriesMax{
    "RedisEventStreamOptions::entries_max", 1, 100'000'000};

}  // namespace redis_ranges
}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_OPTION_RANGES_H_
