// Sends the commands of a RedisSessionStore, several at a time, on one
// connection.
#ifndef UDPGATE_REDIS_INTERNAL_SESSION_PIPE_H_
#define UDPGATE_REDIS_INTERNAL_SESSION_PIPE_H_

#include <hiredis/hiredis.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {
namespace redis {
namespace internal {

// The error of Redis in the error reply to a script, without what names the
// script and the line.
absl::string_view ErrorOfScript(absl::string_view error);

struct SessionCommand {
  // What it does, as texts say it. A literal.
  absl::string_view what;
  std::vector<std::string> arguments;
  // How much it counts for in the queue.
  size_t records = 1;
  // Goes before those that are not urgent.
  bool is_urgent = false;
  // Called once, with the reply, which is no error reply, or why there is none.
  // Returns false if the reply is not one to this command; then the connection
  // is dropped. Called on the connection's thread, or by `Stop`.
  absl::AnyInvocable<bool(absl::StatusOr<const redisReply*>)> done;
};

struct SessionPipeOptions {
  size_t commands_in_flight_max = 16;
  size_t queue_records_max = 1;
  // Said of an error that tells that keys are of several slots of a Cluster.
  std::string cluster_hint;
};

struct SessionPipeStats {
  uint64_t commands_sent = 0;
  uint64_t replies = 0;  // that are no error
  uint64_t errors = 0;   // error replies
  uint64_t lost = 0;     // without a reply, or not sent in time
  uint64_t records_refused = 0;
  int64_t records_waiting = 0;
  int64_t commands_in_flight = 0;
  double reply_seconds = 0;  // sum of the times from sending to the reply
};

// Nothing waits for a connection: commands are refused while there is none, and
// fail when it is lost. Threads: any.
class SessionPipe final : public ConnectionOwner {
 public:
  // `redis_options` must be valid and have a clock.
  SessionPipe(const RedisOptions& redis_options,
              const SessionPipeOptions& options,
              std::shared_ptr<HostLookup> lookup, const FrameLimits& limits);
  ~SessionPipe() override { Stop(); }

  absl::Status Start() { return connection_.Start(); }
  // Ends the thread; then what waits fails with Cancelled. May be called twice.
  void Stop();

  // OK, or why a command would probably fail now.
  absl::Status Health() const;
  bool is_connected() const { return connection_.Health().ok(); }
  RedisProblem problem() const { return connection_.problem(); }

  // Queues all, or none and returns why: Unavailable, ResourceExhausted,
  // Cancelled. Then no `done` is called. Does not block.
  absl::Status Submit(std::vector<SessionCommand> commands);

  SessionPipeStats GetStats() const;

  void OnConnected() override;
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {}
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;

 private:
  struct Waiting {
    SessionCommand command;
    int64_t deadline_nanoseconds = 0;
    int64_t sent_nanoseconds = 0;
  };
  using Queue = std::deque<Waiting>;
  struct Refusal {
    absl::Status why;
    int64_t until_nanoseconds;  // it counts
  };

  // FailedPrecondition if this is a Redis Cluster, and keys are of several
  // slots: then no command could work.
  absl::Status CheckCluster() const;
  // The next command to send. False if there is none.
  bool TakeNext(Waiting* next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Moves what has waited for too long to `late`; returns the next deadline.
  int64_t TakeLate(int64_t now_nanoseconds, Queue* late)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(Queue* failed, const absl::Status& why);
  void Send(Waiting next, int64_t now_nanoseconds);
  void TakeError(SessionCommand* command, const redisReply& reply);
  absl::Status ErrorOf(const redisReply& error) const;
  // The command has worked.
  void Recover(absl::string_view what);

  const RedisOptions redis_options_;
  const SessionPipeOptions options_;
  const int64_t timeout_nanoseconds_;
  std::atomic<uint64_t> commands_sent_{0};
  std::atomic<uint64_t> replies_{0};
  std::atomic<uint64_t> errors_{0};
  std::atomic<uint64_t> lost_{0};
  std::atomic<uint64_t> records_refused_{0};
  std::atomic<int64_t> in_flight_count_{0};
  std::atomic<uint64_t> reply_nanoseconds_{0};

  mutable udpgate::internal::Mutex mutex_;
  bool is_open_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  Queue urgent_ ABSL_GUARDED_BY(mutex_);
  Queue waiting_ ABSL_GUARDED_BY(mutex_);
  size_t records_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  // What Redis refuses now, and why.
  std::map<absl::string_view, Refusal> refused_ ABSL_GUARDED_BY(mutex_);

  // Used by the thread only.
  Queue in_flight_;
  bool is_cluster_said_ = false;
  bool has_recovered_ = false;  // on this connection
  bool has_refused_ = false;    // and Health has not been OK since
  std::string error_text_;      // the last one
  std::string error_about_;     // the command that got it first
  Connection connection_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SESSION_PIPE_H_
