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

// Starts `body`. `name` is cut to 15 bytes (prctl(2), PR_SET_NAME).
// ResourceExhausted where the system gives no further thread.
absl::StatusOr<std::thread> StartThread(absl::string_view name,
                                        absl::AnyInvocable<void()> body);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_THREAD_H_
