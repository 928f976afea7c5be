// The real system calls, of which a test can make chosen ones fail.
//
//   udpgate::test::FailingSysCalls sys_calls;
//   // The next one fails.
//   sys_calls.FailNext(Call::kSendMmsg, ENOBUFS);
//   // Two pass, then one fails.
//   sys_calls.FailNth(Call::kBind, 3, EADDRINUSE);
//   // All fail, until Reset.
//   sys_calls.FailAll(Call::kSocket, EMFILE);
//   // Each sends two messages at most.
//   sys_calls.LimitMessages(Call::kSendMmsg, 2);
//   // The next datagram is marked MSG_TRUNC.
//   sys_calls.TruncateNext();
//   ...
//   EXPECT_EQ(sys_calls.calls(Call::kSocket), 1);
//
// Pass it as `ProxyDependencies::sys_calls`.
#ifndef UDPGATE_TESTING_FAILING_SYS_CALLS_H_
#define UDPGATE_TESTING_FAILING_SYS_CALLS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "udpgate/base/export.h"
#include "udpgate/base/mutex.h"
#include "udpgate/base/sys_calls.h"

namespace udpgate {
namespace test {

// The methods of internal::SysCalls.
enum class Call {
  kSocket,
  kBind,
  kConnect,
  kGetSockName,
  kSetSockOpt,
  kGetSockOpt,
  kClose,
  kDuplicate,
  kRecvMmsg,
  kSendMmsg,
  kEpollCreate,
  kEpollControl,
  kEpollWait,
  kEventFd,
  kEventFdAdd,
  kEventFdReset,
};
inline constexpr size_t kCallCount =
    static_cast<size_t>(Call::kEventFdReset) + 1;

// Where nothing was ordered, every call goes to the kernel. Orders add up:
// each call is given to the first one, in the order of giving, that wants it.
// So two `FailNext` of one kind fail two calls, one after the other.
//
// The `fd` of an order restricts it to one descriptor; for kEpollControl that
// is the watched one. kSocket, kEpollCreate and kEventFd have none.
//
// A failed call does not reach the kernel, but for kClose, which closes and
// then reports the error, as Linux does (close(2)).
//
// Threads: every method from any thread at any time.
class UDPGATE_EXPORT FailingSysCalls : public internal::SysCalls {
 public:
  static constexpr int kAnyFd = -1;
  static constexpr int64_t kEveryCall = INT64_MAX;

  // The next `count` calls fail with errno `error`.
  void FailNext(Call call, int error, int64_t count = 1, int fd = kAnyFd);

  // The `n`-th call from now, 1 being the next one, fails.
  void FailNth(Call call, int64_t n, int error, int fd = kAnyFd);

  // Every call fails, until `Reset`.
  void FailAll(Call call, int error, int fd = kAnyFd);

  // Every SetSockOpt of this option fails, until `Reset`: a kernel without it.
  void FailOption(int level, int name, int error);

  // The next `count` calls of kRecvMmsg or kSendMmsg handle at most
  // `messages_max` messages (at least 1) and report how many that were.
  void LimitMessages(Call call, unsigned int messages_max,
                     int64_t count = kEveryCall, int fd = kAnyFd);

  // The next `message_count` received messages are marked MSG_TRUNC, as the
  // kernel does with a datagram that did not fit.
  void TruncateNext(int64_t message_count = 1, int fd = kAnyFd);

  // Forgets all orders and counts: from now on everything succeeds again.
  void Reset();

  // Calls since the start or `Reset`, the failed ones included; and those that
  // an order made fail.
  int64_t calls(Call call) const;
  int64_t failures(Call call) const;

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
  internal::SysCallResult Duplicate(int fd) override;
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
  enum class Effect { kFail, kLimit, kTruncate };
  struct Order {
    Effect effect;
    Call call;
    int fd;
    int64_t skip_count;       // matching calls to let pass first
    int64_t remaining_count;  // calls, or messages for kTruncate
    int error = 0;
    unsigned int messages_max = 0;
    // Of a socket option; both 0 where any will do.
    int option_level = 0;
    int option_name = 0;
  };

  void Add(const Order& order);
  // Counts the call; the errno it must fail with, or 0.
  int Enter(Call call, int fd, int option_level = 0, int option_name = 0);
  unsigned int Limited(Call call, int fd, unsigned int count);
  void Truncate(int fd, mmsghdr* messages, int count);
  void DropFinishedOrders() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable internal::Mutex mutex_;
  std::vector<Order> orders_ ABSL_GUARDED_BY(mutex_);
  std::array<int64_t, kCallCount> calls_ ABSL_GUARDED_BY(mutex_){};
  std::array<int64_t, kCallCount> failures_ ABSL_GUARDED_BY(mutex_){};
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_FAILING_SYS_CALLS_H_
