#include "udpgate/fastpath/instance_lock.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/sys_calls.h"

namespace udpgate {
namespace fastpath {
namespace {

// An open descriptor where the name was free, else a closed one and errno.
internal::UniqueFd BindName(uint32_t number) {
  const std::string name = absl::StrCat("udpgate-fastpath-", number);
  sockaddr_un address;
  std::memset(&address, 0, sizeof(address));
  address.sun_family = AF_UNIX;
  // A name that begins with 0 is an abstract one.
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  internal::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
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
    internal::UniqueFd socket = BindName(number);
    if (socket.is_open()) return InstanceLock(std::move(socket), number);
    if (errno != EADDRINUSE) {
      return internal::ErrnoToStatus(errno, "socket that marks this process");
    }
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(kInstancesMax,
                   " processes with a fast path run in this network namespace "
                   "already, and no more may"));
}

bool InstanceLock::IsFree(uint32_t number) {
  return BindName(number).is_open();
}

}  // namespace fastpath
}  // namespace udpgate
