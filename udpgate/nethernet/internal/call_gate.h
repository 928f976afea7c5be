// Lets late callbacks use an object only as long as it lives.
#ifndef UDPGATE_NETHERNET_INTERNAL_CALL_GATE_H_
#define UDPGATE_NETHERNET_INTERNAL_CALL_GATE_H_

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// A resolver may call back after everything else has gone. What such a callback
// does with an object of limited life is run by `Run`; the owner of that object
// calls `Close` first.
//
// Threads: any. `Run` may be nested; `Close` must not be called from it.
class CallGate {
 public:
  // Runs `call`, or returns false if the gate is closed.
  bool Run(absl::FunctionRef<void()> call) {
    {
      udpgate::internal::MutexLock lock(&mutex_);
      if (is_closed_) return false;
      ++running_;
    }
    call();
    udpgate::internal::MutexLock lock(&mutex_);
    if (--running_ == 0 && is_closed_) idle_.SignalAll();
    return true;
  }

  // Returns after the last `call` has.
  void Close() {
    udpgate::internal::MutexLock lock(&mutex_);
    is_closed_ = true;
    while (running_ > 0) idle_.Wait(&mutex_);
  }

 private:
  udpgate::internal::Mutex mutex_;
  udpgate::internal::ConditionVariable idle_;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_CALL_GATE_H_
