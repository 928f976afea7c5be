// The gate's own source ports towards backends: which are free, and whose
// session each of the others is.
#ifndef UDPGATE_INTERNAL_RELAY_PORTS_H_
#define UDPGATE_INTERNAL_RELAY_PORTS_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/internal/inbox.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The ports that the system leaves to programs for outgoing traffic:
// net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports
// (Linux Documentation/networking/ip-sysctl.rst), shuffled; the kernel's
// defaults where /proc does not say.
std::vector<uint16_t> LocalPortRange();

// Parses the text of ip_local_reserved_ports, such as "80,100-200"; what does
// not parse is skipped.
std::vector<bool> ParseReservedPorts(absl::string_view text);

// A session of the whole gate.
struct RelayOwner {
  uint32_t shard;
  SessionRef session;
};

// Chosen here and not by the kernel for two reasons. A port that has been
// given up is used again as late as possible, since the backend may still take
// it for the old player. And a backend that knows only the port can name the
// session with it: while there are ports enough, no two sessions share one,
// whatever their source addresses.
//
// Threads: any. One lock for the whole gate, taken only when a session begins
// or ends or when a disconnect names a port.
class RelayPorts {
 public:
  // `ports` in the order in which to take them first.
  explicit RelayPorts(std::vector<uint16_t> ports);

  // The free port given up longest ago, for a socket on `source` (its port
  // does not matter); once no port is free, one that other source addresses
  // use but `source` does not. Nothing where there is none.
  absl::optional<uint16_t> Take(const SocketAddress& source,
                                const RelayOwner& owner);
  // Back to the end of the row.
  void GiveBack(const SocketAddress& source, uint16_t port);

  // The sessions that relay from this port, normally one or none.
  std::vector<RelayOwner> Find(uint16_t port) const;

  // Ports that are taken, counted once for each source address.
  int64_t in_use() const;

 private:
  struct Use {
    SocketAddress source;  // port 0
    RelayOwner owner;
  };

  bool IsUsedBy(uint16_t port, const SocketAddress& source) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<uint16_t> ports_;
  mutable Mutex mutex_;
  std::deque<uint16_t> free_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint16_t, std::vector<Use>> uses_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<SocketAddress, size_t> count_by_source_
      ABSL_GUARDED_BY(mutex_);
  // Where the search for a port to share goes on.
  size_t shared_cursor_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t in_use_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_RELAY_PORTS_H_
