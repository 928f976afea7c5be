// The way of a session's events from its shard to the observer.
#ifndef UDPGATE_INTERNAL_SESSION_EVENTS_H_
#define UDPGATE_INTERNAL_SESSION_EVENTS_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "udpgate/clock.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace internal {

class SessionEvents;

// The events of one shard that wait: a ring with one writer, whoever owns the
// shard, and one reader, the thread of `SessionEvents`. All its memory is there
// from the start.
class SessionEventQueue {
 public:
  SessionEventQueue(SessionEvents* events, int size);

  // Drops and counts where the queue is full. `time_nanoseconds` is now.
  // Neither waits nor allocates, except once the gate stops: then it waits for
  // room, as long as a stop may.
  void Post(const SessionEvent& event, int64_t time_nanoseconds);

 private:
  friend class SessionEvents;

  struct Entry {
    SessionEvent event;
    int64_t time_nanoseconds;
  };

  bool is_full() const {
    return written_.load(std::memory_order_relaxed) -
               read_.load(std::memory_order_acquire) ==
           ring_.size();
  }

  SessionEvents* const events_;
  std::vector<Entry> ring_;
  // How many so far; modulo the size of the ring they are places in it. On
  // cache lines of their own, as each has another writer.
  alignas(64) std::atomic<uint64_t> written_{0};
  std::atomic<uint64_t> dropped_{0};
  alignas(64) std::atomic<uint64_t> read_{0};
};

// Threads: AddShard, Start, BeginStop and Stop: one, and AddShard before Start;
// the numbers: any.
class SessionEvents {
 public:
  // `clock` must outlive it. `queue_size` is of each shard.
  SessionEvents(std::shared_ptr<SessionObserver> observer, const Clock* clock,
                int queue_size);
  ~SessionEvents() { Stop(); }
  SessionEvents(const SessionEvents&) = delete;
  SessionEvents& operator=(const SessionEvents&) = delete;

  // The queue of one more shard. Lives as long as this object.
  SessionEventQueue* AddShard();

  absl::Status Start();
  // From now on a full queue makes its shard wait. Once the shards serve nobody
  // any more.
  void BeginStop();
  // Delivers what waits, for half a second from BeginStop on at most, waits for
  // the call under way, and drops the rest.
  void Stop();

  // Gives the observer what waits now, on the calling thread, where Start was
  // not called. Returns how many events that were.
  int64_t Deliver();

  uint64_t dropped() const;
  int64_t waiting() const;

 private:
  friend class SessionEventQueue;

  void Run();
  // Wakes the thread if it sleeps.
  void Wake();
  // Whether there is room within the time of a stop; false at once before it.
  bool AwaitRoom(const SessionEventQueue& queue);
  bool is_out_of_time() const;

  const std::shared_ptr<SessionObserver> observer_;
  const Clock* const clock_;
  const int queue_size_;
  std::vector<std::unique_ptr<SessionEventQueue>> queues_;
  // Those that the stop left no time for.
  std::atomic<uint64_t> abandoned_{0};

  Mutex mutex_;
  ConditionVariable changed_;  // the thread waits for it
  ConditionVariable read_;     // a shard of a stopping gate waits for it
  // Written under the lock, read without.
  std::atomic<bool> is_asleep_{false};
  std::atomic<bool> is_stopping_{false};
  // Set before is_stopping_, and not changed after it.
  std::chrono::steady_clock::time_point deadline_;
  bool must_end_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_EVENTS_H_
