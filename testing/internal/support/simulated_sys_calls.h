// Sockets, epoll sets and eventfds that exist in memory only, so that a test
// decides what arrives, what fails and when time passes: the same seed gives
// the same run, thousands of them in seconds.
//
//   class MyWorld : public udpgate::test::SimulatedWorld {
//     int OnCall(udpgate::test::Call call, int fd) override {
//       return call == udpgate::test::Call::kBind ? EADDRINUSE : 0;
//     }
//   } world;
//   udpgate::test::SimulatedSysCalls sys_calls(&world);
//   ...
//   sys_calls.Arrive(client, listen_address, "hello");
//
// Pass it as `ProxyDependencies::sys_calls`.
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_SIMULATED_SYS_CALLS_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_SIMULATED_SYS_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "testing/failing_sys_calls.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// What the simulated kernel asks and tells. Every method may call
// `SimulatedSysCalls::Arrive` and `FailSocket`, but for those of received and
// sent datagrams.
class SimulatedWorld {
 public:
  virtual ~SimulatedWorld() = default;

  // Before each call: the errno that it is to fail with, or 0. `fd` as in
  // FailingSysCalls. A failed call does nothing; kClose closes all the same.
  virtual int OnCall(Call /*call*/, int /*fd*/) { return 0; }
  // How many of `count` messages a kRecvMmsg or kSendMmsg may handle: 1 to
  // `count`.
  virtual unsigned int OnBatch(Call /*call*/, int /*fd*/, unsigned int count) {
    return count;
  }

  // A datagram has left `fd`.
  virtual void OnSent(int /*fd*/, const SocketAddress& /*from*/,
                      const SocketAddress& /*to*/,
                      absl::string_view /*payload*/) {}
  // It has not: `payload` is the first of those to be sent.
  virtual void OnSendFailed(int /*fd*/, int /*error*/,
                            absl::string_view /*payload*/) {}
  // A datagram was read from `fd` into a buffer of `buffer_bytes`.
  virtual void OnReceived(int /*fd*/, absl::string_view /*payload*/,
                          size_t /*buffer_bytes*/) {}
  // EAGAIN is not told, and no error of a look at what is there (MSG_PEEK).
  virtual void OnReceiveFailed(int /*fd*/, int /*error*/) {}
  // An entry of the error queue of `fd` was read: what came for a datagram to
  // `to`.
  virtual void OnErrorTaken(int /*fd*/, int /*error*/,
                            const SocketAddress& /*to*/) {}
  // `fd` is in an epoll set now; it is closed now.
  virtual void OnWatched(int /*fd*/) {}
  virtual void OnClosed(int /*fd*/) {}
  // Nothing is ready, and EpollWait would sleep for so long. To simulate that,
  // move the clock; what has arrived when this returns is reported.
  virtual void OnSleep(int64_t /*timeout_nanoseconds*/) {}
};

// UDP over IPv4 as on Linux, for a host that has every address that anyone
// binds, but for those that it has lost: connected sockets hear their peer
// alone, an error that an ICMP message left is reported once by the next call
// and stays in the queue of a socket with IP_RECVERR until it is read
// (__udp4_lib_err in net/ipv4/udp.c, sock_dequeue_err_skb in
// net/core/skbuff.c), a full queue drops, sockets with SO_REUSEPORT share what
// arrives, an epoll set is level-triggered for sockets and edge-triggered for
// eventfds, and the lowest free descriptor is next. The descriptors are none of
// the process: the numbers are far beyond those. A socket of AF_NETLINK hears
// of addresses that are lost or come back.
//
// Left out: IPv6, control messages but IP_PKTINFO and IP_RECVERR, and waiting:
// RecvMmsg with MSG_WAITFORONE returns EAGAIN.
//
// Threads: one.
class SimulatedSysCalls : public internal::SysCalls {
 public:
  // What a socket keeps of datagrams that nobody has read yet.
  static constexpr size_t kQueueDatagramsMax = 64;
  static constexpr size_t kQueueErrorsMax = 64;

  // The world must outlive it.
  explicit SimulatedSysCalls(SimulatedWorld* world);

  // A datagram arrives at the host. False where no socket hears it or its
  // queue is full.
  bool Arrive(const SocketAddress& from, const SocketAddress& to,
              absl::string_view payload);
  // What an ICMP message about a datagram to `to` does to a socket. Ignored
  // where there is none, and where the socket hears of no such errors: without
  // IP_RECVERR a connected one hears of the fatal ones alone, and another one
  // of none.
  void FailSocket(int fd, int error, const SocketAddress& to);

