// Appends entries to a Redis stream.
#ifndef UDPGATE_REDIS_INTERNAL_STREAM_WRITER_H_
#define UDPGATE_REDIS_INTERNAL_STREAM_WRITER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {
namespace redis {
namespace internal {

struct StreamWriterOptions {
  std::string key;
  int64_t entries_max = 0;  // about how many entries Redis keeps (MAXLEN ~)
  // How long Redis keeps the key after the last entry. Infinite: for ever.
  absl::Duration key_lifetime = absl::InfiniteDuration();
  size_t queue_entries_max = 0;  // entries that wait; more are dropped
  size_t in_flight_max = 128;    // XADDs without a reply
};

// Numbers since the writer was created.
struct StreamWriterStats {
  bool is_writing = false;
  uint64_t entries_written = 0;
  uint64_t entries_dropped = 0;  // the queue was full, or Redis has refused it
  int64_t entries_waiting = 0;
  RedisProblem problem = RedisProblem::kNone;
};

// Pipelines XADDs from a bounded queue, over a connection with a thread of its
// own. An entry whose reply is lost with the connection is written again, so it
// may be in the stream twice.
//
// Threads: `Start` and `Stop` from one thread, `Append`, `Flush` and `GetStats`
// from any.
class StreamWriter final : public ConnectionOwner {
 public:
  // Fields and values, in turns.
  using Entry = std::vector<std::string>;

  // The texts are those of Connection. `options.clock` must not be null.
  StreamWriter(const RedisOptions& options, StreamWriterOptions writer_options,
               std::shared_ptr<HostLookup> lookup, absl::string_view what_for,
               absl::string_view thread_name);
  ~StreamWriter() override { Stop(); }
  StreamWriter(const StreamWriter&) = delete;
  StreamWriter& operator=(const StreamWriter&) = delete;

  absl::Status Start() { return connection_.Start(); }
  // Entries that wait are dropped.
  void Stop();

  // Does not block. False, and counted, if the queue is full.
  bool Append(Entry entry);

  // OK while connected, else the reason.
  absl::Status Health() const { return connection_.Health(); }

  // Waits until each entry has a reply. False if some have none after
  // `timeout`, or at once if there is no connection.
  bool Flush(absl::Duration timeout);

  StreamWriterStats GetStats() const;

  void OnConnected() override;
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {}
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;

 private:
  // The oldest one without a reply; nullopt if there is none.
  absl::optional<Entry> TakeWritten();
  void Write(const Entry& entry);
  void WriteLifetime(int64_t now_nanoseconds);

  const StreamWriterOptions options_;
  const Clock* const clock_;
  const std::string key_name_;
  const std::string entries_max_text_;
  std::atomic<uint64_t> entries_written_{0};
  std::atomic<uint64_t> entries_dropped_{0};

  mutable udpgate::internal::Mutex mutex_;
  udpgate::internal::ConditionVariable flushed_;
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mutex_);
  // What was sent and has no reply; an empty one is a PEXPIRE.
  std::deque<Entry> in_flight_ ABSL_GUARDED_BY(mutex_);

  // Used by the thread only.
  // The last entry, and the last PEXPIRE, got an error.
  bool has_entry_error_ = false;
  bool has_expire_error_ = false;
  int64_t next_expire_nanoseconds_ = INT64_MIN;
  std::vector<absl::string_view> arguments_;
  Connection connection_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_STREAM_WRITER_H_
