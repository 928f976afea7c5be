// Queues session events, from the shards to the observer.
#ifndef UDPGATE_INTERNAL_SESSION_SESSION_EVENTS_H_
#define UDPGATE_INTERNAL_SESSION_SESSION_EVENTS_H_

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
#include "udpgate/internal/util/mutex.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace internal {

class SessionEvents;

// The queued events of one shard: a ring with one writer, the owner of the
// shard, and one reader, the thread of `SessionEvents`. All memory is allocated
// by the constructor.
class SessionEventQueue {
 public:
  SessionEventQueue(SessionEvents* events, int size);

  // Drops and counts the event if the queue is full. `time_nanoseconds` is now.
  // Neither waits nor allocates: the label is moved. During shutdown it waits
  // for room instead, as long as shutdown may take.
  void Post(SessionEvent event, int64_t time_nanoseconds);

 private:
  friend class SessionEvents;

  struct Entry {
    SessionEvent event;
    int64_t time_nanoseconds;
  };
  static_assert(sizeof(Entry) <= 256, "as ProxyOptions promises");

  bool is_full() const {
    return written_.load(std::memory_order_relaxed) -
               read_.load(std::memory_order_acquire) ==
           ring_.size();
  }

  SessionEvents* const events_;
  std::vector<Entry> ring_;
  // Events written and read so far; modulo the size of the ring they are
  // indexes of it. On separate cache lines, since each has another writer.
  alignas(64) std::atomic<uint64_t> written_{0};
  std::atomic<uint64_t> dropped_{0};
  alignas(64) std::atomic<uint64_t> read_{0};
};

// Threads: AddShard, Start, BeginStop and Stop: one, and AddShard before Start;
// the numbers: any.
class SessionEvents {
 public:
  // `clock` must outlive it. `queue_size` is per shard.
  SessionEvents(std::shared_ptr<SessionObserver> observer, const Clock* clock,
                int queue_size);
  ~SessionEvents() { Stop(); }
  SessionEvents(const SessionEvents&) = delete;
  SessionEvents& operator=(const SessionEvents&) = delete;

  // A queue for another shard. Lives as long as this object.
  SessionEventQueue* AddShard();

  absl::Status Start();
  // From now on a full queue makes its shard wait. After the data plane has
  // stopped.
  void BeginStop();
  // Delivers queued events until at most half a second after BeginStop, waits
  // for the call in progress, and drops the rest.
  void Stop();

  // If Start was not called: delivers the queued events on the calling thread.
  // Returns their number.
  int64_t Deliver();

  uint64_t dropped() const;
  int64_t waiting() const;

 private:
  friend class SessionEventQueue;

  void Run();
  // Wakes the thread if it sleeps.
  void Wake();
  // During shutdown: waits for room, and returns if there is some. Before it:
  // false at once.
  bool AwaitRoom(const SessionEventQueue& queue);
  bool is_out_of_time() const;

  const std::shared_ptr<SessionObserver> observer_;
  const Clock* const clock_;
  const int queue_size_;
  std::vector<std::unique_ptr<SessionEventQueue>> queues_;
  // Events that were dropped since shutdown took too long.
  std::atomic<uint64_t> abandoned_{0};

  Mutex mutex_;
  ConditionVariable changed_;  // the thread waits for it
  ConditionVariable read_;     // a shard waits for it, during shutdown
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

#endif  // UDPGATE_INTERNAL_SESSION_SESSION_EVENTS_H_
