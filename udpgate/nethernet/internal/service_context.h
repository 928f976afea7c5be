// What the parts of a `JoinService` share.
#ifndef UDPGATE_NETHERNET_INTERNAL_SERVICE_CONTEXT_H_
#define UDPGATE_NETHERNET_INTERNAL_SERVICE_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/clock.h"
#include "udpgate/http/client.h"
#include "udpgate/http/engine.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/call_gate.h"
#include "udpgate/nethernet/internal/deadlines.h"
#include "udpgate/nethernet/internal/join_counters.h"
#include "udpgate/nethernet/internal/rate_table.h"
#include "udpgate/nethernet/join_service_options.h"
#include "udpgate/nethernet/join_table.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Shared with callbacks of the resolver, which may come late.
//
// Threads: any. `engine` and `client` are used only within `gate`.
struct ServiceContext {
  std::shared_ptr<BackendResolver> resolver;
  std::shared_ptr<JoinTable> joins;
  http::Engine* engine = nullptr;
  http::Client* client = nullptr;
  const Clock* clock = nullptr;
  CallGate gate;
  std::shared_ptr<Deadlines> deadlines;
  JoinCounters counters;
  RateTable rates;

  std::shared_ptr<const JoinServiceOptions> options() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return options_;
  }
  void SetOptions(JoinServiceOptions options) {
    auto shared =
        std::make_shared<const JoinServiceOptions>(std::move(options));
    udpgate::internal::MutexLock lock(&mutex_);
    options_.swap(shared);
  }

  // Until then, on the clock; negative if that is over.
  absl::Duration Left(int64_t deadline_nanoseconds) const {
    return absl::Nanoseconds(deadline_nanoseconds - clock->NowNanoseconds());
  }

 private:
  mutable udpgate::internal::Mutex mutex_;
  std::shared_ptr<const JoinServiceOptions> options_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_SERVICE_CONTEXT_H_
