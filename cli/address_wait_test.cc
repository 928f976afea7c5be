#include "cli/address_wait.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/simulated_clock.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::HasSubstr;

class AddressWaitTest : public ::testing::Test {
 protected:
  AddressWaitTest()
      : log_(std::tmpfile()),
        logger_(LogSeverity::kInfo, LogFormat::kText, fileno(log_)) {
    options_.timeout = absl::Seconds(10);
    options_.clock = &clock_;
    options_.wait = [this](absl::Duration time) {
      clock_.Advance(time);
      return ++waits_ == cancelled_at_;
    };
    options_.on_wait = [this](const std::string&) { ++told_; };
    options_.try_bind = [this](const SocketAddress& address) {
      ++tries_;
      return clock_.NowNanoseconds() - start_ >= there_after_ ||
                     address.is_loopback()
                 ? 0
                 : error_;
    };
  }
  ~AddressWaitTest() override { std::fclose(log_); }

  std::string Log() {
    std::string text(4096, 0);
    text.resize(pread(fileno(log_), text.data(), text.size(), 0));
    return text;
  }

  test::SimulatedClock clock_;
  const int64_t start_ = clock_.NowNanoseconds();
  std::FILE* const log_;
  Logger logger_;
  AddressWaitOptions options_;
  const std::vector<WantedAddress> wanted_ = {
      {"PROXY_ADDR", *SocketAddress::Parse("192.0.2.1:19132")},
      {"ADMIN_ADDR", *SocketAddress::Parse("127.0.0.1:9132")}};
  int64_t there_after_ = INT64_MAX;  // nanoseconds
  int error_ = EADDRNOTAVAIL;
  int cancelled_at_ = -1;
  int waits_ = 0;
  int told_ = 0;
  int tries_ = 0;
};

TEST_F(AddressWaitTest, DoesNotWaitForAvailableAddresses) {
  there_after_ = 0;
  EXPECT_TRUE(AwaitAddresses(wanted_, options_, &logger_).ok());
  EXPECT_EQ(waits_, 0);
  EXPECT_EQ(told_, 0);
  EXPECT_EQ(Log(), "");
}

TEST_F(AddressWaitTest, LogsTheWaitAndItsEnd) {
  there_after_ = 5'000'000'000;
  EXPECT_TRUE(AwaitAddresses(wanted_, options_, &logger_).ok());
  EXPECT_EQ(waits_, 50);
  EXPECT_EQ(told_, 1);
  EXPECT_THAT(Log(), HasSubstr("warn PROXY_ADDR=192.0.2.1:19132: this machine "
                               "does not have the address yet; waiting for 10s "
                               "at most\n"));
  EXPECT_THAT(Log(), HasSubstr("the addresses are available, after 5s\n"));
  const std::string log = Log();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2) << log;
}

TEST_F(AddressWaitTest, FailsAfterTheTimeout) {
  const absl::Status status = AwaitAddresses(wanted_, options_, &logger_);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("PROXY_ADDR=192.0.2.1:19132"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("ADDRESS_WAIT_SECS"));
  EXPECT_EQ(waits_, 100);
}

TEST_F(AddressWaitTest, ZeroDoesNotWait) {
  options_.timeout = absl::ZeroDuration();
  EXPECT_TRUE(AwaitAddresses(wanted_, options_, &logger_).ok());
  EXPECT_EQ(tries_, 0);
}

TEST_F(AddressWaitTest, AStopCancelsTheWait) {
  cancelled_at_ = 3;
  EXPECT_EQ(AwaitAddresses(wanted_, options_, &logger_).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(waits_, 3);
}

TEST_F(AddressWaitTest, IgnoresOtherErrors) {
  error_ = EADDRINUSE;
  EXPECT_TRUE(AwaitAddresses(wanted_, options_, &logger_).ok());
  EXPECT_EQ(waits_, 0);
}

TEST(WantedAddressesTest, LeavesOutWildcardsAndBoundSockets) {
  Settings settings;
  settings.proxy.listen_address = SocketAddress::Ipv4Any(1);
  EXPECT_TRUE(WantedAddresses(settings).empty());
  settings.proxy.listen_address = SocketAddress::Ipv4Loopback(1);
  settings.admin_address = SocketAddress::Ipv6Loopback(2);
  settings.proxy.upstream_bind_addresses = {SocketAddress::Ipv4Loopback(0)};
  EXPECT_EQ(WantedAddresses(settings).size(), 3u);
  settings.nethernet_address = SocketAddress::Ipv4Loopback(3);
  EXPECT_EQ(WantedAddresses(settings)[2].setting, "NETHERNET_ADDR");
  settings.nethernet_address = SocketAddress::Ipv4Any(3);
  EXPECT_EQ(WantedAddresses(settings).size(), 3u);
  settings.proxy.listen_fds = {0};
  EXPECT_EQ(WantedAddresses(settings).size(), 2u);
}

TEST(WantedAddressesTest, AStandbyWaitsForTheAdminEndpointAlone) {
  Settings settings;
  settings.is_standby = true;
  settings.proxy.listen_address = SocketAddress::Ipv4Loopback(1);
  settings.proxy.upstream_bind_addresses = {SocketAddress::Ipv4Loopback(0)};
  settings.nethernet_address = SocketAddress::Ipv4Loopback(3);
  settings.admin_address = SocketAddress::Ipv6Loopback(2);
  ASSERT_EQ(WantedAddresses(settings).size(), 1u);
  EXPECT_EQ(WantedAddresses(settings)[0].setting, "ADMIN_ADDR");
}

TEST(TryBindTest, TellsAddressesOfThisMachineFromOthers) {
  EXPECT_EQ(TryBind(SocketAddress::Ipv4Loopback(1)), 0);
  // Of a documentation prefix (RFC 5737).
  EXPECT_EQ(TryBind(*SocketAddress::Parse("192.0.2.1:1")), EADDRNOTAVAIL);
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
