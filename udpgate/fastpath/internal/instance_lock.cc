#include "udpgate/fastpath/internal/instance_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

constexpr char kNamePrefix[] = "udpgate-fastpath-";

// True if both sockets belong to the same network namespace. SIOCGSKNS (4.10)
// needs CAP_NET_ADMIN, which the fast path needs anyway; SO_NETNS_COOKIE would
// need kernel 5.14.
bool IsSameNetworkNamespace(int socket, int other_socket) {
  // Both are open while their numbers are compared.
  const udpgate::internal::UniqueFd one(::ioctl(socket, SIOCGSKNS));
  const udpgate::internal::UniqueFd other(::ioctl(other_socket, SIOCGSKNS));
  struct stat one_status, other_status;
  return one.is_open() && other.is_open() &&
         ::fstat(one.get(), &one_status) == 0 &&
         ::fstat(other.get(), &other_status) == 0 &&
         one_status.st_dev == other_status.st_dev &&
         one_status.st_ino == other_status.st_ino;
}

// An open descriptor if the name was free, else a closed one and errno.
udpgate::internal::UniqueFd BindName(uint32_t number) {
  const std::string name = absl::StrCat(kNamePrefix, number);
  sockaddr_un address;
  std::memset(&address, 0, sizeof(address));
  address.sun_family = AF_UNIX;
  // A name that begins with a 0 byte is abstract.
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  udpgate::internal::UniqueFd socket(
      ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return socket;
  const auto bytes =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
             bytes) != 0) {
    const int error = errno;
    socket.Reset();
    errno = error;
  }
  return socket;
}

}  // namespace

absl::StatusOr<InstanceLock> InstanceLock::Take() {
  for (uint32_t number = 1; number <= kInstancesMax; ++number) {
    udpgate::internal::UniqueFd socket = BindName(number);
    if (socket.is_open()) return InstanceLock(std::move(socket), number);
    if (errno != EADDRINUSE) {
      return udpgate::internal::ErrnoToStatus(errno, "bind the instance lock");
    }
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(kInstancesMax,
                   " processes with a fast path run in this network namespace "
                   "already, and no more may"));
}

absl::StatusOr<InstanceLock> InstanceLock::Adopt(
    udpgate::internal::UniqueFd socket) {
  sockaddr_un address;
  socklen_t bytes = sizeof(address);
  constexpr size_t kNameOffset = offsetof(sockaddr_un, sun_path) + 1;
  uint32_t number = 0;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address),
                    &bytes) != 0 ||
      address.sun_family != AF_UNIX || bytes <= kNameOffset ||
      bytes > sizeof(address) || address.sun_path[0] != '\0') {
    return absl::InvalidArgumentError("not an instance lock");
  }
  absl::string_view name(address.sun_path + 1, bytes - kNameOffset);
  if (!absl::ConsumePrefix(&name, kNamePrefix) ||
      !absl::SimpleAtoi(name, &number) || number < 1 ||
      number > kInstancesMax) {
    return absl::InvalidArgumentError("not an instance lock of the fast path");
  }
  const udpgate::internal::UniqueFd here(
      ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!IsSameNetworkNamespace(socket.get(), here.get())) {
    return absl::InvalidArgumentError(
        "the instance lock is of another network namespace");
  }
  return InstanceLock(std::move(socket), number);
}

udpgate::internal::UniqueFd InstanceLock::Copy() const {
  return udpgate::internal::UniqueFd(
      ::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0));
}

bool InstanceLock::IsFree(uint32_t number) {
  return BindName(number).is_open();
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
