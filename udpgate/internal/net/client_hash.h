// Maps a client to its shard, and to one of several listeners.
//
// The hash exists twice: here in C++, and as a classic BPF program by which
// the kernel picks the socket of a SO_REUSEPORT group (socket(7),
// SO_ATTACH_REUSEPORT_CBPF). Because the two agree, the thread that reads a
// client's datagrams is the one that owns its shard.
#ifndef UDPGATE_INTERNAL_NET_CLIENT_HASH_H_
#define UDPGATE_INTERNAL_NET_CLIENT_HASH_H_

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// A value; cheap to copy. Seeded, so that a sender cannot choose addresses
// that all fall to one shard.
class ClientHash {
 public:
  explicit ClientHash(uint64_t seed);
  // With a seed from the system's random numbers.
  static ClientHash Random();

  uint64_t seed() const { return seed_; }

  // Of address and port. The scope of a link-local address is ignored: the
  // kernel's program cannot see it.
  uint32_t operator()(const SocketAddress& client) const;

  // The program: returns `hash % listener_count` for a UDP datagram over IPv4
  // or IPv6. For an IPv6 datagram with extension headers it may return
  // another listener's number; the datagram is then queued for its shard.
  std::vector<sock_filter> ReuseportProgram(uint32_t listener_count) const;

 private:
  uint64_t seed_;
  // Multipliers are odd, else a multiplication would lose bits.
  uint32_t start_;
  uint32_t word_multiplier_;
  uint32_t port_multiplier_;
  uint32_t final_multiplier_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_CLIENT_HASH_H_
