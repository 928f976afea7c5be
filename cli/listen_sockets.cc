#include "cli/listen_sockets.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/system/service_manager.h"
#include "cli/system/system.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

absl::StatusOr<std::unique_ptr<takeover::Predecessor>> ConnectToRunningGateway(
    const std::string& path, std::function<bool()> is_cancelled,
    Settings* settings, Logger* logger) {
  takeover::PredecessorOptions options;
  options.socket_path = path;
  options.is_cancelled = std::move(is_cancelled);
  absl::StatusOr<std::unique_ptr<takeover::Predecessor>> old_process =
      takeover::Predecessor::Connect(options);
  if (!old_process.ok()) {
    return absl::Status(
        old_process.status().code(),
        absl::StrCat("--takeover: ", old_process.status().message()));
  }
  settings->listen_on_all_addresses = false;
  // The next process can then take over from this one.
  if (settings->takeover_socket.empty()) settings->takeover_socket = path;
  (*old_process)->FillIn(&settings->proxy);
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("taking over from the gateway at ", path,
                           ", listeners: ", settings->proxy.listener_count,
                           "; PROXY_ADDR and LISTENER_COUNT are not used"));
  return old_process;
}

absl::Status UseActivationSockets(Settings* settings, Logger* logger) {
  absl::StatusOr<std::vector<int>> sockets = TakeActivationSockets();
  if (!sockets.ok()) return sockets.status();
  if (sockets->empty()) return absl::OkStatus();
  const absl::StatusOr<SocketAddress> address = BoundAddress(sockets->front());
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("LISTEN_FDS: ", address.status().message()));
  }
  settings->listen_on_all_addresses = false;
  settings->proxy.listen_address = *address;
  settings->proxy.listen_fds = *std::move(sockets);
  settings->proxy.listener_count =
      static_cast<int>(settings->proxy.listen_fds.size());
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("sockets from the service manager: ",
                           settings->proxy.listener_count,
                           "; PROXY_ADDR and LISTENER_COUNT are not used"));
  return absl::OkStatus();
}

void ChooseListenAddress(Settings* settings, Logger* logger) {
  if (!settings->listen_on_all_addresses) return;
  const uint16_t port = settings->proxy.listen_address.port();
  const bool ipv6 = Ipv6Available();
  settings->proxy.listen_address =
      ipv6 ? SocketAddress::Ipv6Any(port) : SocketAddress::Ipv4Any(port);
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("PROXY_ADDR=:", port, " means all addresses, ",
                           ipv6 ? "IPv4 and IPv6"
                                : "IPv4 only: this machine has no IPv6"));
}

}  // namespace cli
}  // namespace udpgate
