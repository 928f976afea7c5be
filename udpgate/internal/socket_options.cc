#include "udpgate/internal/socket_options.h"

#include <linux/sock_diag.h>
#include <sys/socket.h>

namespace udpgate {
namespace internal {
namespace {

void SetBufferBytes(SysCalls* sys_calls, int fd, int name, int forced_name,
                    int64_t bytes) {
  const int value = static_cast<int>(bytes);
  if (sys_calls->SetSockOpt(fd, SOL_SOCKET, forced_name, &value, sizeof(value))
          .ok()) {
    return;
  }
  sys_calls->SetSockOpt(fd, SOL_SOCKET, name, &value, sizeof(value));
}

}  // namespace

void SetReceiveBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes) {
  SetBufferBytes(sys_calls, fd, SO_RCVBUF, SO_RCVBUFFORCE, bytes);
}

void SetSendBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes) {
  SetBufferBytes(sys_calls, fd, SO_SNDBUF, SO_SNDBUFFORCE, bytes);
}

uint32_t KernelDrops(SysCalls* sys_calls, int fd) {
  uint32_t numbers[SK_MEMINFO_VARS] = {};
  socklen_t size = sizeof(numbers);
  sys_calls->GetSockOpt(fd, SOL_SOCKET, SO_MEMINFO, numbers, &size);
  return numbers[SK_MEMINFO_DROPS];
}

}  // namespace internal
}  // namespace udpgate
