#include "udpgate/dns/internal/addresses.h"

#include <errno.h>
#include <sys/socket.h>

#include <cstdint>

#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace dns {
namespace internal {
namespace {

using udpgate::internal::SysCallResult;
using udpgate::internal::SysCalls;
using udpgate::internal::UniqueFd;

constexpr int kAddressesOfAFamilyMax = 8;

}  // namespace

Addresses ToAddresses(const ares_addrinfo& info) {
  Addresses addresses;
  for (const int family : {AF_INET, AF_INET6}) {
    int count = 0;
    for (const ares_addrinfo_node* node = info.nodes;
         node != nullptr && count < kAddressesOfAFamilyMax;
         node = node->ai_next) {
      const SocketAddress address =
          SocketAddress::FromSockaddr(node->ai_addr, node->ai_addrlen);
      if (!address.is_valid() || address.family() != family) continue;
      addresses.push_back(address.WithPort(0));
      ++count;
    }
  }
  return addresses;
}

bool KernelHasRoute(const SocketAddress& ip) {
  SysCalls* const sys_calls = SysCalls::Real();
  const SysCallResult made =
      sys_calls->Socket(ip.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (!made.ok()) return made.error != EAFNOSUPPORT;
  const UniqueFd socket(made.value);
  sockaddr_storage storage;
  constexpr uint16_t kAnyPort = 9;  // some kernels refuse port 0
  const socklen_t size =
      ip.WithPort(kAnyPort).ToSockaddr(ip.family(), &storage);
  return sys_calls
      ->Connect(socket.get(), reinterpret_cast<const sockaddr*>(&storage), size)
      .ok();
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
