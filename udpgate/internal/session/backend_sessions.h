// How many sessions each backend has.
#ifndef UDPGATE_INTERNAL_SESSION_BACKEND_SESSIONS_H_
#define UDPGATE_INTERNAL_SESSION_BACKEND_SESSIONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Counts when a session gets its backend, is confirmed or ends, so that nobody
// has to visit all sessions. A backend without a session has no entry: there
// are never more entries than sessions. Threads: any. The parts, by the hash of
// the backend, keep a reader of many entries from blocking a shard for long.
class BackendSessions {
 public:
  // An invalid address is not counted: that of a session which a takeover only
  // prepares.
  void Add(const SocketAddress& backend);
  void Subtract(const SocketAddress& backend);

  // The backend with the most sessions first; equal ones by their addresses.
  std::vector<BackendSessionCount> Counts() const;

 private:
  struct Part {
    mutable Mutex mutex;
    absl::flat_hash_map<SocketAddress, int64_t> counts ABSL_GUARDED_BY(mutex);
  };

  Part& PartOf(const SocketAddress& backend);

  std::array<Part, 16> parts_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_BACKEND_SESSIONS_H_
