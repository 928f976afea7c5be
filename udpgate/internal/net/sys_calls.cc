#include "udpgate/internal/net/sys_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace internal {
namespace {

// Runs `call` until it was not interrupted.
template <typename Call>
SysCallResult Repeat(Call call) {
  for (;;) {
    const auto value = call();
    if (value >= 0) return {static_cast<int>(value), 0};
    if (errno != EINTR) return {-1, errno};
  }
}

// As recvmmsg(2) would receive one datagram of a connected socket.
SysCallResult ReceiveOne(int fd, mmsghdr* message, int flags) {
  const iovec& buffer = *message->msg_hdr.msg_iov;
  // MSG_TRUNC: the result is the datagram's real length (recv(2)).
  const SysCallResult received = Repeat([&] {
    return ::recv(fd, buffer.iov_base, buffer.iov_len,
                  (flags & MSG_DONTWAIT) | MSG_TRUNC);
  });
  if (!received.ok()) return received;
  const auto length = static_cast<size_t>(received.value);
  message->msg_len =
      static_cast<unsigned int>(std::min(length, buffer.iov_len));
  message->msg_hdr.msg_flags = length > buffer.iov_len ? MSG_TRUNC : 0;
  return {1, 0};
}

}  // namespace

std::string ErrnoToText(int error) {
  return std::generic_category().message(error);
}

absl::Status ErrnoToStatus(int error, absl::string_view what) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      absl::StrCat(what, ": ", ErrnoToText(error)));
}

SysCalls* SysCalls::Real() {
  static SysCalls real;
  return &real;
}

SysCallResult SysCalls::Socket(int domain, int type, int protocol) {
  return Repeat([&] { return ::socket(domain, type, protocol); });
}

SysCallResult SysCalls::Bind(int fd, const sockaddr* address, socklen_t size) {
  return Repeat([&] { return ::bind(fd, address, size); });
}

SysCallResult SysCalls::Connect(int fd, const sockaddr* address,
                                socklen_t size) {
  return Repeat([&] { return ::connect(fd, address, size); });
}

SysCallResult SysCalls::GetSockName(int fd, sockaddr_storage* address,
                                    socklen_t* size) {
  return Repeat([&] {
    return ::getsockname(fd, reinterpret_cast<sockaddr*>(address), size);
  });
}

SysCallResult SysCalls::SetSockOpt(int fd, int level, int name,
                                   const void* value, socklen_t size) {
  return Repeat([&] { return ::setsockopt(fd, level, name, value, size); });
}

SysCallResult SysCalls::GetSockOpt(int fd, int level, int name, void* value,
                                   socklen_t* size) {
  return Repeat([&] { return ::getsockopt(fd, level, name, value, size); });
}

SysCallResult SysCalls::Duplicate(int fd) {
  return Repeat([&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, 0); });
}

SysCallResult SysCalls::Close(int fd) {
  // Not repeated: on Linux the descriptor is gone even after EINTR (close(2)).
  return {::close(fd), 0};
}

SysCallResult SysCalls::RecvMmsg(int fd, mmsghdr* messages, unsigned int count,
                                 int flags) {
  const msghdr& first = messages->msg_hdr;
  if (count == 1 && first.msg_name == nullptr && first.msg_control == nullptr) {
    return ReceiveOne(fd, messages, flags);
  }
  if (count == 1) {
    // MSG_WAITFORONE, only known to recvmmsg(2), means to wait for this one.
    const SysCallResult received = Repeat([&] {
      return ::recvmsg(fd, &messages->msg_hdr, flags & ~MSG_WAITFORONE);
    });
    if (!received.ok()) return received;
    messages->msg_len = static_cast<unsigned int>(received.value);
    return {1, 0};
  }
  return Repeat(
      [&] { return ::recvmmsg(fd, messages, count, flags, nullptr); });
}

SysCallResult SysCalls::SendMmsg(int fd, mmsghdr* messages,
                                 unsigned int count) {
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  if (count != 1) {
    return Repeat([&] { return ::sendmmsg(fd, messages, count, kFlags); });
  }
  const msghdr& header = messages->msg_hdr;
  const SysCallResult sent = Repeat([&] {
    if (header.msg_control != nullptr) return ::sendmsg(fd, &header, kFlags);
    return ::sendto(fd, header.msg_iov->iov_base, header.msg_iov->iov_len,
                    kFlags, static_cast<const sockaddr*>(header.msg_name),
                    header.msg_namelen);
  });
  if (!sent.ok()) return sent;
  messages->msg_len = static_cast<unsigned int>(sent.value);
  return {1, 0};
}

SysCallResult SysCalls::EpollCreate() {
  return Repeat([&] { return ::epoll_create1(EPOLL_CLOEXEC); });
}

SysCallResult SysCalls::EpollControl(int epoll_fd, int operation, int fd,
                                     epoll_event* event) {
  return Repeat([&] { return ::epoll_ctl(epoll_fd, operation, fd, event); });
}

SysCallResult SysCalls::EpollWait(int epoll_fd, epoll_event* events,
                                  int events_max, int64_t timeout_nanoseconds) {
  constexpr int64_t kNanosecondsPerMillisecond = 1'000'000;
  if (timeout_nanoseconds > 0 &&
      timeout_nanoseconds < kNanosecondsPerMillisecond) {
    const timespec timeout = {0, static_cast<long>(timeout_nanoseconds)};
    const int count =
        ::epoll_pwait2(epoll_fd, events, events_max, &timeout, nullptr);
    if (count >= 0) return {count, 0};
    if (errno == EINTR) return {0, 0};
    // Since Linux 5.11; a seccomp filter may reject it.
  }
  // Rounded up to milliseconds: a wait that ends early would only be repeated.
  const int64_t timeout_milliseconds =
      timeout_nanoseconds <= 0
          ? (timeout_nanoseconds < 0 ? -1 : 0)
          : std::min<int64_t>(
                (timeout_nanoseconds - 1) / kNanosecondsPerMillisecond + 1,
                INT_MAX);
  const int count = ::epoll_wait(epoll_fd, events, events_max,
                                 static_cast<int>(timeout_milliseconds));
  if (count >= 0) return {count, 0};
  if (errno == EINTR) return {0, 0};
  return {-1, errno};
}

SysCallResult SysCalls::EventFd() {
  return Repeat([&] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
}

SysCallResult SysCalls::EventFdAdd(int fd) {
  const uint64_t one = 1;
  return Repeat([&] { return ::write(fd, &one, sizeof(one)); });
}

SysCallResult SysCalls::EventFdReset(int fd) {
  uint64_t value;
  return Repeat([&] { return ::read(fd, &value, sizeof(value)); });
}

}  // namespace internal
}  // namespace udpgate
