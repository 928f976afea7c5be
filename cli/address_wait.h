// Waits for addresses that this machine gets after the program starts, for
// example from a DHCP server.
#ifndef UDPGATE_CLI_ADDRESS_WAIT_H_
#define UDPGATE_CLI_ADDRESS_WAIT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cli/log/logger.h"
#include "cli/settings/settings.h"
#include "udpgate/clock.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// An address to bind, and the setting that names it.
struct WantedAddress {
  std::string setting;
  SocketAddress address;
};

// Those that the settings name, except wildcards, which are always available.
std::vector<WantedAddress> WantedAddresses(const Settings& settings);

// The error of bind(2) for a UDP socket on the address and any port: 0 if the
// machine has the address, EADDRNOTAVAIL if it has not (or if duplicate address
// detection of an IPv6 address is not complete, RFC 4862 section 5.4).
int TryBind(const SocketAddress& address);

struct AddressWaitOptions {
  // 0: do not wait.
  absl::Duration timeout;
  absl::Duration look_interval = absl::Milliseconds(100);
  // Sleeps for this time; true if the program is to stop.
  std::function<bool(absl::Duration)> wait;
  // Called once, when the wait begins.
  std::function<void(const std::string& text)> on_wait;
  std::function<int(const SocketAddress& address)> try_bind = TryBind;
  const Clock* clock = Clock::Monotonic();
};

// Returns when the machine has all addresses. Logs once that it waits, and that
// the wait is over. Ignores errors other than EADDRNOTAVAIL: the code that
// binds reports them. Unavailable after `timeout`, with the setting and the
// address; Cancelled if `wait` returned true. Threads: the caller's.
absl::Status AwaitAddresses(const std::vector<WantedAddress>& addresses,
                            const AddressWaitOptions& options, Logger* logger);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_ADDRESS_WAIT_H_
