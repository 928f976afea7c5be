// Whether every shard of a Proxy still makes its turns.
#ifndef UDPGATE_ADMIN_INTERNAL_LIVENESS_PROBE_H_
#define UDPGATE_ADMIN_INTERNAL_LIVENESS_PROBE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/internal/mutex.h"

namespace udpgate {
namespace admin {
namespace internal {

// `visit_all` returns once each shard has made a turn; where one hangs it does
// so too, which is why it has a thread of its own. It is called on demand, at
// most once a second.
//
// Threads: `Start` and `Stop` from one thread, `IsAlive` from any.
class LivenessProbe {
 public:
  explicit LivenessProbe(std::function<void()> visit_all)
      : visit_all_(std::move(visit_all)) {}
  ~LivenessProbe() { Stop(); }

  absl::Status Start();
  // Waits for a call of `visit_all`.
  void Stop();

  // Waits for a sign of life, at most so long. False where none came.
  bool IsAlive(absl::Duration timeout);

 private:
  void Run();

  const std::function<void()> visit_all_;
  std::thread thread_;
  udpgate::internal::Mutex mutex_;
  udpgate::internal::ConditionVariable changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t completed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point completed_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_LIVENESS_PROBE_H_
