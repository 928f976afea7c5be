#include "udpgate/internal/net/sys_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {
namespace {

using internal::ErrnoToStatus;
using internal::SysCallResult;
using internal::SysCalls;
using internal::UniqueFd;

SysCalls& Calls() { return *SysCalls::Real(); }

UniqueFd BoundSocket(sockaddr_in* address) {
  const SysCallResult socket =
      Calls().Socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  EXPECT_TRUE(socket.ok());
  UniqueFd fd(socket.value);
  *address = {};
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_TRUE(Calls()
                  .Bind(fd.get(), reinterpret_cast<sockaddr*>(address),
                        sizeof(*address))
                  .ok());
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  EXPECT_TRUE(Calls().GetSockName(fd.get(), &name, &size).ok());
  EXPECT_EQ(size, sizeof(*address));
  std::memcpy(address, &name, sizeof(*address));
  return fd;
}

TEST(ErrnoToStatusTest, SaysWhatFailedAndWhy) {
  const absl::Status status = ErrnoToStatus(EACCES, "bind 127.0.0.1:53");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(status.message(), "bind 127.0.0.1:53: Permission denied");
}

TEST(ErrnoToStatusTest, ErrnoToTextIsThePlainReason) {
  EXPECT_EQ(internal::ErrnoToText(EADDRINUSE), "Address already in use");
}

TEST(ErrnoToStatusTest, IsNeverOkForAnError) {
  for (int error = 1; error < 134; ++error) {
    EXPECT_FALSE(ErrnoToStatus(error, "call").ok()) << error;
  }
}

TEST(SysCallsTest, DatagramsGoFromSocketToSocket) {
  sockaddr_in receiver_address, sender_address;
  const UniqueFd receiver = BoundSocket(&receiver_address);
  const UniqueFd sender = BoundSocket(&sender_address);
  ASSERT_TRUE(Calls()
                  .Connect(sender.get(),
                           reinterpret_cast<sockaddr*>(&receiver_address),
                           sizeof(receiver_address))
                  .ok());
  std::array<char, 3> bytes = {'a', 'b', 'c'};
  std::array<iovec, 3> vectors;
  std::array<mmsghdr, 3> messages{};
  for (size_t i = 0; i < bytes.size(); ++i) {
    vectors[i] = {&bytes[i], 1};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(Calls().SendMmsg(sender.get(), messages.data(), 3).value, 3);
  bytes.fill('?');
  EXPECT_EQ(
      Calls().RecvMmsg(receiver.get(), messages.data(), 3, MSG_DONTWAIT).value,
      3);
  EXPECT_EQ(std::string(bytes.data(), 3), "abc");
  EXPECT_EQ(messages[2].msg_len, 1u);
}

// One datagram goes by other calls; nobody can tell.
TEST(SysCallsTest, OneDatagramIsNoSpecialCase) {
  sockaddr_in receiver_address, sender_address;
  const UniqueFd receiver = BoundSocket(&receiver_address);
  const UniqueFd sender = BoundSocket(&sender_address);
  char bytes[] = "abcd";
  iovec vector = {bytes, 4};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &vector;
  message.msg_hdr.msg_iovlen = 1;
  message.msg_hdr.msg_name = &receiver_address;
  message.msg_hdr.msg_namelen = sizeof(receiver_address);
  const auto send = [&] {
    return Calls().SendMmsg(sender.get(), &message, 1).value;
  };
  const auto receive = [&] {
    return Calls().RecvMmsg(receiver.get(), &message, 1, MSG_DONTWAIT).value;
  };
  EXPECT_EQ(send(), 1);
  EXPECT_EQ(message.msg_len, 4u);
  EXPECT_EQ(send(), 1);
  vector.iov_len = 0;
  EXPECT_EQ(send(), 1);

  message.msg_hdr.msg_name = nullptr;
  vector.iov_len = 4;
  EXPECT_EQ(receive(), 1);
  EXPECT_EQ(message.msg_len, 4u);
  EXPECT_EQ(message.msg_hdr.msg_flags, 0);
  vector.iov_len = 3;
  EXPECT_EQ(receive(), 1);
  EXPECT_EQ(message.msg_len, 3u);
  EXPECT_EQ(message.msg_hdr.msg_flags, MSG_TRUNC);
  EXPECT_EQ(receive(), 1);
  EXPECT_EQ(message.msg_len, 0u);
  EXPECT_EQ(receive(), -1);
}

TEST(SysCallsTest, ReceiveNeverBlocks) {
  sockaddr_in address;
  const UniqueFd fd = BoundSocket(&address);
  // A blocking socket: it is the call that must not block.
  ASSERT_EQ(fcntl(fd.get(), F_SETFL, 0), 0);
  char byte;
  iovec vector = {&byte, 1};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &vector;
  message.msg_hdr.msg_iovlen = 1;
  const SysCallResult result =
      Calls().RecvMmsg(fd.get(), &message, 1, MSG_DONTWAIT);
  EXPECT_EQ(result.value, -1);
  EXPECT_EQ(result.error, EAGAIN);
}

// The other arguments are right: which error comes first is not specified.
TEST(SysCallsTest, AFailureIsItsErrno) {
  sockaddr_storage name{};
  name.ss_family = AF_INET;
  socklen_t name_size = sizeof(sockaddr_in);
  const auto* address = reinterpret_cast<const sockaddr*>(&name);
  EXPECT_EQ(Calls().Socket(-1, 0, 0).error, EAFNOSUPPORT);
  EXPECT_EQ(Calls().Bind(-1, address, name_size).error, EBADF);
  EXPECT_EQ(Calls().Connect(-1, address, name_size).error, EBADF);
  EXPECT_EQ(Calls().GetSockName(-1, &name, &name_size).error, EBADF);
  int value = 8192;
  socklen_t size = sizeof(value);
  EXPECT_EQ(Calls().SetSockOpt(-1, SOL_SOCKET, SO_RCVBUF, &value, size).error,
            EBADF);
  EXPECT_EQ(Calls().GetSockOpt(-1, SOL_SOCKET, SO_RCVBUF, &value, &size).error,
            EBADF);
  iovec vector = {&value, sizeof(value)};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &vector;
  message.msg_hdr.msg_iovlen = 1;
  EXPECT_EQ(Calls().SendMmsg(-1, &message, 1).error, EBADF);
  epoll_event event{};
  EXPECT_EQ(Calls().EpollControl(-1, EPOLL_CTL_ADD, -1, &event).error, EBADF);
  EXPECT_EQ(Calls().EpollWait(-1, &event, 1, 0).error, EBADF);
  EXPECT_EQ(Calls().EventFdAdd(-1).error, EBADF);
  EXPECT_EQ(Calls().EventFdReset(-1).error, EBADF);
}

TEST(SysCallsTest, OptionsAreWhatTheSocketKeeps) {
  sockaddr_in address;
  const UniqueFd fd = BoundSocket(&address);
  int value = 8192;
  ASSERT_TRUE(
      Calls()
          .SetSockOpt(fd.get(), SOL_SOCKET, SO_RCVBUF, &value, sizeof(value))
          .ok());
  socklen_t size = sizeof(value);
  ASSERT_TRUE(
      Calls().GetSockOpt(fd.get(), SOL_SOCKET, SO_RCVBUF, &value, &size).ok());
  EXPECT_EQ(value, 2 * 8192);  // socket(7): the kernel doubles it
}

TEST(SysCallsTest, AnEventFdWakesAnEpoll) {
  const UniqueFd event_fd(Calls().EventFd().value);
  const UniqueFd epoll_fd(Calls().EpollCreate().value);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 42;
  ASSERT_TRUE(
      Calls()
          .EpollControl(epoll_fd.get(), EPOLL_CTL_ADD, event_fd.get(), &event)
          .ok());
  epoll_event seen{};
  EXPECT_EQ(Calls().EpollWait(epoll_fd.get(), &seen, 1, 0).value, 0);
  ASSERT_TRUE(Calls().EventFdAdd(event_fd.get()).ok());
  ASSERT_TRUE(Calls().EventFdAdd(event_fd.get()).ok());
  EXPECT_EQ(Calls().EpollWait(epoll_fd.get(), &seen, 1, -1).value, 1);
  // The structure is packed: a reference to its member would be misaligned.
  EXPECT_EQ(uint64_t{seen.data.u64}, 42u);
  EXPECT_TRUE(Calls().EventFdReset(event_fd.get()).ok());
  EXPECT_EQ(Calls().EpollWait(epoll_fd.get(), &seen, 1, 0).value, 0);
  EXPECT_EQ(Calls().EventFdReset(event_fd.get()).error, EAGAIN);
}

TEST(SysCallsTest, EpollWaitEndsAtItsLimit) {
  const UniqueFd epoll_fd(Calls().EpollCreate().value);
  epoll_event seen{};
  // A nanosecond is a wait, and is not taken for "for ever".
  EXPECT_EQ(Calls().EpollWait(epoll_fd.get(), &seen, 1, 1).value, 0);

  // A short one is not rounded up to a millisecond. The least of many: any may
  // be longer on a busy machine.
  int64_t least_nanoseconds = INT64_MAX;
  for (int i = 0; i < 100; ++i) {
    const int64_t begin = Clock::Monotonic()->NowNanoseconds();
    Calls().EpollWait(epoll_fd.get(), &seen, 1, 200'000);
    least_nanoseconds = std::min(least_nanoseconds,
                                 Clock::Monotonic()->NowNanoseconds() - begin);
  }
  EXPECT_GE(least_nanoseconds, 200'000);
  EXPECT_LT(least_nanoseconds, 1'000'000);
}

TEST(SysCallsTest, CloseGivesTheDescriptorBack) {
  UniqueFd fd(Calls().EventFd().value);
  const int number = fd.Release();
  EXPECT_TRUE(Calls().Close(number).ok());
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
