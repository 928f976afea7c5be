// Writes what happens to sessions into a Redis stream.
#ifndef UDPGATE_REDIS_REDIS_EVENT_STREAM_H_
#define UDPGATE_REDIS_REDIS_EVENT_STREAM_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"
#include "udpgate/session_observer.h"

namespace udpgate {

struct UDPGATE_EXPORT RedisEventStreamOptions {
  // 1 to 1024 bytes.
  std::string key;
  // The field "gateway" of each entry. Up to 256 bytes.
  std::string gateway_id;
  // About how many entries Redis keeps (XADD MAXLEN ~). 1 to 100,000,000.
  int64_t entries_max = 100'000;
  // Events that wait for Redis; more are dropped. 1 to 1,000,000.
  int queue_events_max = 10'000;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

// Numbers since the stream was created.
struct UDPGATE_EXPORT RedisEventStreamStats {
  bool is_writing = false;
  uint64_t events_written = 0;
  uint64_t events_dropped = 0;  // the queue was full, or Redis has refused it
  int64_t events_waiting = 0;
  RedisProblem problem = RedisProblem::kNone;
};

// Appends each event as an entry whose fields are "time", "gateway", and those
// of `SessionEventFields`, with the names that they have in the session log of
// udp-gate as well. Commands are pipelined. Events wait for Redis in a bounded
// queue, and so no session waits for it. An event that was sent when the
// connection was lost is sent again, so it may be in the stream twice.
//
//   udpgate::RedisEventStreamOptions stream_options;
//   stream_options.key = "my_gate:events";
//   auto events = udpgate::RedisEventStream::Create(options, stream_options,
//                                                   lookup);
//   if (!events.ok()) return events.status();
//   dependencies.session_observer = *events;
//   if (absl::Status status = (*events)->Start(); !status.ok()) return status;
//   ...
//   proxy->Stop();                        // the last events
//   (*events)->Flush(absl::Seconds(1));
//
// Threads: `Start` and `Stop` from one thread, the rest from any. It has one
// thread of its own, "udpgate-redis-e".
class UDPGATE_EXPORT RedisEventStream final : public SessionObserver {
 public:
  // `lookup` must not be null. InvalidArgument from the `Validate` of either.
  static absl::StatusOr<std::shared_ptr<RedisEventStream>> Create(
      RedisOptions options, RedisEventStreamOptions stream_options,
      std::shared_ptr<HostLookup> lookup);
  // Stops first, if needed.
  ~RedisEventStream() override;

  // Starts to connect; once. ResourceExhausted if no thread or descriptor is
  // left. A Redis that cannot be reached is not an error.
  absl::Status Start();
  // Events that wait are dropped and counted. May be called twice.
  void Stop();

  // Waits until Redis has every event so far. False if it has not after
  // `timeout`, or at once if it cannot be reached.
  bool Flush(absl::Duration timeout);

  void Observe(const SessionEvent& event) override;

  RedisEventStreamStats GetStats() const;

 private:
  class Impl;
  explicit RedisEventStream(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_EVENT_STREAM_H_
