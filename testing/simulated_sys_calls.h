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
#ifndef UDPGATE_TESTING_SIMULATED_SYS_CALLS_H_
#define UDPGATE_TESTING_SIMULATED_SYS_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "testing/failing_sys_calls.h"
#include "udpgate/internal/sys_calls.h"
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
  // EAGAIN is not told.
  virtual void OnReceiveFailed(int /*fd*/, int /*error*/) {}
  // `fd` is in an epoll set now; it is closed now.
  virtual void OnWatched(int /*fd*/) {}
  virtual void OnClosed(int /*fd*/) {}
  // Nothing is ready, and EpollWait would sleep for so long. To simulate that,
  // move the clock; what has arrived when this returns is reported.
  virtual void OnSleep(int64_t /*timeout_nanoseconds*/) {}
};

// UDP over IPv4 as on Linux, for a host that has every address that anyone
// binds: connected sockets hear their peer alone, an error that an ICMP message
// left is reported once by the next call, a full queue drops, sockets with
// SO_REUSEPORT share what arrives, an epoll set is level-triggered for sockets
// and edge-triggered for eventfds, and the lowest free descriptor is next. The
// descriptors are none of the process: the numbers are far beyond those.
//
// Left out: IPv6, control messages but IP_PKTINFO, and waiting: RecvMmsg with
// MSG_WAITFORONE returns EAGAIN.
//
// Threads: one.
class SimulatedSysCalls : public internal::SysCalls {
 public:
  // What a socket keeps of datagrams that nobody has read yet.
  static constexpr size_t kQueueDatagramsMax = 64;

  // The world must outlive it.
  explicit SimulatedSysCalls(SimulatedWorld* world) : world_(world) {}

  // A datagram arrives at the host. False where no socket hears it or its
  // queue is full.
  bool Arrive(const SocketAddress& from, const SocketAddress& to,
              absl::string_view payload);
  // What an ICMP message does to a socket. Ignored where there is none.
  void FailSocket(int fd, int error);

  // As bound and as connected; invalid where it is not, or no socket.
  SocketAddress local(int fd) const;
  SocketAddress peer(int fd) const;
  // Datagrams that wait in its queue.
  size_t queued(int fd) const;
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
  struct UdpSocket {
    SocketAddress local;
    SocketAddress peer;
    bool shares_port = false;
    bool wants_packet_info = false;
    int error = 0;
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
  void Read(int fd, UdpSocket* socket, mmsghdr* message);
  // The events of `fd` now; those of an eventfd only once.
  uint32_t TakeEvents(int fd);
  int CollectEvents(EpollSet* set, epoll_event* events, int events_max);

  SimulatedWorld* const world_;
  std::map<int, UdpSocket> sockets_;
  std::map<int, EpollSet> epoll_sets_;
  std::map<int, bool> event_fds_;  // whether it has an edge to report
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_SIMULATED_SYS_CALLS_H_
