#include "udpgate/internal/datagram_batch.h"

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
  // Only a link-local address means nothing without its interface.
  if (IN6_IS_ADDR_LINKLOCAL(&ip)) address.sin6_scope_id = interface;
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// Writes one control message that names the source address of a datagram.
template <typename PacketInfo>
size_t WritePacketInfo(int level, int type, const PacketInfo& info,
                       char* buffer) {
  auto* header = reinterpret_cast<cmsghdr*>(buffer);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(sizeof(info));
  std::memcpy(CMSG_DATA(header), &info, sizeof(info));
  return CMSG_SPACE(sizeof(info));
}

size_t WriteLocalAddress(const SocketAddress& local, int socket_family,
                         char* buffer) {
  sockaddr_storage storage;
  if (local.ToSockaddr(socket_family, &storage) == 0) return 0;
  if (socket_family == AF_INET) {
    in_pktinfo info{};
    info.ipi_spec_dst = reinterpret_cast<sockaddr_in*>(&storage)->sin_addr;
    return WritePacketInfo(IPPROTO_IP, IP_PKTINFO, info, buffer);
  }
  in6_pktinfo info{};
  const auto* address = reinterpret_cast<sockaddr_in6*>(&storage);
  info.ipi6_addr = address->sin6_addr;
  info.ipi6_ifindex = address->sin6_scope_id;
  return WritePacketInfo(IPPROTO_IPV6, IPV6_PKTINFO, info, buffer);
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
    header.msg_control = controls_[i].bytes;
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
                                    int count_max, int flags) {
  const int count = std::min(count_max, capacity() - begin);
  if (extent_ != Extent::kPayload) {
    // In the entries that it filled, the kernel wrote what it used over what
    // it was offered.
    for (int i = begin; i < filled_end_; ++i) OfferRoom(i);
  }
  const SysCallResult received = sys_calls->RecvMmsg(
      fd, messages_.data() + begin, static_cast<unsigned int>(count), flags);
  filled_end_ = received.ok() ? begin + received.value : begin;
  return received;
}

void ReceiveBatch::OfferRoom(int i) {
  if (extent_ == Extent::kControlAndSource) {
    messages_[i].msg_hdr.msg_namelen = sizeof(sockaddr_in6);
  }
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
      // Not ipi_addr: for a broadcast that is no address to reply from.
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

void SendBatch::Add(absl::Span<const char> payload) {
  // sendmmsg(2) only reads what an iovec points to.
  vectors_[size_] = {const_cast<char*>(payload.data()), payload.size()};
  msghdr& header = messages_[size_].msg_hdr;
  header.msg_name = nullptr;
  header.msg_namelen = 0;
  header.msg_control = nullptr;
  header.msg_controllen = 0;
  ++size_;
}

bool SendBatch::AddTo(absl::Span<const char> payload, int socket_family,
                      const SocketAddress& destination,
                      const SocketAddress& local) {
  const socklen_t name_bytes =
      destination.ToSockaddr(socket_family, &names_[size_]);
  if (name_bytes == 0) return false;
  msghdr& header = messages_[size_].msg_hdr;
  Add(payload);
  const int i = size_ - 1;
  header.msg_name = &names_[i];
  header.msg_namelen = name_bytes;
  if (!local.is_valid()) return true;
  header.msg_controllen =
      WriteLocalAddress(local, socket_family, controls_[i].bytes);
  if (header.msg_controllen > 0) header.msg_control = controls_[i].bytes;
  return true;
}

SysCallResult SendBatch::Send(SysCalls* sys_calls, int fd, int begin) {
  return sys_calls->SendMmsg(fd, messages_.data() + begin,
                             static_cast<unsigned int>(size_ - begin));
}

}  // namespace internal
}  // namespace udpgate
