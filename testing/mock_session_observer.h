// A mock of `SessionObserver`, and one that keeps what it is told.
//
//   auto observer = std::make_shared<RecordingSessionObserver>();
//   dependencies.session_observer = observer;
//   ...
//   EXPECT_TRUE(AwaitTrue([&] { return observer->events().size() == 2; }));
#ifndef UDPGATE_TESTING_MOCK_SESSION_OBSERVER_H_
#define UDPGATE_TESTING_MOCK_SESSION_OBSERVER_H_

#include <vector>

#include "absl/base/thread_annotations.h"
#include "gmock/gmock.h"
#include "udpgate/base/export.h"
#include "udpgate/base/mutex.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace test {

// Called on a thread of the Proxy.
class UDPGATE_EXPORT MockSessionObserver : public SessionObserver {
 public:
  MOCK_METHOD(void, Observe, (const SessionEvent& event), (override));
};

// Threads: any.
class UDPGATE_EXPORT RecordingSessionObserver : public SessionObserver {
 public:
  void Observe(const SessionEvent& event) override {
    internal::MutexLock lock(&mutex_);
    events_.push_back(event);
  }

  // All so far, in the order in which they came.
  std::vector<SessionEvent> events() const {
    internal::MutexLock lock(&mutex_);
    return events_;
  }

  void Clear() {
    internal::MutexLock lock(&mutex_);
    events_.clear();
  }

 private:
  mutable internal::Mutex mutex_;
  std::vector<SessionEvent> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_MOCK_SESSION_OBSERVER_H_
