// What waits for the keeper's thread.
#ifndef UDPGATE_STORE_INTERNAL_KEEPER_INBOX_H_
#define UDPGATE_STORE_INTERNAL_KEEPER_INBOX_H_

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/session_observer.h"
#include "udpgate/store/internal/keeper_core.h"
#include "udpgate/store/internal/store_resolver.h"

namespace udpgate {
namespace store {
namespace internal {

// Shared by the keeper, and by what it has given to the Proxy and the store,
// which may outlive it. The lock is held for no longer than it takes to append.
//
// Threads: any.
class KeeperInbox final : public RecordSource {
 public:
  using Call = absl::AnyInvocable<void(KeeperCore* core)>;

  KeeperInbox(int events_max, int newcomers_max)
      : events_max_(events_max), newcomers_max_(newcomers_max) {}

  // Dropped if it is closed.
  void Post(Call call) {
    MutexLock lock(&mutex_);
    if (is_closed_) return;
    Append(/*is_urgent=*/true, std::move(call));
  }

  // If too many events wait, it is dropped, and the keeper learns that.
  void PostEvent(const SessionEvent& event) {
    MutexLock lock(&mutex_);
    if (is_closed_) return;
    if (event_count_ >= events_max_) {
      ++dropped_count_;
      return;
    }
    ++event_count_;
    Append(/*is_urgent=*/true,
           [event](KeeperCore* core) { core->OnEvent(event); });
  }

  void Ask(const SocketAddress& client, absl::Duration timeout,
           Newcomers::Answer answer) override {
    {
      MutexLock lock(&mutex_);
      if (!is_closed_ && newcomer_count_ < newcomers_max_) {
        ++newcomer_count_;
        return Append(are_newcomers_urgent_,
                      [client, timeout,
                       answer = std::move(answer)](KeeperCore* core) mutable {
                        core->Ask(client, timeout, std::move(answer));
                      });
      }
      if (!is_closed_) ++refused_count_;
    }
    answer({});
  }

  void OnDisconnect(const DisconnectTarget& target) override {
    Post([target](KeeperCore* core) { core->OnDisconnect(target); });
  }

  // Waits for the first call, but not longer than this. If newcomers are not
  // urgent, they end no wait: those who come meanwhile are taken together.
  std::vector<Call> Take(absl::Duration timeout,
                         bool are_newcomers_urgent = true) {
    const auto deadline =
        std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
    MutexLock lock(&mutex_);
    are_newcomers_urgent_ = are_newcomers_urgent;
    while (!has_urgent_call_) {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= left.zero()) break;
      is_waiting_ = true;
      changed_.WaitFor(&mutex_, left);
      is_waiting_ = false;
    }
    event_count_ = newcomer_count_ = 0;
    has_urgent_call_ = false;
    are_newcomers_urgent_ = true;
    return std::exchange(calls_, {});
  }

  // What Take gives may be the last.
  std::vector<Call> Close() {
    MutexLock lock(&mutex_);
    is_closed_ = true;
    return std::exchange(calls_, {});
  }

  uint64_t dropped_count() const {
    MutexLock lock(&mutex_);
    return dropped_count_;
  }
  uint64_t refused_count() const {
    MutexLock lock(&mutex_);
    return refused_count_;
  }

 private:
  using Mutex = udpgate::internal::Mutex;
  using MutexLock = udpgate::internal::MutexLock;

  void Append(bool is_urgent, Call call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    calls_.push_back(std::move(call));
    has_urgent_call_ |= is_urgent;
    if (is_waiting_ && is_urgent) changed_.SignalOne();
  }

  const int events_max_;
  const int newcomers_max_;
  mutable Mutex mutex_;
  udpgate::internal::ConditionVariable changed_;
  std::vector<Call> calls_ ABSL_GUARDED_BY(mutex_);
  int event_count_ ABSL_GUARDED_BY(mutex_) = 0;     // of calls_
  int newcomer_count_ ABSL_GUARDED_BY(mutex_) = 0;  // likewise
  uint64_t dropped_count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t refused_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of calls_: one that ends a wait.
  bool has_urgent_call_ ABSL_GUARDED_BY(mutex_) = false;
  bool are_newcomers_urgent_ ABSL_GUARDED_BY(mutex_) = true;
  bool is_waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_KEEPER_INBOX_H_
