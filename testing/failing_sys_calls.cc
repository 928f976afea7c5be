#include "testing/failing_sys_calls.h"

#include <algorithm>

namespace udpgate {
namespace test {
namespace {

using internal::MutexLock;
using internal::SysCallResult;
using internal::SysCalls;

SysCallResult Failure(int error) { return {-1, error}; }

}  // namespace

void FailingSysCalls::FailNext(Call call, int error, int64_t count, int fd) {
  Add({Effect::kFail, call, fd, /*skip_count=*/0, count, error});
}

void FailingSysCalls::FailNth(Call call, int64_t n, int error, int fd) {
  Add({Effect::kFail, call, fd, /*skip_count=*/n - 1, /*remaining_count=*/1,
       error});
}

void FailingSysCalls::FailAll(Call call, int error, int fd) {
  FailNext(call, error, kEveryCall, fd);
}

void FailingSysCalls::FailOption(int level, int name, int error) {
  Add({Effect::kFail, Call::kSetSockOpt, kAnyFd, /*skip_count=*/0, kEveryCall,
       error, /*messages_max=*/0, level, name});
}

void FailingSysCalls::LimitMessages(Call call, unsigned int messages_max,
                                    int64_t count, int fd) {
  Add({Effect::kLimit, call, fd, /*skip_count=*/0, count, /*error=*/0,
       std::max(1u, messages_max)});
}

void FailingSysCalls::TruncateNext(int64_t message_count, int fd) {
  Add({Effect::kTruncate, Call::kRecvMmsg, fd, /*skip_count=*/0,
       message_count});
}

void FailingSysCalls::Reset() {
  MutexLock lock(&mutex_);
  orders_.clear();
  calls_.fill(0);
  failures_.fill(0);
}

int64_t FailingSysCalls::calls(Call call) const {
  MutexLock lock(&mutex_);
  return calls_[static_cast<size_t>(call)];
}

int64_t FailingSysCalls::failures(Call call) const {
  MutexLock lock(&mutex_);
  return failures_[static_cast<size_t>(call)];
}

void FailingSysCalls::Add(const Order& order) {
  MutexLock lock(&mutex_);
  orders_.push_back(order);
}

int FailingSysCalls::Enter(Call call, int fd, int option_level,
                           int option_name) {
  MutexLock lock(&mutex_);
  ++calls_[static_cast<size_t>(call)];
  int error = 0;
  for (Order& order : orders_) {
    const bool option_matches =
        order.option_name == 0 || (order.option_level == option_level &&
                                   order.option_name == option_name);
    if (order.effect != Effect::kFail || order.call != call ||
        (order.fd != kAnyFd && order.fd != fd) || !option_matches) {
      continue;
    }
    if (order.skip_count > 0) {
      --order.skip_count;  // also where another order takes this call
    } else if (error == 0) {
      error = order.error;
      --order.remaining_count;
    }
  }
  if (error != 0) ++failures_[static_cast<size_t>(call)];
  DropFinishedOrders();
  return error;
}

unsigned int FailingSysCalls::Limited(Call call, int fd, unsigned int count) {
  MutexLock lock(&mutex_);
  for (Order& order : orders_) {
    if (order.effect == Effect::kLimit && order.call == call &&
        (order.fd == kAnyFd || order.fd == fd)) {
      --order.remaining_count;
      count = std::min(count, order.messages_max);
      break;
    }
  }
  DropFinishedOrders();
  return count;
}

void FailingSysCalls::Truncate(int fd, mmsghdr* messages, int count) {
  MutexLock lock(&mutex_);
  int marked_count = 0;
  for (Order& order : orders_) {
    if (order.effect != Effect::kTruncate ||
        (order.fd != kAnyFd && order.fd != fd)) {
      continue;
    }
    while (marked_count < count && order.remaining_count > 0) {
      messages[marked_count++].msg_hdr.msg_flags |= MSG_TRUNC;
      --order.remaining_count;
    }
  }
  DropFinishedOrders();
}

void FailingSysCalls::DropFinishedOrders() {
  orders_.erase(std::remove_if(orders_.begin(), orders_.end(),
                               [](const Order& order) {
                                 return order.remaining_count <= 0;
                               }),
                orders_.end());
}

SysCallResult FailingSysCalls::Socket(int domain, int type, int protocol) {
  const int error = Enter(Call::kSocket, kAnyFd);
  return error != 0 ? Failure(error) : SysCalls::Socket(domain, type, protocol);
}

SysCallResult FailingSysCalls::Bind(int fd, const sockaddr* address,
                                    socklen_t size) {
  const int error = Enter(Call::kBind, fd);
  return error != 0 ? Failure(error) : SysCalls::Bind(fd, address, size);
}

SysCallResult FailingSysCalls::Connect(int fd, const sockaddr* address,
                                       socklen_t size) {
  const int error = Enter(Call::kConnect, fd);
  return error != 0 ? Failure(error) : SysCalls::Connect(fd, address, size);
}

SysCallResult FailingSysCalls::GetSockName(int fd, sockaddr_storage* address,
                                           socklen_t* size) {
  const int error = Enter(Call::kGetSockName, fd);
  return error != 0 ? Failure(error) : SysCalls::GetSockName(fd, address, size);
}

SysCallResult FailingSysCalls::SetSockOpt(int fd, int level, int name,
                                          const void* value, socklen_t size) {
  const int error = Enter(Call::kSetSockOpt, fd, level, name);
  return error != 0 ? Failure(error)
                    : SysCalls::SetSockOpt(fd, level, name, value, size);
}

SysCallResult FailingSysCalls::GetSockOpt(int fd, int level, int name,
                                          void* value, socklen_t* size) {
  const int error = Enter(Call::kGetSockOpt, fd);
  return error != 0 ? Failure(error)
                    : SysCalls::GetSockOpt(fd, level, name, value, size);
}

SysCallResult FailingSysCalls::Close(int fd) {
  const int error = Enter(Call::kClose, fd);
  const SysCallResult result = SysCalls::Close(fd);
  return error != 0 ? Failure(error) : result;
}

SysCallResult FailingSysCalls::Duplicate(int fd) {
  const int error = Enter(Call::kDuplicate, fd);
  return error != 0 ? Failure(error) : SysCalls::Duplicate(fd);
}

SysCallResult FailingSysCalls::RecvMmsg(int fd, mmsghdr* messages,
                                        unsigned int count, int flags) {
  const int error = Enter(Call::kRecvMmsg, fd);
  if (error != 0) return Failure(error);
  const SysCallResult result = SysCalls::RecvMmsg(
      fd, messages, Limited(Call::kRecvMmsg, fd, count), flags);
  const bool is_taken = (flags & (MSG_PEEK | MSG_ERRQUEUE)) == 0;
  if (result.ok() && is_taken) Truncate(fd, messages, result.value);
  return result;
}

SysCallResult FailingSysCalls::SendMmsg(int fd, mmsghdr* messages,
                                        unsigned int count) {
  const int error = Enter(Call::kSendMmsg, fd);
  return error != 0 ? Failure(error)
                    : SysCalls::SendMmsg(fd, messages,
                                         Limited(Call::kSendMmsg, fd, count));
}

SysCallResult FailingSysCalls::EpollCreate() {
  const int error = Enter(Call::kEpollCreate, kAnyFd);
  return error != 0 ? Failure(error) : SysCalls::EpollCreate();
}

SysCallResult FailingSysCalls::EpollControl(int epoll_fd, int operation, int fd,
                                            epoll_event* event) {
  const int error = Enter(Call::kEpollControl, fd);
  return error != 0 ? Failure(error)
                    : SysCalls::EpollControl(epoll_fd, operation, fd, event);
}

SysCallResult FailingSysCalls::EpollWait(int epoll_fd, epoll_event* events,
                                         int events_max,
                                         int64_t timeout_nanoseconds) {
  const int error = Enter(Call::kEpollWait, epoll_fd);
  return error != 0 ? Failure(error)
                    : SysCalls::EpollWait(epoll_fd, events, events_max,
                                          timeout_nanoseconds);
}

SysCallResult FailingSysCalls::EventFd() {
  const int error = Enter(Call::kEventFd, kAnyFd);
  return error != 0 ? Failure(error) : SysCalls::EventFd();
}

SysCallResult FailingSysCalls::EventFdAdd(int fd) {
  const int error = Enter(Call::kEventFdAdd, fd);
  return error != 0 ? Failure(error) : SysCalls::EventFdAdd(fd);
}

SysCallResult FailingSysCalls::EventFdReset(int fd) {
  const int error = Enter(Call::kEventFdReset, fd);
  return error != 0 ? Failure(error) : SysCalls::EventFdReset(fd);
}

}  // namespace test
}  // namespace udpgate
