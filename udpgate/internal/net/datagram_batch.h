// Arrays of datagrams for recvmmsg(2) and sendmmsg(2), allocated once and
// reused for each batch.
#ifndef UDPGATE_INTERNAL_NET_DATAGRAM_BATCH_H_
#define UDPGATE_INTERNAL_NET_DATAGRAM_BATCH_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Holds the largest payload that UDP can carry without jumbograms: 65,527
// bytes over IPv6, 65,507 over IPv4 (RFC 768, RFC 8200). So no
// datagram is truncated.
inline constexpr size_t kDatagramBufferBytes = 65536;

// One client's datagram between the socket and its session. The payload lies
// in a ReceiveBatch or an Inbox and is valid only for the call that gets it.
struct ClientDatagram {
  // Who has sent it here: the client, or another gateway: a datagram of a
  // client whose session is here; a reply to a client whose session is there;
  // whether there is a session, which is no datagram of anybody.
  enum class Origin : uint8_t {
    kClient,
    kHop,
    kHopReply,
    kHopNoSession,
    kHopSession
  };

  SocketAddress client;
  // The local address that the client sent to, port 0; invalid unless the
  // listening socket is a wildcard one. From another gateway: that gateway's,
  // with the port.
  SocketAddress local;
  uint32_t hash = 0;  // ClientHash of `client`
  uint16_t listener = 0;
  uint8_t traffic_class = 0;  // see ReceiveBatch::Control
  Origin origin = Origin::kClient;
  bool wants_answer = false;             // of kHop: whether there is a session
  uint16_t peer = 0;                     // the other gateway, see Peers
  int64_t receive_time_nanoseconds = 0;  // likewise
  absl::Span<const char> payload;

  bool is_answer() const {
    return origin == Origin::kHopNoSession || origin == Origin::kHopSession;
  }
};

// Buffers for up to `capacity` received datagrams. Memory is taken from the
// system page by page as datagrams first touch it, so that a capacity of 64
// costs 64 pages, not 4 MiB, as long as datagrams are small.
//
// Threads: one at a time.
class ReceiveBatch {
 public:
  // What is read besides the payload. A connected socket needs nothing.
  enum class Extent { kPayload, kControl, kControlAndSource };

  ReceiveBatch(int capacity, Extent extent);
  ReceiveBatch(const ReceiveBatch&) = delete;
  ReceiveBatch& operator=(const ReceiveBatch&) = delete;

  // ResourceExhausted if there was no memory for the buffers; nothing else may
  // be called then.
  absl::Status CheckMemory() const;

  int capacity() const { return static_cast<int>(messages_.size()); }

  // Reads datagrams into the entries from `begin` on, at most to the end of
  // the batch and at most `count_max`. The result's value is their number.
  // `flags`: see SysCalls::RecvMmsg. Without `reads_control`, which is for one
  // datagram, `control` is empty for it: that is cheaper.
  SysCallResult Receive(SysCalls* sys_calls, int fd, int begin, int count_max,
                        int flags = MSG_DONTWAIT, bool reads_control = true);

  // Of entry i, valid until the next Receive into it.
  absl::Span<const char> payload(int i) const {
    return {static_cast<const char*>(vectors_[i].iov_base),
            messages_[i].msg_len};
  }
  bool is_truncated(int i) const {
    return (messages_[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
  }

  // With kControlAndSource.
  SocketAddress source(int i) const {
    return SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&names_[i]),
        messages_[i].msg_hdr.msg_namelen);
  }
  // With kControl or more.
  struct Control {
    // The local address that the datagram was sent to, port 0, fit to be the
    // source of a reply; invalid if the kernel did not report it (ip(7),
    // IP_PKTINFO; ipv6(7), IPV6_PKTINFO).
    SocketAddress local;
    // How many datagrams the kernel had dropped at this socket since it was
    // opened, modulo 2^32; absent if it did not report it (socket(7),
    // SO_RXQ_OVFL).
    absl::optional<uint32_t> kernel_drops;
    // When the kernel received it (socket(7), SO_TIMESTAMPNS); 0 if it did
    // not report it.
    int64_t receive_time_nanoseconds = 0;
    // DSCP and ECN (ip(7), IP_RECVTOS; ipv6(7), IPV6_RECVTCLASS); 0 if the
    // kernel did not report it.
    uint8_t traffic_class = 0;
  };
  Control control(int i) const;

 private:
  // An AF_INET6 socket reports both addresses for an IPv4 datagram, the one of
  // IP_PKTINFO last: it is right for broadcasts too.
  static constexpr size_t kControlBytes =
      CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(in_pktinfo)) +
      CMSG_SPACE(sizeof(uint32_t)) + CMSG_SPACE(sizeof(timespec)) +
      CMSG_SPACE(sizeof(int));
  struct alignas(cmsghdr) ControlBuffer {
    char bytes[kControlBytes];
  };

  void OfferRoom(int i);

  const Extent extent_;
  int filled_end_ = 0;  // behind the last entry that the last Receive filled
  const std::unique_ptr<char[]> buffers_;
  std::vector<mmsghdr> messages_;
  std::vector<iovec> vectors_;
  std::vector<sockaddr_in6> names_;
  std::vector<ControlBuffer> controls_;
};

// Up to `capacity` datagrams to send from one socket. Payloads are not copied:
// they must stay until the batch was sent.
//
// Threads: one at a time.
class SendBatch {
 public:
  explicit SendBatch(int capacity);
  SendBatch(const SendBatch&) = delete;
  SendBatch& operator=(const SendBatch&) = delete;

  int size() const { return size_; }
  bool is_full() const { return size_ == static_cast<int>(messages_.size()); }
  void Clear() { size_ = 0; }

  // For a connected socket. `family` is that of its peer; it is used only for a
  // traffic class. The batch must not be full.
  void Add(absl::Span<const char> payload, uint8_t traffic_class = 0,
           int family = AF_INET);

  // For a listening socket of `socket_family`: to `destination`, from `local`
  // if that is valid. False, and nothing added, if that family cannot express
  // the address.
  bool AddTo(absl::Span<const char> payload, int socket_family,
             const SocketAddress& destination, const SocketAddress& local,
             uint8_t traffic_class = 0);

  size_t payload_bytes(int i) const { return vectors_[i].iov_len; }

  // Sends the entries from `begin` on, in order. The result's value is the
  // number that the kernel took, at least 1 if ok.
  SysCallResult Send(SysCalls* sys_calls, int fd, int begin);

 private:
  static constexpr size_t kControlBytes =
      CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(int));
  struct alignas(cmsghdr) ControlBuffer {
    char bytes[kControlBytes];
  };

  // Adds a control message to entry i.
  template <typename Value>
  void AddControl(int i, int level, int type, const Value& value);
  void AddLocalAddress(int i, int socket_family, const SocketAddress& local);
  void AddTrafficClass(int i, bool is_ipv4, uint8_t traffic_class);

  int size_ = 0;
  std::vector<mmsghdr> messages_;
  std::vector<iovec> vectors_;
  std::vector<sockaddr_storage> names_;
  std::vector<ControlBuffer> controls_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_DATAGRAM_BATCH_H_
