#include "udpgate/fastpath/internal/route_watcher.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "absl/types/optional.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

constexpr int kReceiveBufferBytes = 1 << 20;

// Ignores cached routes (RTM_F_CLONED).
absl::optional<NetworkChange> ParseRouteChange(const nlmsghdr* message) {
  const auto* route = static_cast<const rtmsg*>(NLMSG_DATA(message));
  if ((route->rtm_flags & RTM_F_CLONED) != 0) return absl::nullopt;
  NetworkChange change;
  if (route->rtm_family != AF_INET && route->rtm_family != AF_INET6) {
    return absl::nullopt;
  }
  change.kind = NetworkChange::Kind::kPrefix;
  change.family = route->rtm_family;
  change.prefix_bits = route->rtm_dst_len;
  int bytes = 0;
  const void* prefix = FindAttribute(
      RTM_RTA(route), static_cast<int>(RTM_PAYLOAD(message)), RTA_DST, &bytes);
  if (prefix != nullptr) {
    std::memcpy(change.prefix.data(), prefix,
                std::min<size_t>(static_cast<size_t>(bytes), 16));
  }
  return change;
}

absl::optional<NetworkChange> ParseLinkChange(const nlmsghdr* message) {
  // A bridge reports its ports with the same message type.
  if (static_cast<const ifinfomsg*>(NLMSG_DATA(message))->ifi_family !=
      AF_UNSPEC) {
    return absl::nullopt;
  }
  NetworkChange change;
  change.kind = message->nlmsg_type == RTM_NEWLINK
                    ? NetworkChange::Kind::kLink
                    : NetworkChange::Kind::kLinkRemoved;
  change.link = ParseLink(message);
  return change;
}

// A new address matters to flows that have it as client or backend. The kernel
// reports it again each time a router renews it. A removed address also removes
// routes that are not reported (ip-route(8), "src").
NetworkChange ParseNewAddress(const nlmsghdr* message) {
  const auto* header = static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
  NetworkChange change;
  int bytes = 0;
  const void* address =
      FindAttribute(IFA_RTA(header), static_cast<int>(IFA_PAYLOAD(message)),
                    IFA_LOCAL, &bytes);
  if (address == nullptr) {
    address =
        FindAttribute(IFA_RTA(header), static_cast<int>(IFA_PAYLOAD(message)),
                      IFA_ADDRESS, &bytes);
  }
  if (address == nullptr || bytes > 16) return change;
  change.kind = NetworkChange::Kind::kPrefix;
  change.family = header->ifa_family;
  change.prefix_bits = bytes * 8;
  std::memcpy(change.prefix.data(), address, static_cast<size_t>(bytes));
  return change;
}

// Other states do not change the route.
absl::optional<NetworkChange> ParseNeighbour(const nlmsghdr* message) {
  const auto* header = static_cast<const ndmsg*>(NLMSG_DATA(message));
  if (header->ndm_state != NUD_FAILED) return absl::nullopt;
  if (header->ndm_family != AF_INET && header->ndm_family != AF_INET6) {
    return absl::nullopt;  // of a bridge
  }
  const char* const first =
      reinterpret_cast<const char*>(message) + NLMSG_SPACE(sizeof(ndmsg));
  int bytes = 0;
  const void* address =
      FindAttribute(first,
                    static_cast<int>(message->nlmsg_len) -
                        static_cast<int>(NLMSG_SPACE(sizeof(ndmsg))),
                    NDA_DST, &bytes);
  if (address == nullptr || bytes > 16) return absl::nullopt;
  NetworkChange change;
  change.kind = NetworkChange::Kind::kNeighbourFailed;
  change.link.index = header->ndm_ifindex;
  change.family = header->ndm_family;
  change.prefix_bits = bytes * 8;
  std::memcpy(change.prefix.data(), address, static_cast<size_t>(bytes));
  return change;
}

absl::optional<NetworkChange> ParseChange(const nlmsghdr* message) {
  switch (message->nlmsg_type) {
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return ParseRouteChange(message);
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return ParseLinkChange(message);
    case RTM_NEWADDR:
      return ParseNewAddress(message);
    case RTM_NEWNEIGH:
      return ParseNeighbour(message);
    case RTM_DELNEIGH:
    case RTM_GETNEIGH:  // a question for a daemon (app_solicit, VXLAN)
    case NLMSG_NOOP:
      return absl::nullopt;
    default:
      return NetworkChange();
  }
}

}  // namespace

absl::StatusOr<RouteWatcher> RouteWatcher::Open() {
  udpgate::internal::UniqueFd socket(::socket(
      AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!socket.is_open()) {
    return udpgate::internal::ErrnoToStatus(errno, "socket rtnetlink");
  }
  // An unbound socket has port 0, the kernel's own, and gets no messages from
  // the kernel.
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
             sizeof(address)) != 0) {
    return udpgate::internal::ErrnoToStatus(errno, "bind rtnetlink");
  }
  // Room for messages about many neighbours at once, also above rmem_max.
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes,
               sizeof(kReceiveBufferBytes));
  for (const int group :
       {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
        RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE,
        RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP, RTNLGRP_NEIGH}) {
    if (::setsockopt(socket.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group,
                     sizeof(group)) != 0) {
      return udpgate::internal::ErrnoToStatus(errno, "watch routes");
    }
  }
  return RouteWatcher(std::move(socket));
}

void RouteWatcher::Read(absl::FunctionRef<void(const NetworkChange&)> each) {
  alignas(nlmsghdr) char buffer[32768];
  for (;;) {
    const ssize_t received = ::recv(socket_.get(), buffer, sizeof(buffer), 0);
    if (received < 0) {
      // The socket's buffer was full: messages were lost.
      if (errno == ENOBUFS) each(NetworkChange());
      if (errno == ENOBUFS || errno == EINTR) continue;
      return;
    }
    auto left = static_cast<unsigned int>(received);
    for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer);
         NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
      const absl::optional<NetworkChange> change = ParseChange(message);
      if (change.has_value()) each(*change);
    }
  }
}

bool IsInPrefix(const NetworkChange& change,
                const std::array<uint8_t, 16>& address) {
  const int bytes = change.prefix_bits / 8;
  const int bits = change.prefix_bits % 8;
  if (std::memcmp(address.data(), change.prefix.data(),
                  static_cast<size_t>(bytes)) != 0) {
    return false;
  }
  if (bits == 0) return true;
  const int mask = 0xFF << (8 - bits) & 0xFF;
  return ((address[bytes] ^ change.prefix[bytes]) & mask) == 0;
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
