// Waits for one slice of a shard's sessions.
#ifndef UDPGATE_INTERNAL_CONTROL_SESSION_SLICE_H_
#define UDPGATE_INTERNAL_CONTROL_SESSION_SLICE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace internal {

// The callback that a shard calls with a slice of its sessions
// (ShardMessage::ListDone, CopyDone). If it is destroyed without a call, as by
// a closed inbox, the result is an empty last slice. `T` is SessionInfo or
// HandedSession.
template <typename T>
class SessionSlice {
 public:
  // Threads: any.
  class Result {
   public:
    // Waits for the slice. `slot` becomes where the next one begins, 0 after
    // the last one.
    std::vector<T> Take(uint32_t* slot) {
      MutexLock lock(&mutex_);
      while (!is_set_) changed_.Wait(&mutex_);
      *slot = next_slot_;
      return std::move(sessions_);
    }

   private:
    friend class SessionSlice;

    Mutex mutex_;
    ConditionVariable changed_;
    bool is_set_ ABSL_GUARDED_BY(mutex_) = false;
    std::vector<T> sessions_ ABSL_GUARDED_BY(mutex_);
    uint32_t next_slot_ ABSL_GUARDED_BY(mutex_) = 0;
  };

  explicit SessionSlice(std::shared_ptr<Result> result)
      : result_(std::move(result)) {}
  SessionSlice(SessionSlice&&) noexcept = default;
  ~SessionSlice() {
    if (result_ != nullptr) (*this)({}, 0);
  }

  void operator()(std::vector<T> sessions, uint32_t next_slot) {
    MutexLock lock(&result_->mutex_);
    if (result_->is_set_) return;
    result_->is_set_ = true;
    result_->sessions_ = std::move(sessions);
    result_->next_slot_ = next_slot;
    result_->changed_.SignalAll();
  }

 private:
  std::shared_ptr<Result> result_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_SESSION_SLICE_H_
