// Disconnect events from a Redis pub/sub channel, and from a stream.
#ifndef UDPGATE_REDIS_REDIS_DISCONNECT_SOURCE_H_
#define UDPGATE_REDIS_REDIS_DISCONNECT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {

// Numbers since the source was created.
struct UDPGATE_EXPORT RedisDisconnectSourceStats {
  bool is_subscribed = false;
  // Since `is_subscribed` changed, or since the source was created.
  absl::Duration subscribed_age;
  // Times that events may have been lost, of the channel or of the stream.
  uint64_t gaps = 0;
  bool is_reading_stream = false;
  uint64_t stream_entries_read = 0;
  // Events that came by the channel and by the stream.
  uint64_t pairs = 0;
  // Events that made room for others (`RedisOptions::disconnect_pairs_max`)
  // although the same event could still have come by the other way.
  uint64_t pairs_forgotten = 0;
  RedisProblem channel_problem = RedisProblem::kNone;
  RedisProblem stream_problem = RedisProblem::kNone;
};

// Subscribes to `RedisOptions::disconnect_channel` and passes each payload to
// the handler, as `DisconnectTarget::Parse` reads it.
//
//   redis-cli PUBLISH udp_gate:disconnect 203.0.113.7:54321
//
// If the connection is lost, or a PING gets no reply, the source reconnects and
// subscribes again, with jittered back-off. Redis keeps no events for a
// disconnected subscriber: events published meanwhile are lost, and a line in
// the log says so. A dead connection is noticed within
// `RedisOptions::ping_interval` and `command_timeout`.
//
// With `RedisOptions::disconnect_stream` it also reads that stream, which Redis
// keeps meanwhile, and goes on after the entry that it has read last:
//
//   redis-cli XADD events MAXLEN '~' 10000 '*' event 203.0.113.7:54321
//
// The age of such an event (`DisconnectTarget::age`) is that of the entry, so
// sessions that began later stay. The same payload on both within 2 seconds is
// one event, of which the second has the time of the first.
//
// Threads: `Start` and `Stop` as `DisconnectSource` says, `Health` from any
// thread, as the rest. While started it has a thread of its own,
// "udpgate-redis-s", and another for the stream, "udpgate-redis-d", which call
// the handler. If the handler blocks, events queue in Redis, which closes
// the connection if there are too many (`client-output-buffer-limit`).
class UDPGATE_EXPORT RedisDisconnectSource final : public DisconnectSource {
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

  // OK while subscribed, and reading the stream, if there is one.
  absl::Status Health() const override;

  RedisDisconnectSourceStats GetStats() const;

  // The id of the last entry of the stream that was handled, for a takeover;
  // empty if there is none.
  std::string stream_position() const;
  // Continues from another source's `stream_position`, if that is before its
  // own position. Other text is ignored.
  void ContinueStreamFrom(absl::string_view position);

 private:
  class Impl;
  explicit RedisDisconnectSource(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_DISCONNECT_SOURCE_H_
