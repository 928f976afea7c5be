// Notices when addresses of this host are added or removed.
#ifndef UDPGATE_INTERNAL_NET_NETWORK_WATCHER_H_
#define UDPGATE_INTERNAL_NET_NETWORK_WATCHER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace internal {

// An rtnetlink(7) socket for addresses. Not for routes: a router may change
// thousands a second. Threads: one at a time.
class NetworkWatcher {
 public:
  // Fails if the system does not allow such a socket.
  static absl::StatusOr<std::unique_ptr<NetworkWatcher>> Create(
      SysCalls* sys_calls);
  NetworkWatcher(const NetworkWatcher&) = delete;
  NetworkWatcher& operator=(const NetworkWatcher&) = delete;

  // Readable if there are messages.
  int fd() const { return fd_.get(); }

  // Reads a bounded number of messages, and returns whether anything has
  // changed. Never waits.
  bool TakeChanges();

 private:
  NetworkWatcher(SysCalls* sys_calls, UniqueFd fd)
      : sys_calls_(sys_calls), fd_(std::move(fd)) {}

  SysCalls* const sys_calls_;
  const UniqueFd fd_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_NETWORK_WATCHER_H_
