// Queries of routes, links, addresses and filters, over rtnetlink(7).
//
//   absl::StatusOr<Netlink> netlink = Netlink::Open();
//   absl::StatusOr<Route> route = netlink->FindRoute(relay, backend);
//
// Errors: the status of errno, with the query in the text; NotFound if there is
// no route or no such interface.
#ifndef UDPGATE_FASTPATH_INTERNAL_NETLINK_H_
#define UDPGATE_FASTPATH_INTERNAL_NETLINK_H_

#include <linux/netlink.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/fastpath/internal/layout.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {

struct Route {
  int interface_index = 0;
  // The router, or the destination if it is on the link.
  udpgate_next_hop next_hop = {};
  // MTU of the route (ip-route(8), "mtu", or learnt by path MTU discovery). 0
  // if it has none: the MTU of the interface applies.
  int mtu_bytes = 0;
};

struct Link {
  int index = 0;
  std::string name;
  uint32_t flags = 0;     // IFF_UP, ...
  uint16_t hardware = 0;  // ARPHRD_ETHER, ...
  int mtu_bytes = 0;
  std::string kind;  // ip-link(8), "type"; empty for devices of the machine

  friend bool operator==(const Link& a, const Link& b) {
    return a.index == b.index && a.name == b.name && a.flags == b.flags &&
           a.hardware == b.hardware && a.mtu_bytes == b.mtu_bytes &&
           a.kind == b.kind;
  }
};

// An address of this host.
struct InterfaceAddress {
  int interface_index = 0;
  SocketAddress address;  // port 0
};

// A filter at the ingress hook of an interface (tc-filter(8)).
struct IngressFilter {
  uint32_t priority = 0;  // smaller is earlier
  uint32_t handle = 0;
  std::string kind;  // "bpf", "u32", ...
  std::string name;  // of a bpf filter; else empty
};

// The attribute of this type in `attributes`, or nullptr. See netlink(7).
const void* FindAttribute(const void* attributes, int bytes, int type,
                          int* value_bytes);

// The link of an RTM_NEWLINK or RTM_DELLINK message.
Link ParseLink(const nlmsghdr* message);

// Threads: one at a time.
class Netlink {
 public:
  static absl::StatusOr<Netlink> Open();

  // The route of this host's datagrams from `source` to `destination`. NotFound
  // if there is none (also unreachable, blackhole).
  absl::StatusOr<Route> FindRoute(const SocketAddress& source,
                                  const SocketAddress& destination);
  // Indices of the interfaces by which routes to other hosts leave, in all
  // tables. Not those that only multicast or link-local addresses leave by.
  absl::StatusOr<std::set<int>> RouteInterfaces(int family);
  absl::StatusOr<std::vector<Link>> Links();
  absl::StatusOr<std::vector<InterfaceAddress>> Addresses();
  // Empty if the interface has no ingress hook.
  absl::StatusOr<std::vector<IngressFilter>> IngressFilters(
      int interface_index);

 private:
  explicit Netlink(udpgate::internal::UniqueFd socket)
      : socket_(std::move(socket)) {}

  // Sends `request` and calls `each` for every message of the reply.
  absl::Status Query(absl::string_view what, nlmsghdr* request,
                     absl::FunctionRef<void(const nlmsghdr*)> each);
  // Reads one part of the reply; sets `done` after the last one.
  absl::Status ReadReply(absl::string_view what, const nlmsghdr& request,
                         absl::FunctionRef<void(const nlmsghdr*)> each,
                         bool* done);

  udpgate::internal::UniqueFd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_NETLINK_H_
