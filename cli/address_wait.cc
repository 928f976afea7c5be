#include "cli/address_wait.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace udpgate {
namespace cli {
namespace {

// "PROXY_ADDR=192.0.2.1:19132".
std::string Describe(const WantedAddress& wanted) {
  const std::string text = wanted.address.port() == 0
                               ? wanted.address.IpToString()
                               : wanted.address.ToString();
  return absl::StrCat(wanted.setting, "=", text);
}

}  // namespace

std::vector<WantedAddress> WantedAddresses(const Settings& settings) {
  std::vector<WantedAddress> wanted;
  const auto add = [&wanted](const char* setting,
                             const SocketAddress& address) {
    if (address.is_valid() && !address.is_any()) {
      wanted.push_back({setting, address});
    }
  };
  // A standby gets these later. Sockets of the service manager are bound
  // already.
  const bool is_standby = settings.is_standby;
  if (!is_standby && settings.proxy.listen_fds.empty()) {
    add("PROXY_ADDR", settings.proxy.listen_address);
  }
  for (const SocketAddress& address : settings.proxy.upstream_bind_addresses) {
    if (!is_standby) add("UPSTREAM_BIND_ADDRS", address);
  }
  if (!is_standby && settings.nethernet_listen_fd < 0) {
    add("NETHERNET_ADDR", settings.nethernet_address);
  }
  add("ADMIN_ADDR", settings.admin_address);
  if (settings.forwards_sessions) {
    add("SESSION_FORWARD_ADDR", settings.session_forward_address);
  }
  return wanted;
}

int TryBind(const SocketAddress& address) {
  const int fd = socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  sockaddr_storage name;
  const socklen_t size =
      address.WithPort(0).ToSockaddr(address.family(), &name);
  const int error =
      bind(fd, reinterpret_cast<const sockaddr*>(&name), size) == 0 ? 0 : errno;
  close(fd);
  return error;
}

absl::Status AwaitAddresses(const std::vector<WantedAddress>& addresses,
                            const AddressWaitOptions& options, Logger* logger) {
  if (options.timeout <= absl::ZeroDuration()) return absl::OkStatus();
  const int64_t began_nanoseconds = options.clock->NowNanoseconds();
  const auto waited = [&] {
    return absl::Nanoseconds(options.clock->NowNanoseconds() -
                             began_nanoseconds);
  };
  bool has_waited = false;
  for (;;) {
    std::vector<std::string> missing;
    for (const WantedAddress& wanted : addresses) {
      if (options.try_bind(wanted.address) == EADDRNOTAVAIL) {
        missing.push_back(Describe(wanted));
      }
    }
    if (missing.empty()) break;
    const std::string names = absl::StrJoin(missing, ", ");
    if (!has_waited) {
      has_waited = true;
      const std::string text = absl::StrCat(
          names, ": this machine does not have the address yet; waiting for ",
          absl::FormatDuration(options.timeout), " at most");
      logger->Log(LogSeverity::kWarning, text);
      if (options.on_wait != nullptr) options.on_wait(text);
    }
    if (waited() >= options.timeout) {
      return absl::UnavailableError(absl::StrCat(
          names, ": this machine does not have the address, after ",
          absl::FormatDuration(options.timeout), " (ADDRESS_WAIT_SECS)"));
    }
    if (options.wait(options.look_interval)) {
      return absl::CancelledError("the wait for an address was cancelled");
    }
  }
  if (has_waited) {
    logger->Log(LogSeverity::kInfo,
                absl::StrCat("the addresses are available, after ",
                             absl::FormatDuration(absl::Trunc(
                                 waited(), absl::Milliseconds(1)))));
  }
  return absl::OkStatus();
}

}  // namespace cli
}  // namespace udpgate
