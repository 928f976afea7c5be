// A mock of `BackendResolver`, and actions that give results.
//
//   using ::testing::_;
//   auto resolver =
//       std::make_shared<::testing::StrictMock<MockBackendResolver>>();
//   EXPECT_CALL(*resolver, Resolve)
//       .WillOnce(ResolveWithError(absl::NotFoundError("no lobby yet")))
//       .WillRepeatedly(ResolveWith(backend_address));
//
// A result that the test gives later:
//
//   HeldResolves held;
//   EXPECT_CALL(*resolver, Resolve).WillOnce(HoldResolveIn(&held));
//   ...                                   // a client sends its first datagram
//   absl::StatusOr<HeldResolve> resolve = held.Take();
//   ASSERT_TRUE(resolve.ok());
//   resolve->done(ResolveResult{backend_address, "lobby"});
//
// examples/unit_test.cc is a whole test that is written with these.
//
// gmock 1.12's own `SaveArg` and `InvokeArgument` copy their argument and so do
// not compile with the move-only `Callback`; in actions of your own, use a
// lambda: `[](const ResolveRequest&, BackendResolver::Callback done) {...}`.
#ifndef UDPGATE_TESTING_MOCK_BACKEND_RESOLVER_H_
#define UDPGATE_TESTING_MOCK_BACKEND_RESOLVER_H_

#include <chrono>
#include <cstddef>
#include <deque>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "testing/await.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/base/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// `Resolve` without an expectation drops the callback, so that the client's
// session ends with the resolve time-out; `Health` is OK. Calls come from the
// Proxy's threads, which gmock allows; set expectations before `Start`.
// `Screen`, `HandleDisconnect` and `RestoreTag` are those of `BackendResolver`,
// which do nothing: mock them in a class of your own that derives from this
// one.
class UDPGATE_EXPORT MockBackendResolver : public BackendResolver {
 public:
  MOCK_METHOD(void, Resolve, (const ResolveRequest& request, Callback done),
              (override));
  MOCK_METHOD(absl::Status, Health, (), (const, override));
};

// Gives this backend at once. `label` is what logs and `SessionInfo` show; if
// it is empty, the address.
inline auto ResolveWith(const SocketAddress& backend,
                        absl::string_view label = "") {
  return [result = ResolveResult{backend, label.empty() ? backend.ToString()
                                                        : std::string(label)}](
             const ResolveRequest& /*request*/,
             BackendResolver::Callback done) { done(result); };
}

// Gives this error at once, which must not be OK.
//
// Each result is a Status of its own: one that several threads share looks like
// a data race to ThreadSanitizer if Abseil itself is not instrumented.
inline auto ResolveWithError(absl::Status status) {
  return [status = std::move(status)](const ResolveRequest& /*request*/,
                                      BackendResolver::Callback done) {
    done(absl::Status(status.code(), status.message()));
  };
}

// A call of Resolve that waits for the test's result.
struct UDPGATE_EXPORT HeldResolve {
  SocketAddress client;
  std::string first_datagram;
  // Call it, with a result or an error, or destroy it uncalled.
  BackendResolver::Callback done;
};

// The held calls in the order of their arrival. Bridges the Proxy's threads,
// which resolve, and the test's thread, which gives the results.
//
// Threads: every method from any thread. Must outlive the mock, or declare the
// Proxy and the mock after it.
class UDPGATE_EXPORT HeldResolves {
 public:
  // The next call; waits for it. DeadlineExceeded if there is none in time.
  absl::StatusOr<HeldResolve> Take(absl::Duration timeout = kAwaitTimeout) {
    const auto deadline =
        std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
    internal::MutexLock lock(&mutex_);
    while (held_.empty()) {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= left.zero()) {
        return absl::DeadlineExceededError("the resolver was not called");
      }
      arrived_.WaitFor(&mutex_, left);
    }
    HeldResolve resolve = std::move(held_.front());
    held_.pop_front();
    return resolve;
  }

  // Those that `Take` could return at once.
  size_t size() const {
    internal::MutexLock lock(&mutex_);
    return held_.size();
  }

  void Put(HeldResolve resolve) {
    internal::MutexLock lock(&mutex_);
    held_.push_back(std::move(resolve));
    arrived_.SignalOne();
  }

 private:
  mutable internal::Mutex mutex_;
  internal::ConditionVariable arrived_;
  std::deque<HeldResolve> held_ ABSL_GUARDED_BY(mutex_);
};

// Gives no result, and puts the call into `*held` for the test to take.
inline auto HoldResolveIn(HeldResolves* held) {
  return [held](const ResolveRequest& request, BackendResolver::Callback done) {
    held->Put({request.client,
               std::string(request.first_datagram.data(),
                           request.first_datagram.size()),
               std::move(done)});
  };
}

// The same for a test without threads, which calls `Resolve` itself: keeps the
// callback in `*callback`, whose former content is dropped.
inline auto HoldResolveIn(BackendResolver::Callback* callback) {
  return [callback](const ResolveRequest& /*request*/,
                    BackendResolver::Callback done) {
    *callback = std::move(done);
  };
}

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_MOCK_BACKEND_RESOLVER_H_
