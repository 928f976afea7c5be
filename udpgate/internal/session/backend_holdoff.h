// Backends that recently refused sessions or stopped replying.
#ifndef UDPGATE_INTERNAL_SESSION_BACKEND_HOLDOFF_H_
#define UDPGATE_INTERNAL_SESSION_BACKEND_HOLDOFF_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// While an address is held off, new sessions use another address of the same
// backend name, if there is one. Used only when a session gets its upstream
// socket or its first reply, or ends through its backend's fault. Threads: any;
// without a lock while no address is held off.
class BackendHoldoff {
 public:
  // Beyond `entries_max`, addresses are not held off but counted.
  BackendHoldoff(absl::Duration time, size_t entries_max)
      : time_nanoseconds_(absl::ToInt64Nanoseconds(time)),
        entries_max_(entries_max) {}

  // Holds `backend` off from now on.
  void Note(const SocketAddress& backend, int64_t now_nanoseconds);
  // `backend` has replied.
  void Clear(const SocketAddress& backend);

  // The first of `result.backend` and its alternatives that is not held off;
  // `result.backend` if all are.
  SocketAddress Choose(const ResolveResult& result, int64_t now_nanoseconds);

  // Addresses held off now, and how often the table was full.
  int64_t count(int64_t now_nanoseconds) const;
  uint64_t overflows() const {
    return overflows_.load(std::memory_order_relaxed);
  }

 private:
  const int64_t time_nanoseconds_;
  const size_t entries_max_;
  // Of `until_nanoseconds_`.
  std::atomic<size_t> size_{0};
  std::atomic<uint64_t> overflows_{0};
  mutable Mutex mutex_;
  absl::flat_hash_map<SocketAddress, int64_t> until_nanoseconds_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_BACKEND_HOLDOFF_H_
