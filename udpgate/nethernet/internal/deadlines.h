// Calls that become due, with one timer for all of them.
#ifndef UDPGATE_NETHERNET_INTERNAL_DEADLINES_H_
#define UDPGATE_NETHERNET_INTERNAL_DEADLINES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "udpgate/clock.h"
#include "udpgate/http/engine.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/call_gate.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Timers of an http::Engine cannot be cancelled, so that one for each request
// would outlive the request by far.
//
// Threads: any. The engine is used only within `gate`.
// Ownership: clock and gate must outlive it.
class Deadlines : public std::enable_shared_from_this<Deadlines> {
 public:
  // The time and a number.
  using Key = std::pair<int64_t, uint64_t>;

  Deadlines(http::Engine* engine, CallGate* gate, const Clock* clock)
      : engine_(engine), gate_(gate), clock_(clock) {}

  // Calls `expired` on a thread of the Engine, unless it is removed before.
  Key Add(int64_t deadline_nanoseconds, absl::AnyInvocable<void()> expired);
  // No effect if the call has begun.
  void Remove(const Key& key);
  // Destroys all without a call.
  void Clear();

 private:
  void WakeAt(int64_t time_nanoseconds);
  void OnWake();

  http::Engine* const engine_;
  CallGate* const gate_;
  const Clock* const clock_;
  udpgate::internal::Mutex mutex_;
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of the timer that runs; INT64_MAX: none does.
  int64_t wake_nanoseconds_ ABSL_GUARDED_BY(mutex_) = INT64_MAX;
  std::map<Key, absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_DEADLINES_H_
