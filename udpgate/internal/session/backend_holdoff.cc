#include "udpgate/internal/session/backend_holdoff.h"

namespace udpgate {
namespace internal {

void BackendHoldoff::Note(const SocketAddress& backend,
                          int64_t now_nanoseconds) {
  if (time_nanoseconds_ == 0) return;
  MutexLock lock(&mutex_);
  if (until_nanoseconds_.size() >= entries_max_) {
    for (auto entry = until_nanoseconds_.begin();
         entry != until_nanoseconds_.end();) {
      const auto current = entry++;
      if (current->second <= now_nanoseconds) until_nanoseconds_.erase(current);
    }
  }
  if (until_nanoseconds_.size() >= entries_max_ &&
      !until_nanoseconds_.contains(backend)) {
    overflows_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  until_nanoseconds_[backend] = now_nanoseconds + time_nanoseconds_;
  size_.store(until_nanoseconds_.size(), std::memory_order_relaxed);
}

void BackendHoldoff::Clear(const SocketAddress& backend) {
  if (size_.load(std::memory_order_relaxed) == 0) return;
  MutexLock lock(&mutex_);
  until_nanoseconds_.erase(backend);
  size_.store(until_nanoseconds_.size(), std::memory_order_relaxed);
}

SocketAddress BackendHoldoff::Choose(const ResolveResult& result,
                                     int64_t now_nanoseconds) {
  if (result.alternatives.empty() ||
      size_.load(std::memory_order_relaxed) == 0) {
    return result.backend;
  }
  MutexLock lock(&mutex_);
  const auto is_held_off =
      [&](const SocketAddress& backend) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        const auto entry = until_nanoseconds_.find(backend);
        return entry != until_nanoseconds_.end() &&
               entry->second > now_nanoseconds;
      };
  if (!is_held_off(result.backend)) return result.backend;
  for (const SocketAddress& alternative : result.alternatives) {
    if (!is_held_off(alternative)) return alternative;
  }
  return result.backend;
}

int64_t BackendHoldoff::count(int64_t now_nanoseconds) const {
  MutexLock lock(&mutex_);
  int64_t count = 0;
  for (const auto& [backend, until_nanoseconds] : until_nanoseconds_) {
    if (until_nanoseconds > now_nanoseconds) ++count;
  }
  return count;
}

}  // namespace internal
}  // namespace udpgate
