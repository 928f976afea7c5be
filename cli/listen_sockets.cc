#include "cli/listen_sockets.h"

#include <unistd.h>

#include <algorithm>
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
namespace {

// Port 0 stands for any.
bool IsAddressOf(const SocketAddress& wanted, const SocketAddress& bound) {
  return bound == wanted || (wanted.port() == 0 && bound.WithPort(0) == wanted);
}

void CloseAll(const std::vector<int>& fds) {
  for (const int fd : fds) close(fd);
}

// Whether a socket of the service manager serves NETHERNET_ADDR.
bool ServesNetherNet(const Settings& settings, const SocketAddress& bound) {
  if (!settings.nethernet_on_all_addresses) {
    return IsAddressOf(settings.nethernet_address, bound);
  }
  const uint16_t port = settings.nethernet_address.port();
  return bound.is_any() && (port == 0 || port == bound.port());
}

// Errors name LISTEN_FDS and what is allowed.
absl::Status UseStreamSockets(const std::vector<int>& fds, Settings* settings,
                              Logger* logger) {
  if (fds.empty()) return absl::OkStatus();
  const absl::StatusOr<SocketAddress> bound = BoundAddress(fds.front());
  if (!bound.ok() || !bound->is_valid() || !IsListening(fds.front())) {
    return absl::InvalidArgumentError(
        "LISTEN_FDS: a stream socket is not a TCP socket that listens; "
        "allowed: ListenStream= with an address and a port");
  }
  if (fds.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("LISTEN_FDS: ", fds.size(),
                     " stream sockets; allowed: one, for NETHERNET_ADDR"));
  }
  if (!settings->nethernet_address.is_valid()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "LISTEN_FDS: there is a stream socket of ", bound->ToString(),
        ", but NETHERNET_ADDR is off; allowed: NETHERNET_ADDR=",
        bound->ToString(), ", or no ListenStream="));
  }
  if (!ServesNetherNet(*settings, *bound)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "LISTEN_FDS: the stream socket has the address ", bound->ToString(),
        ", which is not that of NETHERNET_ADDR=",
        settings->nethernet_on_all_addresses
            ? absl::StrCat(":", settings->nethernet_address.port())
            : settings->nethernet_address.ToString(),
        "; allowed: the same address in both"));
  }
  settings->nethernet_on_all_addresses = false;
  settings->nethernet_address = *bound;
  settings->nethernet_listen_fd = fds.front();
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("stream socket from the service manager: ",
                           bound->ToString(), ", for NETHERNET_ADDR"));
  return absl::OkStatus();
}

}  // namespace

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
  return UseSockets(*std::move(sockets), settings, logger);
}

absl::Status UseSockets(std::vector<int> sockets, Settings* settings,
                        Logger* logger) {
  const auto streams =
      std::stable_partition(sockets.begin(), sockets.end(),
                            [](int fd) { return !IsStreamSocket(fd); });
  const std::vector<int> stream_fds(streams, sockets.end());
  sockets.erase(streams, sockets.end());
  if (absl::Status status = UseStreamSockets(stream_fds, settings, logger);
      !status.ok()) {
    CloseAll(stream_fds);
    CloseAll(sockets);
    return status;
  }
  if (sockets.empty()) return absl::OkStatus();
  const absl::StatusOr<SocketAddress> address = BoundAddress(sockets.front());
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("LISTEN_FDS: ", address.status().message()));
  }
  settings->listen_on_all_addresses = false;
  settings->proxy.listen_address = *address;
  settings->proxy.listen_fds = std::move(sockets);
  settings->proxy.listener_count =
      static_cast<int>(settings->proxy.listen_fds.size());
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("sockets from the service manager: ",
                           settings->proxy.listener_count,
                           "; PROXY_ADDR and LISTENER_COUNT are not used"));
  return absl::OkStatus();
}

void ChooseListenAddresses(Settings* settings, Logger* logger) {
  const auto choose = [&](const char* setting, SocketAddress* address) {
    const bool ipv6 = Ipv6Available();
    const uint16_t port = address->port();
    *address =
        ipv6 ? SocketAddress::Ipv6Any(port) : SocketAddress::Ipv4Any(port);
    logger->Log(LogSeverity::kInfo,
                absl::StrCat(setting, "=:", port, " means all addresses, ",
                             ipv6 ? "IPv4 and IPv6"
                                  : "IPv4 only: this machine has no IPv6"));
  };
  if (settings->listen_on_all_addresses) {
    choose("PROXY_ADDR", &settings->proxy.listen_address);
  }
  if (settings->nethernet_on_all_addresses) {
    choose("NETHERNET_ADDR", &settings->nethernet_address);
    settings->nethernet_on_all_addresses = false;
  }
}

absl::Status PrepareStandby(bool is_takeover, Settings* settings) {
  if (!settings->is_standby) return absl::OkStatus();
  if (settings->proxy.listen_address.is_any()) {
    return absl::InvalidArgumentError(
        "STANDBY=on needs the address that moves, and the sockets that were "
        "passed have all addresses; allowed: ListenDatagram= with one address, "
        "and FreeBind=yes");
  }
  settings->proxy.binds_absent_addresses = true;
  const SocketAddress& address = settings->nethernet_address;
  if (is_takeover || !address.is_valid() || address.is_any() ||
      settings->nethernet_listen_fd >= 0) {
    return absl::OkStatus();
  }
  const absl::StatusOr<int> fd = ListenOnAbsentAddress(address);
  if (!fd.ok()) {
    return absl::Status(
        fd.status().code(),
        absl::StrCat("NETHERNET_ADDR: ", fd.status().message()));
  }
  settings->nethernet_listen_fd = *fd;
  return absl::OkStatus();
}

int TakeSocketOf(const char* name, const SocketAddress& wanted,
                 takeover::Predecessor* old_process) {
  const int fd = old_process == nullptr ? -1 : old_process->TakeSocket(name);
  if (fd < 0) return -1;
  const absl::StatusOr<SocketAddress> bound = BoundAddress(fd);
  if (bound.ok() && IsAddressOf(wanted, *bound)) return fd;
  close(fd);
  return -1;
}

}  // namespace cli
}  // namespace udpgate
