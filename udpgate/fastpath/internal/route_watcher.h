// Reports changes of routes, links, addresses and neighbours (rtnetlink(7)),
// after which the exit interface or the next hop of a flow may be wrong.
#ifndef UDPGATE_FASTPATH_INTERNAL_ROUTE_WATCHER_H_
#define UDPGATE_FASTPATH_INTERNAL_ROUTE_WATCHER_H_

#include <array>
#include <cstdint>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "udpgate/fastpath/internal/netlink.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace internal {

struct NetworkChange {
  enum class Kind {
    // An address was removed, a rule or a next hop was added or removed, or
    // messages were lost.
    kEverything,
    kPrefix,       // a route to `prefix` changed, or that address is new
    kLink,         // `link` is new or has changed
    kLinkRemoved,  // `link` was removed
    // The host `prefix` on the link `link.index` no longer answers (NUD_FAILED
    // of ip-neighbour(8)); the kernel may prefer another router now.
    kNeighbourFailed,
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
  // Reports later changes in the network namespace of this thread.
  static absl::StatusOr<RouteWatcher> Open();

  // Readable if a change waits. For poll(2); owned by the watcher.
  int fd() const { return socket_.get(); }

  // Calls `each` for all changes that wait. Does not block.
  void Read(absl::FunctionRef<void(const NetworkChange&)> each);

 private:
  explicit RouteWatcher(udpgate::internal::UniqueFd socket)
      : socket_(std::move(socket)) {}

  udpgate::internal::UniqueFd socket_;
};

// True if `address` is in the prefix of `change`. An IPv4 address is in the
// first four bytes.
bool IsInPrefix(const NetworkChange& change,
                const std::array<uint8_t, 16>& address);

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_ROUTE_WATCHER_H_
