#include "cli/listen_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/system/system.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class ListenSocketsTest : public ::testing::Test {
 protected:
  ~ListenSocketsTest() override { std::fclose(log_); }

  // A bound socket, which the code under test owns; a stream socket listens.
  static int Open(
      int type, const SocketAddress& address = SocketAddress::Ipv4Loopback(0)) {
    const int fd = socket(address.family(), type | SOCK_CLOEXEC, 0);
    sockaddr_storage name;
    const socklen_t size = address.ToSockaddr(address.family(), &name);
    EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&name), size), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(fd, 1), 0);
    }
    return fd;
  }
  static bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

  std::string Error(std::vector<int> sockets) {
    const absl::Status status =
        UseSockets(std::move(sockets), &settings_, &logger_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }

  std::FILE* const log_ = std::tmpfile();
  Logger logger_{LogSeverity::kInfo, LogFormat::kText, fileno(log_)};
  Settings settings_;
};

TEST_F(ListenSocketsTest, WithoutSocketsNothingChanges) {
  settings_.nethernet_address = SocketAddress::Ipv4Any(1);
  EXPECT_TRUE(UseSockets({}, &settings_, &logger_).ok());
  EXPECT_THAT(settings_.proxy.listen_fds, IsEmpty());
  EXPECT_EQ(settings_.nethernet_listen_fd, -1);
}

TEST_F(ListenSocketsTest, SortsDatagramAndStreamSockets) {
  const int stream = Open(SOCK_STREAM);
  const int first = Open(SOCK_DGRAM);
  const int second = Open(SOCK_DGRAM);
  settings_.nethernet_address = *BoundAddress(stream);
  settings_.listen_on_all_addresses = true;
  const absl::Status status =
      UseSockets({first, stream, second}, &settings_, &logger_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(settings_.nethernet_listen_fd, stream);
  EXPECT_THAT(settings_.proxy.listen_fds, ElementsAre(first, second));
  EXPECT_EQ(settings_.proxy.listener_count, 2);
  EXPECT_EQ(settings_.proxy.listen_address, *BoundAddress(first));
  EXPECT_FALSE(settings_.listen_on_all_addresses);
  for (const int fd : {stream, first, second}) close(fd);
}

TEST_F(ListenSocketsTest, AStreamSocketAloneLeavesProxyAddr) {
  const int stream = Open(SOCK_STREAM, SocketAddress::Ipv4Any(0));
  settings_.nethernet_address = SocketAddress::Ipv4Any(0);
  settings_.nethernet_on_all_addresses = true;
  settings_.listen_on_all_addresses = true;
  ASSERT_TRUE(UseSockets({stream}, &settings_, &logger_).ok());
  EXPECT_EQ(settings_.nethernet_listen_fd, stream);
  EXPECT_EQ(settings_.nethernet_address, *BoundAddress(stream));
  EXPECT_FALSE(settings_.nethernet_on_all_addresses);
  EXPECT_THAT(settings_.proxy.listen_fds, IsEmpty());
  EXPECT_TRUE(settings_.listen_on_all_addresses);
  close(stream);
}

TEST_F(ListenSocketsTest, AStreamSocketNeedsNetherNetAddr) {
  const int stream = Open(SOCK_STREAM);
  const std::string address = BoundAddress(stream)->ToString();
  const int datagram = Open(SOCK_DGRAM);
  EXPECT_THAT(
      Error({datagram, stream}),
      AllOf(StartsWith("LISTEN_FDS: "), HasSubstr("NETHERNET_ADDR is off"),
            HasSubstr(absl::StrCat("NETHERNET_ADDR=", address))));
  EXPECT_FALSE(IsOpen(stream));
  EXPECT_FALSE(IsOpen(datagram));
}

TEST_F(ListenSocketsTest, AStreamSocketHasTheAddressOfTheSetting) {
  for (const char* address : {"127.0.0.1:1", "127.0.0.2:0", "[::1]:0"}) {
    settings_.nethernet_address = *SocketAddress::Parse(address);
    EXPECT_THAT(Error({Open(SOCK_STREAM)}),
                HasSubstr(absl::StrCat("NETHERNET_ADDR=", address)));
  }
  settings_.nethernet_address = SocketAddress::Ipv4Any(1);
  settings_.nethernet_on_all_addresses = true;
  EXPECT_THAT(Error({Open(SOCK_STREAM)}), HasSubstr("NETHERNET_ADDR=:1;"));
  EXPECT_THAT(Error({Open(SOCK_STREAM, SocketAddress::Ipv4Any(0))}),
              HasSubstr("NETHERNET_ADDR=:1;"));
  EXPECT_EQ(settings_.nethernet_listen_fd, -1);
}

TEST_F(ListenSocketsTest, ThereIsOneStreamSocket) {
  settings_.nethernet_address = SocketAddress::Ipv4Loopback(0);
  EXPECT_THAT(Error({Open(SOCK_STREAM), Open(SOCK_STREAM)}),
              HasSubstr("2 stream sockets; allowed: one"));
}

TEST_F(ListenSocketsTest, AStreamSocketMustListenOnAnIpAddress) {
  settings_.nethernet_address = SocketAddress::Ipv4Loopback(0);
  EXPECT_THAT(Error({socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)}),
              HasSubstr("not a TCP socket that listens"));
  EXPECT_THAT(Error({socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)}),
              HasSubstr("not a TCP socket that listens"));
}

