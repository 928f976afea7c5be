#include "cli/system/service_manager.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace cli {
namespace {

// NOTIFY_SOCKET of this process, and WATCHDOG_USEC where a test sets it.
class ServiceManagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = absl::StrCat(directory_.path(), "/notify");
    std::strcpy(address.sun_path, path.c_str());
    fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ASSERT_GE(fd_, 0);
    ASSERT_EQ(
        bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
        0);
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
  }
  void TearDown() override {
    close(fd_);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
  }

  // The next message; empty where none comes in time.
  std::string Receive(absl::Duration timeout = test::kAwaitTimeout) {
    pollfd readable{fd_, POLLIN, 0};
    if (poll(&readable, 1,
             static_cast<int>(absl::ToInt64Milliseconds(timeout))) != 1) {
      return "";
    }
    char buffer[4096];
    const ssize_t size = recv(fd_, buffer, sizeof(buffer), 0);
    return size < 0 ? "" : std::string(buffer, size);
  }

  test::TemporaryDirectory directory_;
  int fd_ = -1;
};

TEST_F(ServiceManagerTest, SaysThatItIsReadyAndThatItStops) {
  ServiceManager service_manager;
  service_manager.NotifyWaiting("waiting\nREADY=1", absl::Seconds(3));
  EXPECT_EQ(Receive(), "EXTEND_TIMEOUT_USEC=3000000\nSTATUS=waiting READY=1");
  service_manager.NotifyReady("listening\nMAINPID=1");
  EXPECT_EQ(Receive(), "READY=1\nSTATUS=listening MAINPID=1");
  service_manager.NotifyStopping("draining", absl::Seconds(7));
  EXPECT_EQ(Receive(),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000\nSTATUS=draining");
}

TEST_F(ServiceManagerTest, FeedsTheWatchdogOnlyWhileAlive) {
  setenv("WATCHDOG_USEC", "20000", 1);
  std::atomic<bool> is_alive{true};
  std::atomic<int> asked{0};
  ServiceManager service_manager;
  ASSERT_TRUE(service_manager
                  .StartWatchdog([&](absl::Duration within) {
                    EXPECT_EQ(within, absl::Milliseconds(10));
                    ++asked;
                    return is_alive.load();
                  })
                  .ok());
  EXPECT_EQ(Receive(), "WATCHDOG=1");
  EXPECT_EQ(Receive(), "WATCHDOG=1");
  is_alive = false;
  // A reply to an earlier request may still be on its way, but not two requests
  // later.
  const int before = asked;
  ASSERT_TRUE(test::AwaitTrue([&] { return asked >= before + 2; }));
  while (!Receive(absl::ZeroDuration()).empty()) {
  }
  const int silent_from = asked;
  ASSERT_TRUE(test::AwaitTrue([&] { return asked >= silent_from + 3; }));
  EXPECT_EQ(Receive(absl::ZeroDuration()), "");
  is_alive = true;
  EXPECT_EQ(Receive(), "WATCHDOG=1");
  service_manager.StopWatchdog();
  service_manager.StopWatchdog();
}

TEST_F(ServiceManagerTest, WithoutWatchdogNobodyIsAsked) {
  ServiceManager service_manager;
  ASSERT_TRUE(service_manager
                  .StartWatchdog([](absl::Duration) {
                    ADD_FAILURE();
                    return true;
                  })
                  .ok());
  service_manager.StopWatchdog();
  EXPECT_EQ(Receive(absl::ZeroDuration()), "");
}

TEST(ServiceManagerAloneTest, WithoutServiceManagerNothingHappens) {
  unsetenv("NOTIFY_SOCKET");
  ServiceManager service_manager;
  service_manager.NotifyReady("ready");
  service_manager.NotifyStopping("stopping", absl::ZeroDuration());
  const auto sockets = TakeActivationSockets();
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_TRUE(sockets->empty());
}

TEST(ServiceManagerAloneTest, SocketsOfAnotherProcessAreLeftAlone) {
  setenv("LISTEN_PID", "1", 1);
  setenv("LISTEN_FDS", "1", 1);
  const auto sockets = TakeActivationSockets();
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_TRUE(sockets->empty());
  EXPECT_EQ(getenv("LISTEN_FDS"), nullptr);
}

TEST(ServiceManagerAloneTest, NonsenseIsAnError) {
  setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", "many", 1);
  const auto sockets = TakeActivationSockets();
  EXPECT_FALSE(sockets.ok());
  EXPECT_TRUE(absl::StrContains(sockets.status().message(), "LISTEN_FDS"));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
