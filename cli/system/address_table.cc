#include "cli/system/address_table.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace udpgate {
namespace cli {
namespace {

// `bytes` of an address of this family; invalid if there are too few.
SocketAddress ToAddress(int family, const void* bytes, size_t size,
                        uint32_t interface_index) {
  if (family == AF_INET && size >= sizeof(in_addr)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    std::memcpy(&name.sin_addr, bytes, sizeof(name.sin_addr));
    return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&name),
                                       sizeof(name));
  }
  if (family == AF_INET6 && size >= sizeof(in6_addr)) {
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    std::memcpy(&name.sin6_addr, bytes, sizeof(name.sin6_addr));
    // SocketAddress keeps it of link-local addresses alone.
    name.sin6_scope_id = interface_index;
    return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&name),
                                       sizeof(name));
  }
  return SocketAddress();
}

bool IsUsable(uint32_t flags) {
  if ((flags & IFA_F_DADFAILED) != 0) return false;
  return (flags & IFA_F_TENTATIVE) == 0 || (flags & IFA_F_OPTIMISTIC) != 0;
}

}  // namespace

std::vector<char> AddressTable::RequestAll() {
  struct {
    nlmsghdr header;
    ifaddrmsg body;
  } request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = RTM_GETADDR;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = ++sequence_;
  request.body.ifa_family = AF_UNSPEC;
  listed_.clear();
  is_listing_ = true;
  needs_request_ = false;
  const char* const bytes = reinterpret_cast<const char*>(&request);
  return std::vector<char>(bytes, bytes + sizeof(request));
}

void AddressTable::Apply(absl::Span<const char> messages) {
  // NLMSG_OK wants a signed count, and messages are aligned to four bytes.
  size_t offset = 0;
  while (messages.size() - offset >= sizeof(nlmsghdr)) {
    nlmsghdr header;
    std::memcpy(&header, messages.data() + offset, sizeof(header));
    if (header.nlmsg_len < sizeof(header) ||
        header.nlmsg_len > messages.size() - offset) {
      return;
    }
    const char* const payload = messages.data() + offset + NLMSG_HDRLEN;
    const size_t bytes = header.nlmsg_len - sizeof(header);
    const bool is_answer = is_listing_ && header.nlmsg_seq == sequence_;
    // An address came or went between two parts of the answer.
    if (is_answer && (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) {
      needs_request_ = true;
    }
    if (header.nlmsg_type == RTM_NEWADDR || header.nlmsg_type == RTM_DELADDR) {
      ApplyAddress(payload, bytes, header.nlmsg_type == RTM_DELADDR);
    } else if (header.nlmsg_type == NLMSG_DONE && is_answer &&
               !needs_request_) {
      entries_ = listed_;
      is_listing_ = false;
    } else if (header.nlmsg_type == NLMSG_ERROR && is_answer) {
      needs_request_ = true;
    }
    offset += NLMSG_ALIGN(header.nlmsg_len);
    if (offset > messages.size()) return;
  }
}

void AddressTable::ApplyAddress(const char* payload, size_t bytes,
                                bool is_removed) {
  ifaddrmsg message;
  if (bytes < sizeof(message)) return;
  std::memcpy(&message, payload, sizeof(message));
  uint32_t flags = message.ifa_flags;
  SocketAddress local;    // IFA_LOCAL
  SocketAddress address;  // IFA_ADDRESS: of a point-to-point link the peer's
  size_t offset = NLMSG_ALIGN(sizeof(message));
  while (offset < bytes && bytes - offset >= sizeof(rtattr)) {
    rtattr attribute;
    std::memcpy(&attribute, payload + offset, sizeof(attribute));
    if (attribute.rta_len < sizeof(attribute) ||
        attribute.rta_len > bytes - offset) {
      break;
    }
    const char* const value = payload + offset + RTA_LENGTH(0);
    const size_t value_bytes = attribute.rta_len - RTA_LENGTH(0);
    if (attribute.rta_type == IFA_LOCAL) {
      local =
          ToAddress(message.ifa_family, value, value_bytes, message.ifa_index);
    } else if (attribute.rta_type == IFA_ADDRESS) {
      address =
          ToAddress(message.ifa_family, value, value_bytes, message.ifa_index);
    } else if (attribute.rta_type == IFA_FLAGS &&
               value_bytes >= sizeof(flags)) {
      std::memcpy(&flags, value, sizeof(flags));
    }
    offset += RTA_ALIGN(attribute.rta_len);
  }
  const SocketAddress& own = local.is_valid() ? local : address;
  if (!own.is_valid()) return;
  const Entry entry = {own, message.ifa_index, message.ifa_prefixlen,
                       IsUsable(flags)};
  const auto update = [&](std::vector<Entry>* entries) {
    entries->erase(std::remove_if(entries->begin(), entries->end(),
                                  [&entry](const Entry& other) {
                                    return other.address == entry.address &&
                                           other.interface_index ==
                                               entry.interface_index &&
                                           other.prefix_bits ==
                                               entry.prefix_bits;
                                  }),
                   entries->end());
    if (!is_removed) entries->push_back(entry);
  };
  // While an answer is in progress, the old table follows the changes, too.
  update(&entries_);
  if (is_listing_) update(&listed_);
}

bool AddressTable::HasUsable(const SocketAddress& address) const {
  const SocketAddress wanted = address.WithPort(0);
  return std::any_of(entries_.begin(), entries_.end(),
                     [&wanted](const Entry& entry) {
                       return entry.is_usable && entry.address == wanted;
                     });
}

}  // namespace cli
}  // namespace udpgate
