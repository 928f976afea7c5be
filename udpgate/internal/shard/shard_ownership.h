// Which thread may use a shard now.
#ifndef UDPGATE_INTERNAL_SHARD_SHARD_OWNERSHIP_H_
#define UDPGATE_INTERNAL_SHARD_SHARD_OWNERSHIP_H_

#include <atomic>

#include "absl/base/thread_annotations.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace internal {

// A lock on a whole shard, taken once an event-loop iteration. The shard's own
// thread waits for it. A reader only tries, and queues its datagrams if that
// fails, unless the queue is long. Readers cannot starve the thread: while it
// waits, trying fails.
class ABSL_LOCKABLE ShardOwnership {
 public:
  // By readers. With `must_wait` it waits until it succeeds, usually for one
  // iteration.
  bool TryAcquire(bool must_wait)
      ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (must_wait) {
      mutex_.Lock();
      return true;
    }
    if (is_awaited_.load(std::memory_order_relaxed)) return false;
    return mutex_.TryLock();
  }
  // Only by the shard's own thread.
  void Acquire() ABSL_EXCLUSIVE_LOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (mutex_.TryLock()) return;
    is_awaited_.store(true, std::memory_order_relaxed);
    mutex_.Lock();
    is_awaited_.store(false, std::memory_order_relaxed);
  }
  void Release() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    mutex_.Unlock();
  }

 private:
  Mutex mutex_;
  std::atomic<bool> is_awaited_{false};
};

// Holds the ownership in a scope.
class ABSL_SCOPED_LOCKABLE OwnershipLock {
 public:
  explicit OwnershipLock(ShardOwnership* ownership)
      ABSL_EXCLUSIVE_LOCK_FUNCTION(ownership)
      : ownership_(ownership) {
    ownership_->Acquire();
  }
  ~OwnershipLock() ABSL_UNLOCK_FUNCTION() { ownership_->Release(); }

 private:
  ShardOwnership* const ownership_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_SHARD_OWNERSHIP_H_
