// A thread with a name that blocks all signals, so that the handlers of the
// host program run on the host's threads (pthreads(7), signal(7)).
#ifndef UDPGATE_INTERNAL_THREAD_H_
#define UDPGATE_INTERNAL_THREAD_H_

#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace internal {

// What a thread is for, and so what the scheduler may do for it.
enum class ThreadRole {
  // Moves datagrams.
  kDataPlane,
  // All else. It gets its share of the processors, but when it wakes it waits
  // until a thread that runs there sleeps or its time is over, and does not
  // interrupt it (SCHED_BATCH, sched(7)). Where somebody has chosen another
  // policy than the default for the process, that remains. Threads that are
  // started from such a thread by other means inherit it.
  kControlPlane,
};

// Starts `body`. `name` is cut to 15 bytes (prctl(2), PR_SET_NAME).
// ResourceExhausted where the system gives no further thread.
absl::StatusOr<std::thread> StartThread(absl::string_view name, ThreadRole role,
                                        absl::AnyInvocable<void()> body);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_THREAD_H_
