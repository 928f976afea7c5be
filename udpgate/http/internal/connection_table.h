// All connections of a server: limits, deadlines, and who makes room.
#ifndef UDPGATE_HTTP_INTERNAL_CONNECTION_TABLE_H_
#define UDPGATE_HTTP_INTERNAL_CONNECTION_TABLE_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/internal/net/client_network.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace internal {

class Connection;

// What a connection waits for. Each has one timeout, so that a list in the
// order of arrival is in the order of deadlines, too.
enum class Phase {
  kPreface,   // a PROXY header, the TLS handshake
  kIdle,      // the first byte of a further request
  kReading,   // the rest of a request
  kHandling,  // the handler
  kWriting,   // a client that takes the response
  kClosing,   // a client that takes note of the end
};
inline constexpr size_t kPhaseCount = 6;

// Threads: any. No call of a connection is made under the lock.
class ConnectionTable {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Limits {
    size_t connections_max;
    size_t connections_per_network_max;  // 0: none
    bool evicts_oldest;
    std::array<std::chrono::nanoseconds, kPhaseCount> timeouts;
  };
  // Beyond the limit so many connections get a 503 at a time.
  static constexpr size_t kRefusedMax = 64;

  // A connection's place. Its owner may read `phase`.
  struct Entry {
    std::weak_ptr<Connection> connection;
    Phase phase = Phase::kPreface;
    // Changes with each `Move`: a timeout that was found before concerns the
    // connection no more.
    uint64_t moves = 0;

   private:
    friend class ConnectionTable;
    TimePoint deadline;
    size_t list = 0;
    std::list<Entry*>::iterator place;
    bool is_added = false;
    bool is_counted = false;  // in `counted_`, else in `refused_` if that
    bool is_refused = false;
    absl::optional<udpgate::internal::ClientNetwork> network;
  };

  enum class Verdict {
    kAdmitted,
    kRefuse,  // with a 503
    kClose,   // at once
  };

  struct Overdue {
    std::shared_ptr<Connection> connection;
    uint64_t moves;
  };

  explicit ConnectionTable(const Limits& limits);

  // A new connection in the phase of `entry`, unless the result is `kClose`.
  // `client`: whose connections are counted, or null. `evicted` is the one to
  // close in favour of it.
  Verdict Add(Entry* entry, const SocketAddress* client,
              std::shared_ptr<Connection>* evicted);
  // False: too many of this client.
  bool SetClient(Entry* entry, const SocketAddress& client);
  void Move(Entry* entry, Phase phase);
  void Remove(Entry* entry);
  // The one to close for want of descriptors, or null.
  std::shared_ptr<Connection> Evict();

  // Those whose time is over; they are in no list until they move.
  std::vector<Overdue> TakeOverdue(TimePoint now);
  // When to call `TakeOverdue` again: no deadline passes before, even one that
  // is set later. Max: no connection has one now.
  TimePoint NextCheck(TimePoint now) const;

  std::vector<std::shared_ptr<Connection>> All() const;

 private:
  using Mutex = udpgate::internal::Mutex;

  // Moves without allocation.
  void MoveTo(Entry* entry, size_t list) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool CountNetwork(Entry* entry, const SocketAddress& client)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Uncount(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Connection> EvictFrom(absl::Span<const Phase> phases)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Limits limits_;
  std::chrono::nanoseconds shortest_timeout_;
  mutable Mutex mutex_;
  // One for each phase, and one for those whose time is over or that are to
  // close.
  std::array<std::list<Entry*>, kPhaseCount + 1> lists_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<udpgate::internal::ClientNetwork, size_t> per_network_
      ABSL_GUARDED_BY(mutex_);
  size_t counted_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_CONNECTION_TABLE_H_
