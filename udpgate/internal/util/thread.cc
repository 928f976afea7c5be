#include "udpgate/internal/util/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace internal {
namespace {

// Whether `GiveWay` has changed the policy of the calling thread.
thread_local bool gives_way = false;

// For the calling thread.
void GiveWay() {
  int policy;
  sched_param parameters;
  gives_way =
      pthread_getschedparam(pthread_self(), &policy, &parameters) == 0 &&
      policy == SCHED_OTHER &&
      pthread_setschedparam(pthread_self(), SCHED_BATCH, &parameters) == 0;
}

// Undoes it for the calling thread, which has inherited the policy.
void Reclaim() {
  const sched_param parameters{};
  pthread_setschedparam(pthread_self(), SCHED_OTHER, &parameters);
}

}  // namespace

absl::StatusOr<std::thread> StartThread(absl::string_view name, ThreadRole role,
                                        absl::AnyInvocable<void()> body) {
  // A new thread inherits the mask, so there is no moment in which it could
  // take a signal.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  absl::StatusOr<std::thread> started;
  try {
    started = std::thread(
        [role, is_heir = gives_way, body = std::move(body)]() mutable {
          if (is_heir) Reclaim();
          if (role == ThreadRole::kControlPlane) GiveWay();
          body();
        });
    // Set here and not in the thread, so that the name is there when this
    // returns.
    pthread_setname_np(started->native_handle(),
                       std::string(name.substr(0, 15)).c_str());
  } catch (const std::system_error& error) {
    started = absl::ResourceExhaustedError(
        absl::StrCat("cannot start thread ", name, ": ", error.what()));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

}  // namespace internal
}  // namespace udpgate
