// Limits and capabilities of the system.
#ifndef UDPGATE_CLI_SYSTEM_SYSTEM_H_
#define UDPGATE_CLI_SYSTEM_SYSTEM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// Opens closed standard descriptors. Else the next socket would get their
// number, and the log would be sent as datagrams.
void OpenStandardDescriptors();

// Raises the soft descriptor limit to the hard limit: each session takes a
// descriptor. DescriptorLimit is the current soft limit.
absl::Status RaiseDescriptorLimit();
int64_t DescriptorLimit();

// The limits of socket(7) on receive and send buffers, if they can be read.
absl::optional<int64_t> ReceiveBufferLimit();
absl::optional<int64_t> SendBufferLimit();

// Whether a socket on [::] can serve IPv4 and IPv6 on this machine.
bool Ipv6Available();

// The address that a socket is bound to.
absl::StatusOr<SocketAddress> BoundAddress(int fd);

// A TCP socket that listens on this address, even if this machine does not have
// it (IP_FREEBIND, ip(7)). The caller owns it.
absl::StatusOr<int> ListenOnAbsentAddress(const SocketAddress& address);

// Whether `fd` is a stream socket; of a Unix socket, too.
bool IsStreamSocket(int fd);
// Whether connections wait in it for accept(2).
bool IsListening(int fd);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SYSTEM_SYSTEM_H_
