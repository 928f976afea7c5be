// The unit that limits per address count by.
#ifndef UDPGATE_INTERNAL_NET_CLIENT_NETWORK_H_
#define UDPGATE_INTERNAL_NET_CLIENT_NETWORK_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// An IPv4 address, or the /64 of an IPv6 address: what one household or server
// has (RFC 6177). Threads: as any struct.
struct ClientNetwork {
  explicit ClientNetwork(const SocketAddress& client)
      : is_ipv6(client.is_ipv6()) {
    const size_t size = is_ipv6 ? 8 : 4;
    std::copy_n(client.ip_bytes().begin(), size, bytes.begin());
  }

  std::array<uint8_t, 8> bytes{};
  bool is_ipv6;

  friend bool operator==(const ClientNetwork& a, const ClientNetwork& b) {
    return a.bytes == b.bytes && a.is_ipv6 == b.is_ipv6;
  }
  template <typename H>
  friend H AbslHashValue(H h, const ClientNetwork& network) {
    return H::combine(std::move(h), network.bytes, network.is_ipv6);
  }
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_CLIENT_NETWORK_H_
