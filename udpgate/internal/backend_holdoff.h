// Which backends have just refused, or fallen silent.
#ifndef UDPGATE_INTERNAL_BACKEND_HOLDOFF_H_
#define UDPGATE_INTERNAL_BACKEND_HOLDOFF_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Sessions that open while an address is held off use another address of their
// backend's name, where there is one. Touched only when a session opens, gets
// its first reply, or ends with its backend at fault. Threads: any number at
// once; while nothing is held off, without a lock.
class BackendHoldoff {
 public:
  // More addresses than `entries_max` are not held off, and counted.
  BackendHoldoff(absl::Duration time, size_t entries_max)
      : time_nanoseconds_(absl::ToInt64Nanoseconds(time)),
        entries_max_(entries_max) {}

  // Holds `backend` off from now on.
  void Note(const SocketAddress& backend, int64_t now_nanoseconds);
  // It has answered.
  void Clear(const SocketAddress& backend);

  // The first of `result.backend` and its alternatives that is not held off;
  // where all are, `result.backend`.
  SocketAddress Choose(const ResolveResult& result, int64_t now_nanoseconds);

  // Addresses that are held off now, and how often there was no room.
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

#endif  // UDPGATE_INTERNAL_BACKEND_HOLDOFF_H_
