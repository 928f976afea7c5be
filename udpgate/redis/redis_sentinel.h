// Redis behind Sentinel (https://redis.io/docs/reference/sentinel-clients/):
// finds the master, and follows it when Sentinel moves it.
//
//   udpgate::RedisSentinelOptions sentinel;
//   sentinel.sentinels = {"10.0.0.1:26379", "10.0.0.2:26379"};
//   sentinel.master = "mymaster";
//   auto master = udpgate::RedisSentinel::Create(sentinel, *lookup);
//   udpgate::RedisOptions options;
//   udpgate::RedisSentinel::SetSource(*master, &options);
#ifndef UDPGATE_REDIS_REDIS_SENTINEL_H_
#define UDPGATE_REDIS_REDIS_SENTINEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/logging.h"
#include "udpgate/redis/redis_address_source.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {

struct UDPGATE_EXPORT RedisSentinelOptions {
  // `host:port` of each, 1 to 16. They are asked in turn; one that replies is
  // asked first from then on.
  std::vector<std::string> sentinels;

  // The name under which they watch the master. See
  // `IsRedisMasterName`.
  std::string master;

  // The login at the sentinels, which is not that at Redis. Empty: none. Up to
  // 1024 and 4096 bytes. The password appears in no log line or error.
  std::string username;
  std::string password;

  // File that holds the password instead, as in RedisOptions. It is read at
  // each connect, since a subscription takes no AUTH.
  std::string password_file;

  // TLS to the sentinels. Null: none.
  std::shared_ptr<const RedisTransportFactory> transport;

  // As in RedisOptions.
  absl::Duration command_timeout = absl::Seconds(1);
  absl::Duration reconnect_backoff_min = absl::Milliseconds(20);
  absl::Duration reconnect_backoff_max = absl::Seconds(1);
  absl::Duration ping_interval = absl::Seconds(1);
  // Connections that wait for the master's address; more are told that there is
  // none. 1 to 65536.
  int questions_waiting_max = 64;
  LogSink log_sink = StderrLogSink();
  const Clock* clock = nullptr;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

// Numbers since it was created.
struct UDPGATE_EXPORT RedisSentinelStats {
  bool is_subscribed = false;      // to one of the sentinels
  uint64_t sentinels_failed = 0;   // connections lost, and failed attempts
  uint64_t master_changes = 0;     // of its address
  uint64_t questions_refused = 0;  // at `questions_waiting_max`
  RedisProblem problem = RedisProblem::kNone;
};

// One connection to one of the sentinels, on a thread of its own, for all
// connections to Redis, which so move together. It is subscribed to
// +switch-master. Threads: any.
class UDPGATE_EXPORT RedisSentinel final : public RedisAddressSource {
 public:
  // Errors: InvalidArgument from `Validate`, ResourceExhausted if no thread or
  // descriptor is left.
  static absl::StatusOr<std::shared_ptr<RedisSentinel>> Create(
      RedisSentinelOptions options, std::shared_ptr<HostLookup> lookup);
  ~RedisSentinel() override;

  // Lets `options` reach the master that `sentinel` names.
  static void SetSource(std::shared_ptr<RedisSentinel> sentinel,
                        RedisOptions* options);

  // OK while subscribed to a sentinel, else the reason.
  absl::Status Health() const;

  RedisSentinelStats GetStats() const;

  void Find(absl::Duration timeout, Found found) override;
  void Watch(std::weak_ptr<const Watcher> watcher) override;
  void Distrust() override;
  bool names_masters() const override { return true; }

 private:
  class Impl;
  explicit RedisSentinel(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_SENTINEL_H_
