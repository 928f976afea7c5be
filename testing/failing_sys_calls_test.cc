#include "testing/failing_sys_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {
namespace {

using internal::SysCallResult;
using internal::UniqueFd;

// A pair of connected datagram sockets, and a batch of one-byte messages.
class FailingSysCallsTest : public ::testing::Test {
 protected:
  static constexpr unsigned int kMessageCount = 4;

  FailingSysCallsTest() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
    left_.Reset(fds[0]);
    right_.Reset(fds[1]);
    for (unsigned int i = 0; i < kMessageCount; ++i) {
      vectors_[i] = {&bytes_[i], 1};
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  SysCallResult Send() {
    return calls_.SendMmsg(left_.get(), messages_.data(), kMessageCount);
  }
  SysCallResult Receive() {
    return calls_.RecvMmsg(right_.get(), messages_.data(), kMessageCount,
                           MSG_DONTWAIT);
  }
  bool IsTruncated(size_t index) const {
    return (messages_[index].msg_hdr.msg_flags & MSG_TRUNC) != 0;
  }

  FailingSysCalls calls_;
  UniqueFd left_, right_;
  std::array<char, kMessageCount> bytes_{};
  std::array<iovec, kMessageCount> vectors_;
  std::array<mmsghdr, kMessageCount> messages_;
};

TEST_F(FailingSysCallsTest, WithoutOrdersCallsReachTheKernel) {
  EXPECT_EQ(Send().value, 4);
  EXPECT_EQ(Receive().value, 4);
  EXPECT_EQ(Receive().error, EAGAIN);  // the kernel's own failure
  EXPECT_EQ(calls_.calls(Call::kSendMmsg), 1);
  EXPECT_EQ(calls_.calls(Call::kRecvMmsg), 2);
  EXPECT_EQ(calls_.failures(Call::kRecvMmsg), 0);
}

TEST_F(FailingSysCallsTest, FailNextFailsSoManyAndSendsNothing) {
  calls_.FailNext(Call::kSendMmsg, ENOBUFS, 2);
  EXPECT_EQ(Send().error, ENOBUFS);
  EXPECT_EQ(Send().error, ENOBUFS);
  EXPECT_EQ(Receive().error, EAGAIN);
  EXPECT_TRUE(Send().ok());
  EXPECT_EQ(calls_.calls(Call::kSendMmsg), 3);
  EXPECT_EQ(calls_.failures(Call::kSendMmsg), 2);
}

TEST_F(FailingSysCallsTest, OrdersOfOneKindQueueUp) {
  calls_.FailNext(Call::kSendMmsg, ENOBUFS);
  calls_.FailNext(Call::kSendMmsg, EPERM);
  EXPECT_EQ(Send().error, ENOBUFS);
  EXPECT_EQ(Send().error, EPERM);
  EXPECT_TRUE(Send().ok());
}

TEST_F(FailingSysCallsTest, FailNthLetsTheOthersPass) {
  calls_.FailNth(Call::kSendMmsg, 3, EPERM);
  EXPECT_TRUE(Send().ok());
  EXPECT_EQ(Receive().value, 4);
  EXPECT_TRUE(Send().ok());
  EXPECT_EQ(Receive().value, 4);
  EXPECT_EQ(Send().error, EPERM);
  EXPECT_TRUE(Send().ok());
}

TEST_F(FailingSysCallsTest, FailNthCountsCallsThatAnotherOrderFails) {
  calls_.FailNext(Call::kSendMmsg, ENOBUFS);
  calls_.FailNth(Call::kSendMmsg, 2, EPERM);
  EXPECT_EQ(Send().error, ENOBUFS);
  EXPECT_EQ(Send().error, EPERM);
  EXPECT_TRUE(Send().ok());
}

TEST_F(FailingSysCallsTest, FailAllHoldsUntilReset) {
  calls_.FailAll(Call::kSocket, EMFILE);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(calls_.Socket(AF_INET, SOCK_DGRAM, 0).error, EMFILE);
  }
  calls_.Reset();
  EXPECT_EQ(calls_.calls(Call::kSocket), 0);
  const SysCallResult socket = calls_.Socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_TRUE(socket.ok());
  UniqueFd closer(socket.value);
}

TEST_F(FailingSysCallsTest, AnOrderForOneDescriptorSparesTheOthers) {
  calls_.FailAll(Call::kRecvMmsg, EIO, right_.get());
  EXPECT_EQ(Receive().error, EIO);
  EXPECT_EQ(
      calls_
          .RecvMmsg(left_.get(), messages_.data(), kMessageCount, MSG_DONTWAIT)
          .error,
      EAGAIN);
}

TEST_F(FailingSysCallsTest, FailOptionFailsOnlyThatOption) {
  calls_.FailOption(SOL_SOCKET, SO_REUSEPORT, ENOPROTOOPT);
  const int on = 1;
  const auto set = [&](int name) {
    return calls_.SetSockOpt(left_.get(), SOL_SOCKET, name, &on, sizeof(on))
        .error;
  };
  EXPECT_EQ(set(SO_REUSEPORT), ENOPROTOOPT);
  EXPECT_EQ(set(SO_REUSEADDR), 0);
  EXPECT_EQ(set(SO_REUSEPORT), ENOPROTOOPT);
}

TEST_F(FailingSysCallsTest, LimitMessagesMakesSuccessPartial) {
  calls_.LimitMessages(Call::kSendMmsg, 3);
  calls_.LimitMessages(Call::kRecvMmsg, 1, /*count=*/1);
  EXPECT_EQ(Send().value, 3);
  EXPECT_EQ(Receive().value, 1);
  EXPECT_EQ(Receive().value, 2);
}

TEST_F(FailingSysCallsTest, TruncateNextMarksSoManyMessages) {
  calls_.TruncateNext(2);
  ASSERT_EQ(Send().value, 4);
  ASSERT_EQ(Receive().value, 4);
  EXPECT_TRUE(IsTruncated(0));
  EXPECT_TRUE(IsTruncated(1));
  EXPECT_FALSE(IsTruncated(2));
  EXPECT_FALSE(IsTruncated(3));
}

TEST_F(FailingSysCallsTest, CloseClosesAlsoWhereItFails) {
  calls_.FailNext(Call::kClose, EIO);
  const int fd = left_.Release();
  EXPECT_EQ(calls_.Close(fd).error, EIO);
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(FailingSysCallsTest, EveryKindOfCallCanFail) {
  const int fd = left_.get();
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  int value = 0;
  socklen_t value_size = sizeof(value);
  epoll_event event{};
  for (size_t i = 0; i < kCallCount; ++i) {
    if (static_cast<Call>(i) == Call::kClose) continue;  // the test above
    calls_.FailNext(static_cast<Call>(i), ENOSYS);
  }
  const SysCallResult results[] = {
      calls_.Socket(AF_INET, SOCK_DGRAM, 0),
      calls_.Bind(fd, reinterpret_cast<sockaddr*>(&address), size),
      calls_.Connect(fd, reinterpret_cast<sockaddr*>(&address), size),
      calls_.GetSockName(fd, &address, &size),
      calls_.SetSockOpt(fd, SOL_SOCKET, SO_SNDBUF, &value, value_size),
      calls_.GetSockOpt(fd, SOL_SOCKET, SO_SNDBUF, &value, &value_size),
      calls_.Duplicate(fd),
      Receive(),
      Send(),
      calls_.EpollCreate(),
      calls_.EpollControl(fd, EPOLL_CTL_ADD, fd, &event),
      calls_.EpollWait(fd, &event, 1, 0),
      calls_.EventFd(),
      calls_.EventFdAdd(fd),
      calls_.EventFdReset(fd),
  };
  for (const SysCallResult& result : results) {
    EXPECT_EQ(result.error, ENOSYS);
    EXPECT_EQ(result.value, -1);
  }
  int64_t failures = 0;
  for (size_t i = 0; i < kCallCount; ++i) {
    failures += calls_.failures(static_cast<Call>(i));
  }
  EXPECT_EQ(failures, static_cast<int64_t>(kCallCount) - 1);
}

TEST_F(FailingSysCallsTest, CountsOfSeveralThreadsAddUp) {
  calls_.FailNext(Call::kSendMmsg, ENOBUFS, 150);
  std::atomic<int> failure_count{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 100; ++k) {
        // No messages: the kernel has nothing to do where it is asked.
        const SysCallResult result =
            calls_.SendMmsg(left_.get(), messages_.data(), 0);
        if (result.error == ENOBUFS) ++failure_count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failure_count, 150);
  EXPECT_EQ(calls_.calls(Call::kSendMmsg), 400);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
