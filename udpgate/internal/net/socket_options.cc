#include "udpgate/internal/net/socket_options.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

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

using MemoryInfo = std::array<uint32_t, SK_MEMINFO_VARS>;

// All zeros if the kernel does not tell.
MemoryInfo ReadMemoryInfo(SysCalls* sys_calls, int fd) {
  MemoryInfo numbers{};
  socklen_t size = sizeof(numbers);
  sys_calls->GetSockOpt(fd, SOL_SOCKET, SO_MEMINFO, numbers.data(), &size);
  return numbers;
}

}  // namespace

void SetReceiveBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes) {
  SetBufferBytes(sys_calls, fd, SO_RCVBUF, SO_RCVBUFFORCE, bytes);
}

void SetSendBufferBytes(SysCalls* sys_calls, int fd, int64_t bytes) {
  SetBufferBytes(sys_calls, fd, SO_SNDBUF, SO_SNDBUFFORCE, bytes);
}

absl::Status SetTrafficOptions(SysCalls* sys_calls, int fd, bool has_ipv4,
                               bool has_ipv6, const TrafficOptions& options) {
  const struct {
    bool is_wanted;
    int level;
    int name;
    int value;
    const char* text;
  } all[] = {
      {has_ipv4, IPPROTO_IP, IP_MTU_DISCOVER,
       options.dont_fragment ? IP_PMTUDISC_PROBE : IP_PMTUDISC_OMIT,
       "IP_MTU_DISCOVER"},
      {has_ipv4, IPPROTO_IP, IP_RECVTOS, options.copies_traffic_class ? 1 : 0,
       "IP_RECVTOS"},
      {has_ipv6, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
       options.dont_fragment ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_WANT,
       "IPV6_MTU_DISCOVER"},
      {has_ipv6, IPPROTO_IPV6, IPV6_RECVTCLASS,
       options.copies_traffic_class ? 1 : 0, "IPV6_RECVTCLASS"},
  };
  for (const auto& option : all) {
    if (!option.is_wanted) continue;
    const SysCallResult result = sys_calls->SetSockOpt(
        fd, option.level, option.name, &option.value, sizeof(option.value));
    if (!result.ok()) {
      return ErrnoToStatus(result.error,
                           absl::StrCat("setsockopt ", option.text));
    }
  }
  return absl::OkStatus();
}

uint32_t KernelDrops(SysCalls* sys_calls, int fd) {
  return ReadMemoryInfo(sys_calls, fd)[SK_MEMINFO_DROPS];
}

SendBufferUse ReadSendBufferUse(SysCalls* sys_calls, int fd) {
  const MemoryInfo numbers = ReadMemoryInfo(sys_calls, fd);
  return {numbers[SK_MEMINFO_WMEM_ALLOC], numbers[SK_MEMINFO_SNDBUF]};
}

absl::optional<size_t> NextDatagramBytes(SysCalls* sys_calls, int fd) {
  char byte;
  iovec vector = {&byte, sizeof(byte)};
  // With a name it goes by recvmmsg(2), which reports the real length.
  sockaddr_storage name;
  mmsghdr message{};
  message.msg_hdr.msg_name = &name;
  message.msg_hdr.msg_namelen = sizeof(name);
  message.msg_hdr.msg_iov = &vector;
  message.msg_hdr.msg_iovlen = 1;
  // The first call may meet a pending error, which hides what waits behind it.
  for (int attempt = 0; attempt < 2; ++attempt) {
    const SysCallResult received = sys_calls->RecvMmsg(
        fd, &message, 1, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
    if (received.ok()) return message.msg_len;
    if (received.error == EAGAIN) break;
  }
  return absl::nullopt;
}

}  // namespace internal
}  // namespace udpgate
