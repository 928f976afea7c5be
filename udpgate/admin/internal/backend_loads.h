// Live sessions and their traffic by backend.
#ifndef UDPGATE_ADMIN_INTERNAL_BACKEND_LOADS_H_
#define UDPGATE_ADMIN_INTERNAL_BACKEND_LOADS_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace admin {
namespace internal {

// Live sessions on a backend, and the traffic of these.
struct BackendLoad {
  std::string backend;
  uint64_t sessions = 0;
  uint64_t client_datagrams_forwarded = 0;
  uint64_t client_bytes_forwarded = 0;
  uint64_t backend_datagrams_forwarded = 0;
  uint64_t backend_bytes_forwarded = 0;
};

// Counts by visiting all sessions, so it keeps the last result for a while.
//
// Threads: any; threads that ask at the same time share one count. Ownership:
// the Proxy must outlive it.
class BackendLoads {
 public:
  using List = std::vector<BackendLoad>;

  // A result is kept for `age_max`.
  BackendLoads(const Proxy* proxy, absl::Duration age_max)
      : proxy_(proxy), age_max_(age_max) {}

  // By number of sessions, the most first; then by address.
  std::shared_ptr<const List> Get();

 private:
  List Count() const;

  const Proxy* const proxy_;
  const absl::Duration age_max_;
  udpgate::internal::Mutex mutex_;  // held while sessions are counted
  std::shared_ptr<const List> loads_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point time_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_BACKEND_LOADS_H_
