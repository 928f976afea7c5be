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

// Subscribes to `RedisOptions::disconnect_channel` and passes each payload to
// the handler, as `DisconnectTarget::Parse` reads it.
//
//   redis-cli PUBLISH udp_gate:disconnect 203.0.113.7:54321
//
// If the connection is lost, or a PING gets no reply, the source reconnects and
// subscribes again, with jittered back-off. Redis keeps no events for a
// disconnected subscriber: events published meanwhile are lost.
//
// Threads: `Start` and `Stop` as `DisconnectSource` says, `Health` from any
// thread. While started it has one thread of its own, "udpgate-redis-s", which
// calls the handler. If the handler blocks, events queue in Redis, which closes
// the connection if there are too many (`client-output-buffer-limit`).
class RedisDisconnectSource final : public DisconnectSource {
 public:
  // `lookup`, which must not be null, resolves the host name of Redis. Errors:
  // InvalidArgument from `RedisOptions::Validate`.
  static absl::StatusOr<std::shared_ptr<RedisDisconnectSource>> Create(
      RedisOptions options, std::shared_ptr<HostLookup> lookup);

  // Stops first, if needed.
  ~RedisDisconnectSource() override;

  // Starts to connect. Errors: ResourceExhausted if no thread or descriptor is
  // left, FailedPrecondition if called twice. A Redis that cannot be reached is
  // not an error.
  absl::Status Start(Handler handler) override;

  // Returns within 100 ms after a running handler has returned, whatever Redis
  // does.
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
