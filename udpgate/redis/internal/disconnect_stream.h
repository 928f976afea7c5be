// Reads disconnect events from a Redis stream.
#ifndef UDPGATE_REDIS_INTERNAL_DISCONNECT_STREAM_H_
#define UDPGATE_REDIS_INTERNAL_DISCONNECT_STREAM_H_

#include <hiredis/hiredis.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/stream_reply.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {
namespace redis {
namespace internal {

// Reads `RedisOptions::disconnect_stream` with XREAD BLOCK, without a consumer
// group: each gateway gets each entry. On a new connection it goes on after the
// last entry that it has read. It may read an entry again, so the age of an
// event matters to whoever handles it.
//
// Threads: `Start` and `Stop` from one, `Health`, `position`, `ContinueFrom`
// and `entries_read` from any. The callbacks run on a thread of its own,
// "udpgate-redis-d".
class DisconnectStream final : public ConnectionOwner {
 public:
  struct Callbacks {
    // `age`: since the entry was added, by the clock of Redis, at least 0.
    std::function<void(absl::string_view payload, absl::Duration age)> event;
    // An entry of no use.
    std::function<void(const absl::Status& why)> invalid;
    // Entries that were added between may not have been read.
    std::function<void(absl::Time from, absl::Time until)> lost;
  };

  // The name of the field with the payload.
  static constexpr char kField[] = "event";

  // `options` must be valid, with a stream and a clock.
  DisconnectStream(RedisOptions options, std::shared_ptr<HostLookup> lookup,
                   Callbacks callbacks);
  // First, since the thread uses the other members.
  ~DisconnectStream() override { connection_.Stop(); }

  absl::Status Start() { return connection_.Start(); }
  void Stop() { connection_.Stop(); }
  // OK while it reads.
  absl::Status Health() const;

  // The id of the last entry that was handled; empty if there is none.
  std::string position() const;
  // Reads from there, if that is before its own position. Text that is no id is
  // ignored.
  void ContinueFrom(absl::string_view position);
  uint64_t entries_read() const { return entries_read_.load(); }
  RedisProblem problem() const { return connection_.problem(); }
  // See Connection; for the callbacks.
  std::string server() const { return connection_.server(); }

  void OnConnected() override;
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {}
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t) override { return Connection::kNever; }

 private:
  enum class Command { kTime, kInfo, kOldest, kRead };

  void Send(Command command,
            std::initializer_list<absl::string_view> arguments);
  void SendTime() { Send(Command::kTime, {"TIME"}); }
  void SendOldest();
  // Asks how many entries there have been, until one was read.
  void SendInfo();
  void TakeInfo(const redisReply& reply);
  // Entries have been added since the first connection, and are gone; no
  // entry was read.
  bool HasLostUnread() const;
  void SendRead();
  // Decides where to read on; `oldest` is the first entry of the stream.
  void ChoosePosition(const absl::optional<StreamId>& oldest);
  // False: the reply is none to that command.
  bool TakeReply(Command command, const redisReply& reply);
  void TakeEntry(const StreamEntry& entry);
  bool TakeContinuation();
  void SetPosition(const StreamId& id, bool is_of_entry);
  // By the clock of Redis.
  int64_t RedisMilliseconds() const;
  void ReportLost(uint64_t from_milliseconds);

  const RedisOptions options_;
  const std::string key_name_;
  const Callbacks callbacks_;
  std::atomic<bool> is_reading_{false};
  std::atomic<uint64_t> entries_read_{0};

  mutable udpgate::internal::Mutex mutex_;
  absl::optional<StreamId> position_ ABSL_GUARDED_BY(mutex_);
  absl::optional<StreamId> continuation_ ABSL_GUARDED_BY(mutex_);

  // Used by the connection's thread only.
  std::deque<Command> pending_;
  int64_t redis_milliseconds_ = 0;
  int64_t redis_time_nanoseconds_ = 0;  // when it was so
  absl::optional<StreamId> last_id_;
  // A reply was too large, or no reply: entries are read one by one, and one
  // that cannot be read is skipped.
  bool reads_one_ = false;
  bool skips_ = false;
  bool knows_no_oldest_ = false;
  // The reply to XINFO was too large.
  bool asks_no_info_ = false;
  // At the first connection, and at this one; not set: unknown.
  absl::optional<uint64_t> entries_added_first_;
  absl::optional<StreamInfo> info_;
  Connection connection_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_DISCONNECT_STREAM_H_
