#include "udpgate/internal/net/datagram_batch.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace internal {
namespace {

SocketAddress FromIpv4(const in_addr& ip) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = ip;
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

SocketAddress FromIpv6(const in6_addr& ip, uint32_t interface) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = ip;
  // Only a link-local address needs its interface.
  if (IN6_IS_ADDR_LINKLOCAL(&ip)) address.sin6_scope_id = interface;
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

}  // namespace

ReceiveBatch::ReceiveBatch(int capacity, Extent extent)
    : extent_(extent),
      // Without an initializer, so that no page is touched before its use.
      buffers_(new (std::nothrow) char[static_cast<size_t>(capacity) *
                                       kDatagramBufferBytes]),
      messages_(capacity),
      vectors_(capacity),
      names_(extent == Extent::kControlAndSource ? capacity : 0),
      controls_(extent == Extent::kPayload ? 0 : capacity) {
  for (int i = 0; i < capacity; ++i) {
    vectors_[i] = {buffers_.get() + i * kDatagramBufferBytes,
                   kDatagramBufferBytes};
    msghdr& header = messages_[i].msg_hdr;
    header.msg_iov = &vectors_[i];
    header.msg_iovlen = 1;
    if (extent == Extent::kPayload) continue;
    if (extent == Extent::kControlAndSource) header.msg_name = &names_[i];
    OfferRoom(i);
  }
}

absl::Status ReceiveBatch::CheckMemory() const {
  if (buffers_ != nullptr) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for a batch of ", capacity(), " datagrams, ",
                   capacity() * kDatagramBufferBytes, " bytes"));
}

SysCallResult ReceiveBatch::Receive(SysCalls* sys_calls, int fd, int begin,
                                    int count_max, int flags,
                                    bool reads_control) {
  const int count = std::min(count_max, capacity() - begin);
  const bool is_plain = !reads_control && count == 1;
  if (extent_ != Extent::kPayload) {
    // The kernel has overwritten the lengths of the entries that it filled; and
    // a plain receive has no control buffer.
    for (int i = begin; i < filled_end_; ++i) OfferRoom(i);
    if (is_plain) {
      messages_[begin].msg_hdr.msg_control = nullptr;
      messages_[begin].msg_hdr.msg_controllen = 0;
    }
  }
  const SysCallResult received = sys_calls->RecvMmsg(
      fd, messages_.data() + begin, static_cast<unsigned int>(count), flags);
  filled_end_ = begin + (received.ok() ? received.value : is_plain ? 1 : 0);
  return received;
}

void ReceiveBatch::OfferRoom(int i) {
  if (extent_ == Extent::kControlAndSource) {
    messages_[i].msg_hdr.msg_namelen = sizeof(sockaddr_in6);
  }
  messages_[i].msg_hdr.msg_control = controls_[i].bytes;
  messages_[i].msg_hdr.msg_controllen = kControlBytes;
}

ReceiveBatch::Control ReceiveBatch::control(int i) const {
  Control control;
  // CMSG_NXTHDR takes a pointer to non-const and changes nothing.
  auto* header = const_cast<msghdr*>(&messages_[i].msg_hdr);
  for (cmsghdr* entry = CMSG_FIRSTHDR(header); entry != nullptr;
       entry = CMSG_NXTHDR(header, entry)) {
    if (entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(entry), sizeof(info));
      // Not ipi_addr: a broadcast address cannot be the source of a reply.
      control.local = FromIpv4(info.ipi_spec_dst);
    } else if (entry->cmsg_level == IPPROTO_IPV6 &&
               entry->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(entry), sizeof(info));
      const SocketAddress local = FromIpv6(info.ipi6_addr, info.ipi6_ifindex);
      if (!local.is_multicast()) control.local = local;
    } else if (entry->cmsg_level == SOL_SOCKET &&
               entry->cmsg_type == SO_RXQ_OVFL) {
      uint32_t kernel_drops;
      std::memcpy(&kernel_drops, CMSG_DATA(entry), sizeof(kernel_drops));
      control.kernel_drops = kernel_drops;
    } else if (entry->cmsg_level == SOL_SOCKET &&
               entry->cmsg_type == SCM_TIMESTAMPNS) {
      timespec time;
      std::memcpy(&time, CMSG_DATA(entry), sizeof(time));
      control.receive_time_nanoseconds =
          int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
    } else if (entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_TOS) {
      // One byte, unlike that of IPv6 (ip_cmsg_recv_tos in
      // net/ipv4/ip_sockglue.c of Linux).
      std::memcpy(&control.traffic_class, CMSG_DATA(entry), 1);
    } else if (entry->cmsg_level == IPPROTO_IPV6 &&
               entry->cmsg_type == IPV6_TCLASS) {
      int traffic_class;
      std::memcpy(&traffic_class, CMSG_DATA(entry), sizeof(traffic_class));
      control.traffic_class = static_cast<uint8_t>(traffic_class);
    }
  }
  return control;
}