  // The source address of sockets that connect without one, port 0; 10.0.0.1 at
  // first.
  void SetHostAddress(const SocketAddress& ip) { host_ = ip; }
  const SocketAddress& host_address() const { return host_; }
  // The host has the address, port 0, no more: nothing arrives there, nobody
  // binds it (EADDRNOTAVAIL), and what would leave from there fails with EINVAL
  // (ip_route_output_key_hash_rcu in net/ipv4/route.c). `is_told`: whether
  // sockets of AF_NETLINK hear of it.
  void LoseAddress(const SocketAddress& ip, bool is_told);
  void RegainAddress(const SocketAddress& ip, bool is_told);
  bool IsLost(const SocketAddress& address) const;

  // As bound and as connected; invalid where it is not, or no socket.
  SocketAddress local(int fd) const;
  SocketAddress peer(int fd) const;
  // Datagrams that wait in its queue.
  size_t queued(int fd) const;
  // The size of the next one; 0 where there is none.
  size_t next_bytes(int fd) const;
  // Whether it has IP_RECVERR, and what is in its error queue.
  bool has_error_queue(int fd) const;
  std::vector<int> queued_errors(int fd) const;
  // Sockets that are open.
  size_t socket_count() const { return sockets_.size(); }

  internal::SysCallResult Socket(int domain, int type, int protocol) override;
  internal::SysCallResult Bind(int fd, const sockaddr* address,
                               socklen_t size) override;
  internal::SysCallResult Connect(int fd, const sockaddr* address,
                                  socklen_t size) override;
  internal::SysCallResult GetSockName(int fd, sockaddr_storage* address,
                                      socklen_t* size) override;
  internal::SysCallResult SetSockOpt(int fd, int level, int name,
                                     const void* value,
                                     socklen_t size) override;
  internal::SysCallResult GetSockOpt(int fd, int level, int name, void* value,
                                     socklen_t* size) override;
  internal::SysCallResult Close(int fd) override;
  internal::SysCallResult RecvMmsg(int fd, mmsghdr* messages,
                                   unsigned int count, int flags) override;
  internal::SysCallResult SendMmsg(int fd, mmsghdr* messages,
                                   unsigned int count) override;
  internal::SysCallResult EpollCreate() override;
  internal::SysCallResult EpollControl(int epoll_fd, int operation, int fd,
                                       epoll_event* event) override;
  internal::SysCallResult EpollWait(int epoll_fd, epoll_event* events,
                                    int events_max,
                                    int64_t timeout_nanoseconds) override;
  internal::SysCallResult EventFd() override;
  internal::SysCallResult EventFdAdd(int fd) override;
  internal::SysCallResult EventFdReset(int fd) override;

 private:
  struct Datagram {
    SocketAddress from;
    SocketAddress to;
    std::string payload;
  };
  struct QueuedError {
    int error;
    SocketAddress to;
  };
  struct UdpSocket {
    SocketAddress local;
    SocketAddress peer;
    bool is_netlink = false;
    bool shares_port = false;
    bool wants_packet_info = false;
    bool wants_errors = false;
    int error = 0;
    std::deque<QueuedError> errors;
    uint32_t dropped = 0;
    std::deque<Datagram> queue;
  };
  struct Interest {
    int fd;
    epoll_event event;
  };
  struct EpollSet {
    std::vector<Interest> interests;
    size_t next = 0;  // the one to look at first
  };

  int NextFd() const;
  UdpSocket* FindSocket(int fd);
  const UdpSocket* FindSocket(int fd) const;
  bool IsTaken(const SocketAddress& local, bool shares_port) const;
  SocketAddress FreePort(const SocketAddress& ip) const;
  void TellNetlink();
  internal::SysCallResult ReadError(int fd, mmsghdr* message);
  internal::SysCallResult Peek(int fd, mmsghdr* message, bool wants_length);
  void Read(int fd, UdpSocket* socket, mmsghdr* message);
  // The events of `fd` now; those of an eventfd only once.
  uint32_t TakeEvents(int fd);
  int CollectEvents(EpollSet* set, epoll_event* events, int events_max);

  SimulatedWorld* const world_;
  SocketAddress host_;
  std::vector<SocketAddress> lost_;
  std::map<int, UdpSocket> sockets_;
  std::map<int, EpollSet> epoll_sets_;
  std::map<int, bool> event_fds_;  // whether it has an edge to report
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_SIMULATED_SYS_CALLS_H_
