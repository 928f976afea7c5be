// The system calls of the data plane as one object, so that a test can make
// the n-th sendmmsg(2) fail with ENOBUFS.
//
// A failure is a value, never the global `errno`, which a later call could
// overwrite. Two calls may wait: `EpollWait`, which is given a limit, and
// `RecvMmsg` with MSG_WAITFORONE, which waits as long as the socket's
// SO_RCVTIMEO.
#ifndef UDPGATE_BASE_SYS_CALLS_H_
#define UDPGATE_BASE_SYS_CALLS_H_

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"

namespace udpgate {
namespace internal {

// What a system call returned: `value` as its man page says, and `error`, an
// errno, which is 0 exactly if the call succeeded.
struct UDPGATE_EXPORT SysCallResult {
  int value = 0;
  int error = 0;

  bool ok() const { return error == 0; }
};

// "Permission denied" for EACCES. Safe in any thread, unlike strerror(3).
UDPGATE_EXPORT std::string ErrnoToText(int error);

// The text of a failed call as a Status: "bind 127.0.0.1:53: Permission
// denied". `what` names the call and what it was about.
UDPGATE_EXPORT absl::Status ErrnoToStatus(int error, absl::string_view what);

// The real calls; a test overrides what it wants to fail. Threads: all methods
// at any time from any thread. An interrupted call (EINTR) is repeated, except
// `EpollWait`, which then reports no event.
class UDPGATE_EXPORT SysCalls {
 public:
  virtual ~SysCalls() = default;

  // Lives until the process ends; not owned by the caller.
  static SysCalls* Real();

  virtual SysCallResult Socket(int domain, int type, int protocol);
  virtual SysCallResult Bind(int fd, const sockaddr* address, socklen_t size);
  virtual SysCallResult Connect(int fd, const sockaddr* address,
                                socklen_t size);
  virtual SysCallResult GetSockName(int fd, sockaddr_storage* address,
                                    socklen_t* size);
  virtual SysCallResult SetSockOpt(int fd, int level, int name,
                                   const void* value, socklen_t size);
  virtual SysCallResult GetSockOpt(int fd, int level, int name, void* value,
                                   socklen_t* size);
  virtual SysCallResult Close(int fd);
  // Another descriptor of the same file, close-on-exec.
  virtual SysCallResult Duplicate(int fd);

  // Messages have one buffer each. The result is the number of datagrams, at
  // least 1 if ok. A single datagram uses recv(2) or sendto(2) if these can
  // express it, otherwise recvmsg(2) or sendmsg(2): they copy fewer headers or
  // none, and a game's datagrams usually arrive alone.
  // RecvMmsg takes MSG_DONTWAIT or MSG_WAITFORONE, and if a message has a
  // name MSG_ERRQUEUE, or MSG_PEEK and MSG_TRUNC; SendMmsg never waits.
  virtual SysCallResult RecvMmsg(int fd, mmsghdr* messages, unsigned int count,
                                 int flags);
  virtual SysCallResult SendMmsg(int fd, mmsghdr* messages, unsigned int count);

  virtual SysCallResult EpollCreate();
  virtual SysCallResult EpollControl(int epoll_fd, int operation, int fd,
                                     epoll_event* event);
  // A `timeout_nanoseconds` of 0 polls; a negative one is no limit. Rounded up
  // to whole milliseconds from one millisecond on, and before Linux 5.11.
  virtual SysCallResult EpollWait(int epoll_fd, epoll_event* events,
                                  int events_max, int64_t timeout_nanoseconds);

  // A non-blocking eventfd(2) of value 0; add 1; read and reset.
  virtual SysCallResult EventFd();
  virtual SysCallResult EventFdAdd(int fd);
  virtual SysCallResult EventFdReset(int fd);
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_BASE_SYS_CALLS_H_