TEST_F(ListenSocketsTest, APortAloneMeansAllAddresses) {
  settings_.listen_on_all_addresses = true;
  settings_.proxy.listen_address = SocketAddress::Ipv4Any(7);
  settings_.nethernet_on_all_addresses = true;
  settings_.nethernet_address = SocketAddress::Ipv4Any(8);
  ChooseListenAddresses(&settings_, &logger_);
  EXPECT_EQ(settings_.proxy.listen_address, Ipv6Available()
                                                ? SocketAddress::Ipv6Any(7)
                                                : SocketAddress::Ipv4Any(7));
  EXPECT_EQ(settings_.nethernet_address,
            settings_.proxy.listen_address.WithPort(8));
}

TEST_F(ListenSocketsTest, AStandbyBindsAddressesThatAreNotHere) {
  // Of a documentation prefix (RFC 5737).
  settings_.proxy.listen_address = *SocketAddress::Parse("192.0.2.1:19132");
  settings_.nethernet_address = settings_.proxy.listen_address;
  ASSERT_TRUE(PrepareStandby(/*is_takeover=*/false, &settings_).ok());
  EXPECT_FALSE(settings_.proxy.binds_absent_addresses);
  EXPECT_EQ(settings_.nethernet_listen_fd, -1);

  settings_.is_standby = true;
  ASSERT_TRUE(PrepareStandby(/*is_takeover=*/true, &settings_).ok());
  EXPECT_TRUE(settings_.proxy.binds_absent_addresses);
  EXPECT_EQ(settings_.nethernet_listen_fd, -1);

  ASSERT_TRUE(PrepareStandby(/*is_takeover=*/false, &settings_).ok());
  ASSERT_GE(settings_.nethernet_listen_fd, 0);
  EXPECT_TRUE(IsListening(settings_.nethernet_listen_fd));
  EXPECT_EQ(*BoundAddress(settings_.nethernet_listen_fd),
            settings_.nethernet_address);
  close(settings_.nethernet_listen_fd);
}

TEST_F(ListenSocketsTest, AStandbyNeedsOneAddress) {
  settings_.is_standby = true;
  settings_.proxy.listen_address = SocketAddress::Ipv4Any(19132);
  EXPECT_THAT(std::string(PrepareStandby(false, &settings_).message()),
              AllOf(StartsWith("STANDBY=on needs"), HasSubstr("FreeBind=yes")));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
