// The sockets of PROXY_ADDR and NETHERNET_ADDR: bound by this process, passed
// by the service manager, or taken over from a running gateway.
#ifndef UDPGATE_CLI_LISTEN_SOCKETS_H_
#define UDPGATE_CLI_LISTEN_SOCKETS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/log/logger.h"
#include "cli/settings/settings.h"
#include "udpgate/socket_address.h"
#include "udpgate/takeover/predecessor.h"

namespace udpgate {
namespace cli {

// The name of the signaling server's socket in a takeover.
inline constexpr char kNetherNetSocket[] = "nethernet";

// Connects to the gateway whose TAKEOVER_SOCKET is `path`, and makes its
// sockets replace PROXY_ADDR and LISTENER_COUNT in `settings`. `is_cancelled`
// is asked before the takeover. Errors name the flag --takeover.
absl::StatusOr<std::unique_ptr<takeover::Predecessor>> ConnectToRunningGateway(
    const std::string& path, std::function<bool()> is_cancelled,
    Settings* settings, Logger* logger);

// Makes sockets of the service manager, if it passed any, replace PROXY_ADDR
// and LISTENER_COUNT (datagram sockets), and serve NETHERNET_ADDR (a stream
// socket) in `settings`. Once, while the process has one thread that uses the
// environment.
absl::Status UseActivationSockets(Settings* settings, Logger* logger);

// The same for these descriptors, which it owns.
absl::Status UseSockets(std::vector<int> sockets, Settings* settings,
                        Logger* logger);

// `PROXY_ADDR=:port` becomes [::]:port if the machine has IPv6, else
// 0.0.0.0:port, and so does NETHERNET_ADDR.
void ChooseListenAddresses(Settings* settings, Logger* logger);

// In standby this machine does not have the addresses yet: the sockets of
// PROXY_ADDR and NETHERNET_ADDR are bound all the same (IP_FREEBIND, ip(7)).
// Without effect if STANDBY is off. In a takeover the sockets are those of the
// old process. Errors name the setting.
absl::Status PrepareStandby(bool is_takeover, Settings* settings);

// The old process's socket of this name, if it has the wanted address, else -1;
// port 0 stands for any. The caller owns it. `old_process` may be null.
int TakeSocketOf(const char* name, const SocketAddress& wanted,
                 takeover::Predecessor* old_process);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_LISTEN_SOCKETS_H_
