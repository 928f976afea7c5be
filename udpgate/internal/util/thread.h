// A thread with a name that blocks all signals, so that the handlers of the
// host program run on the host's threads (pthreads(7), signal(7)).
#ifndef UDPGATE_INTERNAL_UTIL_THREAD_H_
#define UDPGATE_INTERNAL_UTIL_THREAD_H_

#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"

namespace udpgate {
namespace internal {

// What a thread is for; sets its scheduling policy.
enum class ThreadRole {
  // Moves datagrams.
  kDataPlane,
  // Everything else. It gets its share of the processors, but does not
  // interrupt
  // a running thread when it wakes: it waits until that one sleeps or its time
  // slice is over (SCHED_BATCH, sched(7)). A policy of the process that is not
  // the default is kept. Threads that such a thread starts by other means
  // inherit it.
  kControlPlane,
};

// Starts `body`. `name` is cut to 15 bytes (prctl(2), PR_SET_NAME).
// ResourceExhausted if the system allows no further thread. Exported for the
// other libraries of this project.
UDPGATE_EXPORT absl::StatusOr<std::thread> StartThread(
    absl::string_view name, ThreadRole role, absl::AnyInvocable<void()> body);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UTIL_THREAD_H_
