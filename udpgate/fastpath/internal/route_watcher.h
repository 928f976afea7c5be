// Tells of changes to routes, links and addresses (rtnetlink(7)), after which a
// flow may no longer leave by the interface that it was given.
#ifndef UDPGATE_FASTPATH_INTERNAL_ROUTE_WATCHER_H_
#define UDPGATE_FASTPATH_INTERNAL_ROUTE_WATCHER_H_

#include <array>
#include <cstdint>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "udpgate/fastpath/internal/netlink.h"
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace internal {

struct NetworkChange {
  enum class Kind {
    // An address went, a rule or a next hop came or went; or we have missed
    // some change.
    kEverything,
    kPrefix,       // a route to `prefix`, or that address of ours, has changed
    kLink,         // `link` is new, or as it says now
    kLinkRemoved,  // `link` is gone
  };
  Kind kind = Kind::kEverything;
  Link link;
  int family = 0;  // of the prefix: AF_INET or AF_INET6
  std::array<uint8_t, 16> prefix{};
  int prefix_bits = 0;
};

// Threads: one at a time.
class RouteWatcher {
 public:
  // Changes from now on are told, in the network namespace of this thread.
  static absl::StatusOr<RouteWatcher> Open();

  // Readable where there is a change. For poll(2); owned by the watcher.
  int fd() const { return socket_.get(); }

  // Calls `each` for the changes that wait. Does not wait for any.
  void Read(absl::FunctionRef<void(const NetworkChange&)> each);

 private:
  explicit RouteWatcher(udpgate::internal::UniqueFd socket)
      : socket_(std::move(socket)) {}

  udpgate::internal::UniqueFd socket_;
};

// True where `address` (four or sixteen bytes) lies in the prefix of `change`.
bool IsInPrefix(const NetworkChange& change,
                const std::array<uint8_t, 16>& address);

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_ROUTE_WATCHER_H_
