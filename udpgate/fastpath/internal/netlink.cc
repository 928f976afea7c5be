#include "udpgate/fastpath/internal/netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

// A request of fixed header and a few attributes.
template <typename Header>
struct Request {
  nlmsghdr message;
  Header header;
  char attributes[128];
};

template <typename Header>
Request<Header> MakeRequest(uint16_t type, uint16_t flags) {
  Request<Header> request;
  std::memset(&request, 0, sizeof(request));
  request.message.nlmsg_len = NLMSG_LENGTH(sizeof(Header));
  request.message.nlmsg_type = type;
  request.message.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  return request;
}

template <typename Header>
void AddAttribute(Request<Header>* request, uint16_t type, const void* value,
                  uint16_t bytes) {
  auto* attribute =
      reinterpret_cast<rtattr*>(reinterpret_cast<char*>(request) +
                                NLMSG_ALIGN(request->message.nlmsg_len));
  attribute->rta_type = type;
  attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes));
  std::memcpy(RTA_DATA(attribute), value, bytes);
  request->message.nlmsg_len = static_cast<uint32_t>(
      NLMSG_ALIGN(request->message.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
}

template <typename Header>
const Header* HeaderOf(const nlmsghdr* message) {
  return static_cast<const Header*>(NLMSG_DATA(message));
}

template <typename Header>
const void* Attribute(const nlmsghdr* message, int type, int* value_bytes) {
  const char* first =
      reinterpret_cast<const char*>(message) + NLMSG_SPACE(sizeof(Header));
  return FindAttribute(first,
                       static_cast<int>(message->nlmsg_len) -
                           static_cast<int>(NLMSG_SPACE(sizeof(Header))),
                       type, value_bytes);
}

std::string TextOf(const void* value, int bytes) {
  if (value == nullptr) return "";
  const char* text = static_cast<const char*>(value);
  return std::string(text, strnlen(text, static_cast<size_t>(bytes)));
}

template <typename Number>
Number NumberOf(const void* value, int bytes) {
  Number number = 0;
  if (value != nullptr && bytes >= static_cast<int>(sizeof(number))) {
    std::memcpy(&number, value, sizeof(number));
  }
  return number;
}

// IPv4 packets may have an IPv6 router (RFC 5549), in RTA_VIA.
udpgate_next_hop ParseNextHop(const nlmsghdr* message,
                              const SocketAddress& destination) {
  udpgate_next_hop next_hop = {};
  int bytes = 0;
  uint16_t family = HeaderOf<rtmsg>(message)->rtm_family;
  const void* address = Attribute<rtmsg>(message, RTA_GATEWAY, &bytes);
  if (address == nullptr) {
    const void* const via = Attribute<rtmsg>(message, RTA_VIA, &bytes);
    if (via != nullptr) {
      constexpr int kFamilyBytes =
          static_cast<int>(offsetof(rtvia, rtvia_addr));
      family = NumberOf<uint16_t>(via, bytes);
      address = static_cast<const uint8_t*>(via) + kFamilyBytes;
      bytes -= kFamilyBytes;
    } else {
      address = destination.ip_bytes().data();
      bytes = destination.is_ipv4() ? 4 : 16;
    }
  }
  if (bytes != (family == AF_INET ? 4 : 16)) return next_hop;
  next_hop.family = family;
  std::memcpy(next_hop.address, address, static_cast<size_t>(bytes));
  return next_hop;
}

Route ParseRoute(const nlmsghdr* message, const SocketAddress& destination) {
  Route route;
  int bytes = 0;
  const void* value = Attribute<rtmsg>(message, RTA_OIF, &bytes);
  route.interface_index = NumberOf<int>(value, bytes);
  route.next_hop = ParseNextHop(message, destination);
  const void* metrics = Attribute<rtmsg>(message, RTA_METRICS, &bytes);
  if (metrics != nullptr) {
    int mtu_bytes = 0;
    const void* mtu = FindAttribute(metrics, bytes, RTAX_MTU, &mtu_bytes);
    route.mtu_bytes = NumberOf<int>(mtu, mtu_bytes);
  }
  return route;
}

// True for a route to other hosts that sessions may have.
bool MatterToSessions(const nlmsghdr* message) {
  const auto* header = HeaderOf<rtmsg>(message);
  if (header->rtm_type != RTN_UNICAST || header->rtm_table == RT_TABLE_LOCAL ||
      (header->rtm_flags & RTM_F_CLONED) != 0) {
    return false;
  }
  int bytes = 0;
  const auto* prefix =
      static_cast<const uint8_t*>(Attribute<rtmsg>(message, RTA_DST, &bytes));
  if (header->rtm_family != AF_INET6 || prefix == nullptr || bytes < 2) {
    return true;
  }
  const bool is_link_local = prefix[0] == 0xFE && (prefix[1] & 0xC0) == 0x80;
  return !is_link_local && prefix[0] != 0xFF;  // multicast
}

// A route has one interface, or several next hops (rtnetlink(7)).
void AddRouteInterfaces(const nlmsghdr* message, std::set<int>* interfaces) {
  int bytes = 0;
  const void* value = Attribute<rtmsg>(message, RTA_OIF, &bytes);
  if (value != nullptr) interfaces->insert(NumberOf<int>(value, bytes));
  value = Attribute<rtmsg>(message, RTA_MULTIPATH, &bytes);
  if (value == nullptr) return;
  for (const auto* hop = static_cast<const rtnexthop*>(value);
       RTNH_OK(hop, bytes);) {
    interfaces->insert(hop->rtnh_ifindex);
    bytes -= static_cast<int>(RTNH_ALIGN(hop->rtnh_len));
    hop = RTNH_NEXT(hop);
  }
}

// On a point-to-point link, IFA_ADDRESS is the address of the peer
// (rtnetlink(7)).
InterfaceAddress ParseAddress(const nlmsghdr* message) {
  const auto* header = HeaderOf<ifaddrmsg>(message);
  InterfaceAddress result;
  result.interface_index = static_cast<int>(header->ifa_index);
  int bytes = 0;
  const void* value = Attribute<ifaddrmsg>(message, IFA_LOCAL, &bytes);
  if (value == nullptr) {
    value = Attribute<ifaddrmsg>(message, IFA_ADDRESS, &bytes);
  }
  sockaddr_in ipv4{};
  sockaddr_in6 ipv6{};
  if (header->ifa_family == AF_INET && bytes == 4 && value != nullptr) {
    ipv4.sin_family = AF_INET;
    std::memcpy(&ipv4.sin_addr, value, 4);
    result.address = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&ipv4), sizeof(ipv4));
  } else if (header->ifa_family == AF_INET6 && bytes == 16 &&
             value != nullptr) {
    ipv6.sin6_family = AF_INET6;
    std::memcpy(&ipv6.sin6_addr, value, 16);
    ipv6.sin6_scope_id = header->ifa_index;
    result.address = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&ipv6), sizeof(ipv6));
  }
  return result;
}

