// What the program asks of the system that it runs on.
#ifndef UDPGATE_CLI_SYSTEM_H_
#define UDPGATE_CLI_SYSTEM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// A standard descriptor that is closed would be given to the next socket, and
// the log would then go out as datagrams.
void OpenStandardDescriptors();

// To what is allowed: each session takes a descriptor. Descriptors of this
// process at most, as of now.
absl::Status RaiseDescriptorLimit();
int64_t DescriptorLimit();

// The limits of socket(7) on receive and send buffers, where they can be read.
absl::optional<int64_t> ReceiveBufferLimit();
absl::optional<int64_t> SendBufferLimit();

// Whether a socket on [::] can serve IPv4 and IPv6 on this machine.
bool Ipv6Available();

// The address that a socket is bound to.
absl::StatusOr<SocketAddress> BoundAddress(int fd);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SYSTEM_H_
