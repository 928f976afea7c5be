// An IP address with a UDP port: the name of a client, a backend or a socket.
#ifndef UDPGATE_SOCKET_ADDRESS_H_
#define UDPGATE_SOCKET_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"

namespace udpgate {

// A value type of 24 bytes, cheap to copy and to compare.
//
//   absl::StatusOr<SocketAddress> address =
//       SocketAddress::Parse("[::1]:19132");
//   if (!address.ok()) return address.status();
//   std::cout << address->ToString();  // [::1]:19132
//
// An IPv4 address that the kernel reports as IPv4-mapped IPv6
// (`::ffff:1.2.3.4`, RFC 4291 section 2.5.5.2) is folded to plain IPv4, so
// that a client has one name whatever socket it came in by. The scope of a
// link-local IPv6 address belongs to its identity; other addresses have none.
//
// Threads: as an int.
class UDPGATE_EXPORT SocketAddress {
 public:
  // The unspecified address: `is_valid()` is false.
  constexpr SocketAddress() = default;

  // `1.2.3.4:port`, `[v6]:port` or `[v6%interface]:port` with a port of 0 to
  // 65535. Names are not looked up. InvalidArgument names what was wrong.
  static absl::StatusOr<SocketAddress> Parse(absl::string_view text);

  // From an address without port, `1.2.3.4` or `v6`, and a port.
  static absl::StatusOr<SocketAddress> FromIpAndPort(absl::string_view ip,
                                                     uint16_t port);

  // From what a system call filled in. Anything but a complete AF_INET or
  // AF_INET6 address gives an invalid SocketAddress.
  static SocketAddress FromSockaddr(const sockaddr* address, socklen_t size);

  // 127.0.0.1 or 0.0.0.0 with this port.
  static SocketAddress Ipv4Loopback(uint16_t port);
  static SocketAddress Ipv4Any(uint16_t port);
  // ::1 or :: with this port.
  static SocketAddress Ipv6Loopback(uint16_t port);
  static SocketAddress Ipv6Any(uint16_t port);

  bool is_valid() const { return family_ != 0; }
  bool is_ipv4() const { return family_ == AF_INET; }
  bool is_ipv6() const { return family_ == AF_INET6; }
  // AF_INET, AF_INET6, or 0 if invalid.
  int family() const { return family_; }

  // In host byte order.
  uint16_t port() const { return port_; }
  SocketAddress WithPort(uint16_t port) const;

  // 0.0.0.0 or ::.
  bool is_any() const;
  // 127.0.0.0/8 or ::1.
  bool is_loopback() const;
  bool is_multicast() const;
  // Names one host: valid, and neither all zeros nor multicast nor
  // 255.255.255.255.
  bool is_unicast() const;

  // Four or sixteen bytes in network byte order, IPv4 in the first four.
  const std::array<uint8_t, 16>& ip_bytes() const { return ip_; }
  uint32_t scope_id() const { return scope_id_; }

  // Writes the address as a socket of `socket_family` wants it (an IPv4
  // address goes to an AF_INET6 socket as IPv4-mapped) and returns its size,
  // or 0 if that family cannot express it.
  socklen_t ToSockaddr(int socket_family, sockaddr_storage* out) const;

  // `1.2.3.4:port` or `[v6]:port`; "(none)" if invalid.
  std::string ToString() const;
  // The same without port and brackets.
  std::string IpToString() const;

  friend bool operator==(const SocketAddress& a, const SocketAddress& b) {
    return std::memcmp(&a, &b, sizeof(SocketAddress)) == 0;
  }
  friend bool operator!=(const SocketAddress& a, const SocketAddress& b) {
    return !(a == b);
  }
  template <typename H>
  friend H AbslHashValue(H state, const SocketAddress& address) {
    return H::combine(std::move(state), address.family_, address.port_,
                      address.scope_id_, address.ip_);
  }

 private:
  // No padding between these: operator== compares the bytes.
  uint16_t family_ = 0;
  uint16_t port_ = 0;
  uint32_t scope_id_ = 0;
  std::array<uint8_t, 16> ip_{};
};

static_assert(sizeof(SocketAddress) == 24, "no padding, see operator==");

}  // namespace udpgate

#endif  // UDPGATE_SOCKET_ADDRESS_H_
