// The IP addresses of a host name.
#ifndef UDPGATE_DNS_INTERNAL_ADDRESSES_H_
#define UDPGATE_DNS_INTERNAL_ADDRESSES_H_

#include <ares.h>

#include <vector>

#include "udpgate/socket_address.h"

namespace udpgate {
namespace dns {
namespace internal {

// With port 0.
using Addresses = std::vector<SocketAddress>;

// Copies the addresses of a c-ares result, IPv4 first, at most 8 of a family: a
// response over TCP may hold thousands.
Addresses ToAddresses(const ares_addrinfo& info);

// Returns true if the kernel has a route to `ip` (its port is ignored), by
// connect(2) of a UDP socket, which sends nothing. False for addresses that no
// datagram can be sent to, such as multicast. True if no socket can be opened,
// since nothing is known then.
bool KernelHasRoute(const SocketAddress& ip);

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_ADDRESSES_H_
