// A limit of events per second for each client.
#ifndef UDPGATE_NETHERNET_INTERNAL_RATE_TABLE_H_
#define UDPGATE_NETHERNET_INTERNAL_RATE_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "udpgate/internal/net/client_network.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Counts by IPv4 address or IPv6 /64. Memory: some 40 bytes for each that had
// an event within the last second. Threads: any.
class RateTable {
 public:
  enum class Verdict {
    kFits,
    kTooMany,
    kTableFull,  // `networks_max` others had an event within the last second
  };

  // Whether one more event of `client` fits, which then counts. At
  // `events_per_second` 0 everything fits.
  Verdict Take(const SocketAddress& client, int64_t events_per_second,
               size_t networks_max, int64_t now_nanoseconds);

 private:
  using Full = absl::flat_hash_map<udpgate::internal::ClientNetwork, int64_t>;

  udpgate::internal::Mutex mutex_;
  // When the bucket of each will be full again, see Rate.
  Full full_nanoseconds_ ABSL_GUARDED_BY(mutex_);
  int64_t next_sweep_nanoseconds_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_RATE_TABLE_H_
