#include "cli/system/system.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace cli {
namespace {

absl::optional<int64_t> ReadNumber(const char* path) {
  int64_t number = 0;
  std::ifstream file(path);
  if (!(file >> number)) return absl::nullopt;
  return number;
}

// -1 if there is none.
int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  if (getsockopt(fd, SOL_SOCKET, option, &value, &size) != 0) return -1;
  return value;
}

}  // namespace

void OpenStandardDescriptors() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

absl::Status RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    if (limit.rlim_cur == limit.rlim_max) return absl::OkStatus();
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "cannot raise the descriptor limit");
}

int64_t DescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = RLIM_INFINITY;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT64_MAX));
}

absl::optional<int64_t> ReceiveBufferLimit() {
  return ReadNumber("/proc/sys/net/core/rmem_max");
}

absl::optional<int64_t> SendBufferLimit() {
  return ReadNumber("/proc/sys/net/core/wmem_max");
}

bool Ipv6Available() {
  const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const int off = 0;
  sockaddr_storage address;
  const socklen_t size =
      SocketAddress::Ipv6Any(0).ToSockaddr(AF_INET6, &address);
  const bool available =
      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0 &&
      bind(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0;
  close(fd);
  return available;
}

absl::StatusOr<int> ListenOnAbsentAddress(const SocketAddress& address) {
  constexpr int kBacklog = 1024;
  const int family = address.family();
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(family, &storage);
  if (size == 0) return absl::InvalidArgumentError("invalid address");
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, address.ToString());
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
                 family == AF_INET ? IP_FREEBIND : IPV6_FREEBIND, &on,
                 sizeof(on)) == 0 &&
      bind(fd, reinterpret_cast<const sockaddr*>(&storage), size) == 0 &&
      listen(fd, kBacklog) == 0) {
    return fd;
  }
  const absl::Status status = absl::ErrnoToStatus(errno, address.ToString());
  close(fd);
  return status;
}

bool IsStreamSocket(int fd) { return SocketOption(fd, SO_TYPE) == SOCK_STREAM; }

bool IsListening(int fd) { return SocketOption(fd, SO_ACCEPTCONN) == 1; }

absl::StatusOr<SocketAddress> BoundAddress(int fd) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  auto* const address = reinterpret_cast<sockaddr*>(&bound);
  if (getsockname(fd, address, &size) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("getsockname: ", std::strerror(errno)));
  }
  return SocketAddress::FromSockaddr(address, size);
}

}  // namespace cli
}  // namespace udpgate
