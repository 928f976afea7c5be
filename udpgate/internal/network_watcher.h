// Hears of addresses that come to this host or leave it.
#ifndef UDPGATE_INTERNAL_NETWORK_WATCHER_H_
#define UDPGATE_INTERNAL_NETWORK_WATCHER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace internal {

// A socket of rtnetlink(7) in the groups of addresses. Not of routes: a router
// may change thousands a second. Threads: one at a time.
class NetworkWatcher {
 public:
  // Fails where the host does not let the process have such a socket.
  static absl::StatusOr<std::unique_ptr<NetworkWatcher>> Create(
      SysCalls* sys_calls);
  NetworkWatcher(const NetworkWatcher&) = delete;
  NetworkWatcher& operator=(const NetworkWatcher&) = delete;

  // Readable where there is something to take.
  int fd() const { return fd_.get(); }

  // Takes what has come, a bounded number of messages, and says whether
  // anything has changed. Never waits.
  bool TakeChanges();

 private:
  NetworkWatcher(SysCalls* sys_calls, UniqueFd fd)
      : sys_calls_(sys_calls), fd_(std::move(fd)) {}

  SysCalls* const sys_calls_;
  const UniqueFd fd_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NETWORK_WATCHER_H_