SendBatch::SendBatch(int capacity)
    : messages_(capacity),
      vectors_(capacity),
      names_(capacity),
      controls_(capacity) {
  for (int i = 0; i < capacity; ++i) {
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

void SendBatch::Add(absl::Span<const char> payload, uint8_t traffic_class,
                    int family) {
  // sendmmsg(2) only reads what an iovec points to.
  vectors_[size_] = {const_cast<char*>(payload.data()), payload.size()};
  msghdr& header = messages_[size_].msg_hdr;
  header.msg_name = nullptr;
  header.msg_namelen = 0;
  header.msg_control = nullptr;
  header.msg_controllen = 0;
  if (traffic_class != 0) {
    AddTrafficClass(size_, family == AF_INET, traffic_class);
  }
  ++size_;
}

bool SendBatch::AddTo(absl::Span<const char> payload, int socket_family,
                      const SocketAddress& destination,
                      const SocketAddress& local, uint8_t traffic_class) {
  const socklen_t name_bytes =
      destination.ToSockaddr(socket_family, &names_[size_]);
  if (name_bytes == 0) return false;
  msghdr& header = messages_[size_].msg_hdr;
  Add(payload);
  const int i = size_ - 1;
  header.msg_name = &names_[i];
  header.msg_namelen = name_bytes;
  if (local.is_valid()) AddLocalAddress(i, socket_family, local);
  if (traffic_class != 0) {
    AddTrafficClass(i, destination.is_ipv4(), traffic_class);
  }
  return true;
}

void SendBatch::AddLocalAddress(int i, int socket_family,
                                const SocketAddress& local) {
  sockaddr_storage storage;
  if (local.ToSockaddr(socket_family, &storage) == 0) return;
  if (socket_family == AF_INET) {
    in_pktinfo info{};
    info.ipi_spec_dst = reinterpret_cast<sockaddr_in*>(&storage)->sin_addr;
    AddControl(i, IPPROTO_IP, IP_PKTINFO, info);
    return;
  }
  in6_pktinfo info{};
  const auto* address = reinterpret_cast<sockaddr_in6*>(&storage);
  info.ipi6_addr = address->sin6_addr;
  info.ipi6_ifindex = address->sin6_scope_id;
  AddControl(i, IPPROTO_IPV6, IPV6_PKTINFO, info);
}

// By the family of the datagram, not of the socket: an IPv6 socket sends to an
// IPv4 address what IP_TOS says (udpv6_sendmsg in net/ipv6/udp.c of Linux).
void SendBatch::AddTrafficClass(int i, bool is_ipv4, uint8_t traffic_class) {
  const int value = traffic_class;
  if (is_ipv4) {
    AddControl(i, IPPROTO_IP, IP_TOS, value);
  } else {
    AddControl(i, IPPROTO_IPV6, IPV6_TCLASS, value);
  }
}

template <typename Value>
void SendBatch::AddControl(int i, int level, int type, const Value& value) {
  msghdr& header = messages_[i].msg_hdr;
  header.msg_control = controls_[i].bytes;
  auto* entry =
      reinterpret_cast<cmsghdr*>(controls_[i].bytes + header.msg_controllen);
  entry->cmsg_level = level;
  entry->cmsg_type = type;
  entry->cmsg_len = CMSG_LEN(sizeof(value));
  std::memcpy(CMSG_DATA(entry), &value, sizeof(value));
  header.msg_controllen += CMSG_SPACE(sizeof(value));
}

SysCallResult SendBatch::Send(SysCalls* sys_calls, int fd, int begin) {
  return sys_calls->SendMmsg(fd, messages_.data() + begin,
                             static_cast<unsigned int>(size_ - begin));
}

}  // namespace internal
}  // namespace udpgate
