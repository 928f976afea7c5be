// The other gateways, by small numbers.
#ifndef UDPGATE_FORWARD_INTERNAL_PEERS_H_
#define UDPGATE_FORWARD_INTERNAL_PEERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "udpgate/base/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace forward {
namespace internal {

// Datagrams and sessions hold a number instead of an address. A number is never
// given to another address; 0 is none. Threads: any; only `NumberOf` takes a
// lock.
class Peers {
 public:
  // A fleet is smaller, even if its gateways change their addresses for years.
  static constexpr size_t kPeersMax = 1024;

  // The number of the gateway that hears at `address`, a new one if it has
  // none; 0 if all numbers are given away, or the address is invalid.
  uint16_t NumberOf(const SocketAddress& address) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of a number that was given away.
  const SocketAddress& address(uint16_t number) const {
    return peers_[number].address;
  }
  // Changes with each Forget.
  uint32_t epoch(uint16_t number) const {
    return peers_[number].epoch.load(std::memory_order_relaxed);
  }

  // The gateway is gone: clients that are forwarded to it are resolved again.
  void Forget(const SocketAddress& address) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Peer {
    SocketAddress address;
    std::atomic<uint32_t> epoch{0};
  };

  // An element is written before its number is given away.
  std::array<Peer, kPeersMax + 1> peers_;
  udpgate::internal::Mutex mutex_;
  uint16_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<SocketAddress, uint16_t> numbers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace forward
}  // namespace udpgate

#endif  // UDPGATE_FORWARD_INTERNAL_PEERS_H_
