// A Redis stream through which the gateways of a fleet tell each other short
// messages, such as joins of players.
#ifndef UDPGATE_REDIS_REDIS_STREAM_H_
#define UDPGATE_REDIS_REDIS_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {

struct UDPGATE_EXPORT RedisStreamOptions {
  // 1 to 1024 bytes.
  std::string key;
  // About how many entries Redis keeps (XADD MAXLEN ~). 1 to 10,000,000.
  int64_t entries_max = 20000;
  // What is read first on each connection: the entries of this time. 0 to 1
  // hour.
  absl::Duration backlog = absl::Minutes(1);
  // How long Redis keeps the key after the last entry. 1 minute to 24 hours.
  absl::Duration key_lifetime = absl::Minutes(10);
  // A longer entry is neither written nor reported. 1 to 16384 bytes.
  size_t entry_bytes_max = 8192;
  // Entries that wait for Redis; more are dropped. 1 to 1,000,000.
  int queue_entries_max = 10000;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

// Numbers since the stream was created.
struct UDPGATE_EXPORT RedisStreamStats {
  bool is_reading = false;
  bool is_writing = false;
  uint64_t entries_written = 0;
  uint64_t entries_read = 0;     // of other gateways
  uint64_t entries_dropped = 0;  // too long, queue full, or refused by Redis
  uint64_t entries_invalid = 0;  // read, and of no use
  int64_t entries_waiting = 0;
  RedisProblem read_problem = RedisProblem::kNone;
  RedisProblem write_problem = RedisProblem::kNone;
};

// Appends entries (XADD), and reports those of others (XREAD BLOCK). After each
// reconnect the entries of the last `backlog` are reported again, so the
// handler must accept an entry twice.
//
//   auto stream = udpgate::RedisStream::Create(options, stream_options,
//   lookup); if (!stream.ok()) return stream.status();
//   (*stream)->Start([&](absl::string_view entry, absl::Duration age) { ... });
//   (*stream)->Append("hello");
//
// Threads: `Start` and `Stop` from one thread, the rest from any. It has two
// threads of its own: "udpgate-redis-r", which calls the handler, and
// "udpgate-redis-w".
class UDPGATE_EXPORT RedisStream {
 public:
  // `age`: since the entry was written, by the clock of Redis, at least 0.
  using Handler =
      std::function<void(absl::string_view entry, absl::Duration age)>;

  // `lookup` must not be null. InvalidArgument from the `Validate` of either.
  static absl::StatusOr<std::unique_ptr<RedisStream>> Create(
      RedisOptions options, RedisStreamOptions stream_options,
      std::shared_ptr<HostLookup> lookup);
  // Stops first, if needed.
  ~RedisStream();
  RedisStream(const RedisStream&) = delete;
  RedisStream& operator=(const RedisStream&) = delete;

  // Starts to connect; once. ResourceExhausted if no thread or descriptor is
  // left. A Redis that cannot be reached is not an error.
  absl::Status Start(Handler handler);
  // Returns after a running call of the handler. Entries that wait are dropped.
  // May be called twice.
  void Stop();

  // After Start. Queues an entry; it is sent at once if Redis is connected.
  // Does not block. False if it is too long or the queue is full.
  bool Append(absl::string_view entry);

  // OK while it reads and writes, else the reason.
  absl::Status Health() const;

  RedisStreamStats GetStats() const;

 private:
  class Impl;
  explicit RedisStream(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_STREAM_H_
