#include "udpgate/internal/net/network_watcher.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <utility>

namespace udpgate {
namespace internal {

absl::StatusOr<std::unique_ptr<NetworkWatcher>> NetworkWatcher::Create(
    SysCalls* sys_calls) {
  const SysCallResult opened = sys_calls->Socket(
      AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (!opened.ok()) return ErrnoToStatus(opened.error, "socket AF_NETLINK");
  UniqueFd fd(opened.value);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  const SysCallResult bound =
      sys_calls->Bind(opened.value, reinterpret_cast<const sockaddr*>(&address),
                      sizeof(address));
  if (!bound.ok()) return ErrnoToStatus(bound.error, "bind AF_NETLINK");
  return std::unique_ptr<NetworkWatcher>(
      new NetworkWatcher(sys_calls, std::move(fd)));
}

bool NetworkWatcher::TakeChanges() {
  constexpr int kMessagesMax = 16;
  bool has_changed = false;
  for (int i = 0; i < kMessagesMax; ++i) {
    // The content does not matter: each session checks its own address.
    char byte;
    iovec vector = {&byte, sizeof(byte)};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &vector;
    message.msg_hdr.msg_iovlen = 1;
    const SysCallResult received =
        sys_calls_->RecvMmsg(fd_.get(), &message, 1, MSG_DONTWAIT);
    // ENOBUFS: messages were lost (netlink(7)).
    if (!received.ok()) return has_changed || received.error == ENOBUFS;
    has_changed = true;
  }
  return has_changed;
}

}  // namespace internal
}  // namespace udpgate