IngressFilter ParseFilter(const nlmsghdr* message) {
  const auto* header = HeaderOf<tcmsg>(message);
  IngressFilter filter;
  filter.priority = header->tcm_info >> 16;  // TC_H_MAJ
  filter.handle = header->tcm_handle;
  int bytes = 0;
  const void* kind = Attribute<tcmsg>(message, TCA_KIND, &bytes);
  filter.kind = TextOf(kind, bytes);
  const void* options = Attribute<tcmsg>(message, TCA_OPTIONS, &bytes);
  if (options != nullptr && filter.kind == "bpf") {
    int name_bytes = 0;
    const void* name = FindAttribute(options, bytes, TCA_BPF_NAME, &name_bytes);
    filter.name = TextOf(name, name_bytes);
  }
  return filter;
}

}  // namespace

const void* FindAttribute(const void* attributes, int bytes, int type,
                          int* value_bytes) {
  const auto* attribute = static_cast<const rtattr*>(attributes);
  while (RTA_OK(attribute, bytes)) {
    if ((attribute->rta_type & NLA_TYPE_MASK) == type) {
      *value_bytes = static_cast<int>(RTA_PAYLOAD(attribute));
      return RTA_DATA(attribute);
    }
    attribute = RTA_NEXT(attribute, bytes);
  }
  return nullptr;
}

