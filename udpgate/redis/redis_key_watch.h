// A text that Redis holds for a whole fleet, kept up to date.
#ifndef UDPGATE_REDIS_REDIS_KEY_WATCH_H_
#define UDPGATE_REDIS_REDIS_KEY_WATCH_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {

struct UDPGATE_EXPORT RedisKeyWatchOptions {
  // 1 to 1024 bytes.
  std::string key;
  // How often the key is read. 10 ms to 1 hour.
  absl::Duration interval = absl::Seconds(1);
  // How long the last value holds while Redis cannot be asked. 0 to 24 hours.
  absl::Duration stale_max = absl::Minutes(1);
  // A longer value counts as none. 1 to 1 MiB.
  size_t value_bytes_max = 64 * 1024;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

// Numbers since the watch was created.
struct UDPGATE_EXPORT RedisKeyWatchStats {
  bool is_connected = false;
  uint64_t reads = 0;           // replies with or without a value
  uint64_t values_refused = 0;  // too long, or not a string
  RedisProblem problem = RedisProblem::kNone;
};

// Reads one key again and again (GETRANGE), and reports its value when it
// changes.
//
//   auto watch = udpgate::RedisKeyWatch::Create(options, watch_options,
//   lookup); if (!watch.ok()) return watch.status();
//   (*watch)->Start([&](absl::optional<std::string> value) {
//     service->SetFleetStatus(std::move(value));
//   });
//
// Threads: `Start` and `Stop` from one thread, the rest from any. It has one
// thread of its own, "udpgate-redis-k", which calls the handler.
class UDPGATE_EXPORT RedisKeyWatch {
 public:
  // The value, or nullopt if there is none: the key is missing, empty, no
  // string, too long, or Redis has not been reachable for `stale_max`. Called
  // when that changes; at first there is none. Must not block for long.
  using Handler = std::function<void(absl::optional<std::string> value)>;

  // `lookup` must not be null. InvalidArgument from the `Validate` of either.
  static absl::StatusOr<std::unique_ptr<RedisKeyWatch>> Create(
      RedisOptions options, RedisKeyWatchOptions watch_options,
      std::shared_ptr<HostLookup> lookup);
  // Stops first, if needed.
  ~RedisKeyWatch();
  RedisKeyWatch(const RedisKeyWatch&) = delete;
  RedisKeyWatch& operator=(const RedisKeyWatch&) = delete;

  // Starts to connect; once. ResourceExhausted if no thread or descriptor is
  // left. A Redis that cannot be reached is not an error.
  absl::Status Start(Handler handler);
  // Returns after a running call of the handler. May be called twice.
  void Stop();

  // OK while the key can be read, also if it has no value.
  absl::Status Health() const;

  RedisKeyWatchStats GetStats() const;

 private:
  class Impl;
  explicit RedisKeyWatch(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_KEY_WATCH_H_
