// Addresses of this machine that come later than the program, as from a DHCP
// server after the machine has started.
#ifndef UDPGATE_CLI_ADDRESS_WAIT_H_
#define UDPGATE_CLI_ADDRESS_WAIT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cli/logger.h"
#include "cli/settings.h"
#include "udpgate/clock.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// An address that a socket is to have, and the setting that says so.
struct WantedAddress {
  std::string setting;
  SocketAddress address;
};

// Those of the settings that name one; a wildcard is always there.
std::vector<WantedAddress> WantedAddresses(const Settings& settings);

// The error of bind(2) for a UDP socket on the address and any port: 0 where
// the machine has the address, EADDRNOTAVAIL where it has not (or where an IPv6
// address is still being checked for a duplicate, RFC 4862 section 5.4).
int TryBind(const SocketAddress& address);

struct AddressWaitOptions {
  // So long at most; 0: not at all.
  absl::Duration timeout;
  absl::Duration look_interval = absl::Milliseconds(100);
  // Sleeps so long; true where the program is to stop.
  std::function<bool(absl::Duration)> wait;
  // Called once, when the wait begins.
  std::function<void(const std::string& text)> on_wait;
  std::function<int(const SocketAddress& address)> try_bind = TryBind;
  const Clock* clock = Clock::Monotonic();
};

// Returns when the machine has all addresses. Says in the log that it waits,
// once, and that the wait is over. Any other error than EADDRNOTAVAIL is left
// to whoever binds. Unavailable where the time is over, with the setting and
// the address; Cancelled where `wait` said so. Threads: the caller's.
absl::Status AwaitAddresses(const std::vector<WantedAddress>& addresses,
                            const AddressWaitOptions& options, Logger* logger);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_ADDRESS_WAIT_H_
