#include "udpgate/nethernet/internal/deadlines.h"

#include <algorithm>
#include <vector>

#include "absl/time/time.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using ::udpgate::internal::MutexLock;

// A clock of a test may stand still.
constexpr absl::Duration kTimerMin = absl::Milliseconds(1);

}  // namespace

Deadlines::Key Deadlines::Add(int64_t deadline_nanoseconds,
                              absl::AnyInvocable<void()> expired) {
  Key key;
  bool is_first = false;
  {
    MutexLock lock(&mutex_);
    key = {deadline_nanoseconds, ++last_number_};
    waiting_.emplace(key, std::move(expired));
    if (deadline_nanoseconds < wake_nanoseconds_) {
      wake_nanoseconds_ = deadline_nanoseconds;
      is_first = true;
    }
  }
  if (is_first) WakeAt(deadline_nanoseconds);
  return key;
}

void Deadlines::Remove(const Key& key) {
  absl::AnyInvocable<void()> removed;
  MutexLock lock(&mutex_);
  const auto found = waiting_.find(key);
  if (found == waiting_.end()) return;
  removed = std::move(found->second);
  waiting_.erase(found);
}

void Deadlines::Clear() {
  std::map<Key, absl::AnyInvocable<void()>> removed;
  MutexLock lock(&mutex_);
  removed.swap(waiting_);
}

void Deadlines::WakeAt(int64_t time_nanoseconds) {
  const absl::Duration left =
      absl::Nanoseconds(time_nanoseconds - clock_->NowNanoseconds());
  (void)gate_->Run([&] {
    engine_->PostAfter(std::max(left, kTimerMin),
                       [self = shared_from_this()] { self->OnWake(); });
  });
}

void Deadlines::OnWake() {
  std::vector<absl::AnyInvocable<void()>> expired;
  int64_t next_nanoseconds = INT64_MAX;
  {
    MutexLock lock(&mutex_);
    const int64_t now_nanoseconds = clock_->NowNanoseconds();
    while (!waiting_.empty() &&
           waiting_.begin()->first.first <= now_nanoseconds) {
      expired.push_back(std::move(waiting_.begin()->second));
      waiting_.erase(waiting_.begin());
    }
    if (!waiting_.empty()) next_nanoseconds = waiting_.begin()->first.first;
    wake_nanoseconds_ = next_nanoseconds;
  }
  if (next_nanoseconds != INT64_MAX) WakeAt(next_nanoseconds);
  for (absl::AnyInvocable<void()>& call : expired) call();
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
