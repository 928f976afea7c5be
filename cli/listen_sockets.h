// The sockets that clients send to: bound for PROXY_ADDR, passed by the service
// manager, or taken over from a running gateway.
#ifndef UDPGATE_CLI_LISTEN_SOCKETS_H_
#define UDPGATE_CLI_LISTEN_SOCKETS_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/log/logger.h"
#include "cli/settings/settings.h"
#include "udpgate/takeover/predecessor.h"

namespace udpgate {
namespace cli {

// Connects to the gateway whose TAKEOVER_SOCKET is `path`, and makes its
// sockets replace PROXY_ADDR and LISTENER_COUNT in `settings`. `is_cancelled`
// is asked before the takeover. Errors name the flag --takeover.
absl::StatusOr<std::unique_ptr<takeover::Predecessor>> ConnectToRunningGateway(
    const std::string& path, std::function<bool()> is_cancelled,
    Settings* settings, Logger* logger);

// Makes sockets of the service manager, if it passed any, replace PROXY_ADDR
// and LISTENER_COUNT in `settings`. Once, while the process has one thread that
// uses the environment.
absl::Status UseActivationSockets(Settings* settings, Logger* logger);

// `PROXY_ADDR=:port` becomes [::]:port if the machine has IPv6, else
// 0.0.0.0:port.
void ChooseListenAddress(Settings* settings, Logger* logger);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_LISTEN_SOCKETS_H_