Link ParseLink(const nlmsghdr* message) {
  const auto* header = HeaderOf<ifinfomsg>(message);
  Link link;
  link.index = header->ifi_index;
  link.flags = header->ifi_flags;
  link.hardware = header->ifi_type;
  int bytes = 0;
  const void* name = Attribute<ifinfomsg>(message, IFLA_IFNAME, &bytes);
  link.name = TextOf(name, bytes);
  const void* mtu = Attribute<ifinfomsg>(message, IFLA_MTU, &bytes);
  link.mtu_bytes = NumberOf<int>(mtu, bytes);
  const void* info = Attribute<ifinfomsg>(message, IFLA_LINKINFO, &bytes);
  if (info != nullptr) {
    int kind_bytes = 0;
    const void* kind = FindAttribute(info, bytes, IFLA_INFO_KIND, &kind_bytes);
    link.kind = TextOf(kind, kind_bytes);
  }
  return link;
}

absl::StatusOr<Netlink> Netlink::Open() {
  udpgate::internal::UniqueFd socket(
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket.is_open())
    return udpgate::internal::ErrnoToStatus(errno, "socket rtnetlink");
  // The kernel replies immediately. The limit is for safety.
  timeval limit = {1, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  return Netlink(std::move(socket));
}

absl::StatusOr<Route> Netlink::FindRoute(const SocketAddress& source,
                                         const SocketAddress& destination) {
  const uint16_t bytes = destination.is_ipv4() ? 4 : 16;
  auto request = MakeRequest<rtmsg>(RTM_GETROUTE, 0);
  request.header.rtm_family = static_cast<uint8_t>(destination.family());
  request.header.rtm_dst_len = static_cast<uint8_t>(bytes * 8);
  request.header.rtm_src_len = static_cast<uint8_t>(bytes * 8);
  AddAttribute(&request, RTA_DST, destination.ip_bytes().data(), bytes);
  AddAttribute(&request, RTA_SRC, source.ip_bytes().data(), bytes);
  // They decide among several next hops if fib_multipath_hash_policy says so.
  constexpr uint8_t kProtocol = IPPROTO_UDP;
  const uint16_t source_port = htons(source.port());
  const uint16_t destination_port = htons(destination.port());
  AddAttribute(&request, RTA_IP_PROTO, &kProtocol, sizeof(kProtocol));
  AddAttribute(&request, RTA_SPORT, &source_port, sizeof(source_port));
  AddAttribute(&request, RTA_DPORT, &destination_port,
               sizeof(destination_port));
  if (destination.scope_id() != 0) {
    const uint32_t scope_id = destination.scope_id();
    AddAttribute(&request, RTA_OIF, &scope_id, sizeof(scope_id));
  }
  const std::string what = absl::StrCat("route to ", destination.IpToString());
  Route route;
  uint8_t type = RTN_UNSPEC;
  absl::Status status =
      Query(what, &request.message, [&](const nlmsghdr* message) {
        if (message->nlmsg_type != RTM_NEWROUTE) return;
        route = ParseRoute(message, destination);
        type = HeaderOf<rtmsg>(message)->rtm_type;
      });
  if (!status.ok()) return status;
  if (route.interface_index == 0 ||
      (type != RTN_UNICAST && type != RTN_LOCAL)) {
    return absl::NotFoundError(absl::StrCat(what, ": there is no route"));
  }
  return route;
}

absl::StatusOr<std::set<int>> Netlink::RouteInterfaces(int family) {
  auto request = MakeRequest<rtmsg>(RTM_GETROUTE, NLM_F_DUMP);
  request.header.rtm_family = static_cast<uint8_t>(family);
  std::set<int> interfaces;
  absl::Status status =
      Query("list of routes", &request.message, [&](const nlmsghdr* message) {
        if (message->nlmsg_type == RTM_NEWROUTE && MatterToSessions(message)) {
          AddRouteInterfaces(message, &interfaces);
        }
      });
  if (!status.ok()) return status;
  interfaces.erase(0);
  return interfaces;
}

absl::StatusOr<std::vector<Link>> Netlink::Links() {
  auto request = MakeRequest<ifinfomsg>(RTM_GETLINK, NLM_F_DUMP);
  std::vector<Link> links;
  absl::Status status =
      Query("list of links", &request.message, [&](const nlmsghdr* message) {
        if (message->nlmsg_type == RTM_NEWLINK) {
          links.push_back(ParseLink(message));
        }
      });
  if (!status.ok()) return status;
  return links;
}

absl::StatusOr<std::vector<InterfaceAddress>> Netlink::Addresses() {
  auto request = MakeRequest<ifaddrmsg>(RTM_GETADDR, NLM_F_DUMP);
  std::vector<InterfaceAddress> addresses;
  absl::Status status = Query("list of addresses", &request.message,
                              [&](const nlmsghdr* message) {
                                if (message->nlmsg_type != RTM_NEWADDR) return;
                                addresses.push_back(ParseAddress(message));
                              });
  if (!status.ok()) return status;
  return addresses;
}

absl::StatusOr<std::vector<IngressFilter>> Netlink::IngressFilters(
    int interface_index) {
  auto request = MakeRequest<tcmsg>(RTM_GETTFILTER, NLM_F_DUMP);
  request.header.tcm_family = AF_UNSPEC;
  request.header.tcm_ifindex = interface_index;
  request.header.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
  std::vector<IngressFilter> filters;
  absl::Status status = Query("list of ingress filters", &request.message,
                              [&](const nlmsghdr* message) {
                                if (message->nlmsg_type != RTM_NEWTFILTER)
                                  return;
                                IngressFilter filter = ParseFilter(message);
                                // The first message is about the priority.
                                if (filter.handle != 0)
                                  filters.push_back(std::move(filter));
                              });
  if (!status.ok()) return status;
  return filters;
}

absl::Status Netlink::Query(absl::string_view what, nlmsghdr* request,
                            absl::FunctionRef<void(const nlmsghdr*)> each) {
  request->nlmsg_seq = ++sequence_;
  if (::send(socket_.get(), request, request->nlmsg_len, 0) < 0) {
    return udpgate::internal::ErrnoToStatus(errno, what);
  }
  bool done = false;
  while (!done) {
    absl::Status status = ReadReply(what, *request, each, &done);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Netlink::ReadReply(absl::string_view what, const nlmsghdr& request,
                                absl::FunctionRef<void(const nlmsghdr*)> each,
                                bool* done) {
  alignas(nlmsghdr) char buffer[32768];  // the kernel's maximum
  const ssize_t received = ::recv(socket_.get(), buffer, sizeof(buffer), 0);
  if (received < 0) {
    return errno == EINTR ? absl::OkStatus()
                          : udpgate::internal::ErrnoToStatus(errno, what);
  }
  auto left = static_cast<unsigned int>(received);
  for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer);
       NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
    // The rest of an earlier reply that was not read to its end.
    if (message->nlmsg_seq != request.nlmsg_seq) continue;
    if (message->nlmsg_type == NLMSG_DONE) {
      *done = true;
    } else if (message->nlmsg_type == NLMSG_ERROR) {
      *done = true;
      const int error = -HeaderOf<nlmsgerr>(message)->error;
      if (error == 0) continue;
      if (error == ENETUNREACH || error == EHOSTUNREACH) {
        return absl::NotFoundError(
            absl::StrCat(what, ": ", udpgate::internal::ErrnoToText(error)));
      }
      return udpgate::internal::ErrnoToStatus(error, what);
    } else {
      each(message);
      // A reply is one message, unless the request was for a list.
      if ((request.nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) *done = true;
    }
  }
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
