// Disconnect events from a Redis pub/sub channel.
#ifndef UDPGATE_REDIS_REDIS_DISCONNECT_SOURCE_H_
#define UDPGATE_REDIS_REDIS_DISCONNECT_SOURCE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {

// Subscribes to `RedisOptions::disconnect_channel` and hands each payload on,
// as `DisconnectTarget::Parse` reads it.
//
//   redis-cli PUBLISH udp_gate:disconnect 203.0.113.7:54321
//
// A connection that is lost, or silent when asked for a sign of life, is made
// and subscribed again, with jittered back-off. Redis keeps no event for a
// subscriber that is away: what was published meanwhile is lost.
//
// Threads: `Start` and `Stop` as `DisconnectSource` says, `Health` from any
// thread. It has one thread of its own while started, "udpgate-redis-s", which
// calls the handler. A handler that blocks makes events wait in Redis, which
// ends the connection where they grow too many (`client-output-buffer-limit`).
class RedisDisconnectSource final : public DisconnectSource {
 public:
  // `lookup`, which must not be null, serves the name of Redis. Errors:
  // InvalidArgument from `RedisOptions::Validate`.
  static absl::StatusOr<std::shared_ptr<RedisDisconnectSource>> Create(
      RedisOptions options, std::shared_ptr<HostLookup> lookup);

  // Stops first, where needed.
  ~RedisDisconnectSource() override;

  // Begins to connect. Errors: ResourceExhausted where there is no thread or
  // descriptor left, FailedPrecondition when called twice. A Redis that cannot
  // be reached is no error.
  absl::Status Start(Handler handler) override;

  // Within 100 ms whatever Redis does, once the handler returns.
  void Stop() override;

  // OK while subscribed.
  absl::Status Health() const override;

 private:
  class Impl;
  explicit RedisDisconnectSource(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_DISCONNECT_SOURCE_H_
