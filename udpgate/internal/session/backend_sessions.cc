#include "udpgate/internal/session/backend_sessions.h"

#include <algorithm>
#include <tuple>

#include "absl/hash/hash.h"

namespace udpgate {
namespace internal {

BackendSessions::Part& BackendSessions::PartOf(const SocketAddress& backend) {
  return parts_[absl::Hash<SocketAddress>{}(backend) % parts_.size()];
}

void BackendSessions::Add(const SocketAddress& backend) {
  if (!backend.is_valid()) return;
  Part& part = PartOf(backend);
  MutexLock lock(&part.mutex);
  ++part.counts[backend];
}

void BackendSessions::Subtract(const SocketAddress& backend) {
  if (!backend.is_valid()) return;
  Part& part = PartOf(backend);
  MutexLock lock(&part.mutex);
  const auto found = part.counts.find(backend);
  if (found == part.counts.end()) return;
  if (--found->second == 0) part.counts.erase(found);
}

std::vector<BackendSessionCount> BackendSessions::Counts() const {
  std::vector<BackendSessionCount> counts;
  for (const Part& part : parts_) {
    MutexLock lock(&part.mutex);
    counts.reserve(counts.size() + part.counts.size());
    for (const auto& [backend, sessions] : part.counts) {
      counts.push_back({backend, sessions});
    }
  }
  std::sort(counts.begin(), counts.end(),
            [](const BackendSessionCount& a, const BackendSessionCount& b) {
              if (a.sessions != b.sessions) return a.sessions > b.sessions;
              const auto order = [](const SocketAddress& backend) {
                return std::make_tuple(backend.family(), backend.ip_bytes(),
                                       backend.port(), backend.scope_id());
              };
              return order(a.backend) < order(b.backend);
            });
  return counts;
}

}  // namespace internal
}  // namespace udpgate
