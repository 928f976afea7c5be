#include "udpgate/internal/net/listen_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using ::testing::HasSubstr;

class ListenSocketTest : public ::testing::Test {
 protected:
  ListenSocketTest() {
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
  }

  absl::StatusOr<std::vector<ListenSocket>> Open() {
    return OpenListenSockets(&sys_calls_, options_, ClientHash(1));
  }

  test::FailingSysCalls sys_calls_;
  ProxyOptions options_;
};

TEST_F(ListenSocketTest, SaysWhichPortTheKernelChose) {
  auto sockets = Open();
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  ASSERT_EQ(sockets->size(), 1u);
  EXPECT_NE(sockets->front().address.port(), 0);
  EXPECT_GT(sockets->front().receive_buffer_bytes, 0);
}

TEST_F(ListenSocketTest, SeveralShareOneAddress) {
  options_.listener_count = 4;
  auto sockets = Open();
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  ASSERT_EQ(sockets->size(), 4u);
  for (const ListenSocket& socket : *sockets) {
    EXPECT_EQ(socket.address, sockets->front().address);
  }
}

// Otherwise a second gate, started by mistake, would take half of the clients
// without a word.
TEST_F(ListenSocketTest, ASecondGateOnTheSameAddressFails) {
  for (const int first_count : {1, 3}) {
    for (const int second_count : {1, 3}) {
      options_.listen_address = SocketAddress::Ipv4Loopback(0);
      options_.listener_count = first_count;
      auto first = Open();
      ASSERT_TRUE(first.ok()) << first.status();
      options_.listen_address = first->front().address;
      options_.listener_count = second_count;
      const absl::Status status = Open().status();
      EXPECT_EQ(status.message(),
                absl::StrCat("listen_address: bind ",
                             options_.listen_address.ToString(),
                             ": Address already in use"));
    }
  }
}

TEST_F(ListenSocketTest, ReportsEachCallThatFails) {
  options_.listen_address = SocketAddress::Ipv6Any(0);
  options_.listener_count = 2;
  for (const Call call :
       {Call::kSocket, Call::kBind, Call::kGetSockName, Call::kGetSockOpt}) {
    for (const int n : {1, 2}) {
      sys_calls_.Reset();
      sys_calls_.FailNth(call, n, EPERM);
      EXPECT_THAT(Open().status().message(), HasSubstr("not permitted"))
          << static_cast<int>(call);
    }
  }
  for (const int option : {IP_PKTINFO, IPV6_V6ONLY, IPV6_RECVPKTINFO}) {
    sys_calls_.Reset();
    sys_calls_.FailOption(option == IP_PKTINFO ? IPPROTO_IP : IPPROTO_IPV6,
                          option, ENOPROTOOPT);
    EXPECT_THAT(Open().status().message(), HasSubstr("setsockopt IP"));
  }
  for (const int option :
       {SO_RXQ_OVFL, SO_REUSEPORT, SO_ATTACH_REUSEPORT_CBPF}) {
    sys_calls_.Reset();
    sys_calls_.FailOption(SOL_SOCKET, option, EPERM);
    EXPECT_THAT(Open().status().message(), HasSubstr("setsockopt SO_"));
  }
}

TEST_F(ListenSocketTest, OpensWithoutACountOfKernelDrops) {
  sys_calls_.FailOption(SOL_SOCKET, SO_RXQ_OVFL, ENOPROTOOPT);
  const auto sockets = Open();
  EXPECT_TRUE(sockets.ok()) << sockets.status();
}

TEST_F(ListenSocketTest, AdoptsABoundSocket) {
  auto sockets = Open();
  ASSERT_TRUE(sockets.ok());
  const SocketAddress address = sockets->front().address;
  ProxyOptions adopting;
  const int fd = sockets->front().fd.Release();
  adopting.listen_fds = {fd};
  const int on = 1;
  ASSERT_EQ(::setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)), 0);
  ASSERT_EQ(::setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
  auto adopted = OpenListenSockets(&sys_calls_, adopting, ClientHash(1));
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_EQ(adopted->front().address, address);
  // What would merge datagrams is off.
  int value = -1;
  socklen_t size = sizeof(value);
  ASSERT_EQ(::getsockopt(fd, IPPROTO_UDP, UDP_GRO, &value, &size), 0);
  EXPECT_EQ(value, 0);
  // The reader hears of clients' hosts that refuse.
  ASSERT_EQ(::getsockopt(fd, IPPROTO_IP, IP_RECVERR, &value, &size), 0);
  EXPECT_EQ(value, 1);
}

TEST_F(ListenSocketTest, RefusesAndClosesWhatIsNoBoundUdpSocket) {
  const int unbound = ::socket(AF_INET, SOCK_DGRAM, 0);
  const int stream = ::socket(AF_INET, SOCK_STREAM, 0);
  for (const int fd : {unbound, stream}) {
    options_.listen_fds = {fd};
    EXPECT_THAT(Open().status().message(),
                HasSubstr("is not a bound UDP socket"));
    EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "it was not closed";
  }
}

TEST_F(ListenSocketTest, KnowsItsOwnAddresses) {
  auto concrete = Open();
  ASSERT_TRUE(concrete.ok());
  const uint16_t port = concrete->front().address.port();
  const SocketAddress local = SocketAddress::Ipv4Loopback(0);
  EXPECT_TRUE(
      IsOwnAddress(*concrete, SocketAddress::Ipv4Loopback(port), local));
  EXPECT_FALSE(IsOwnAddress(
      *concrete, SocketAddress::Ipv4Loopback(static_cast<uint16_t>(port ^ 1)),
      local));
  EXPECT_FALSE(IsOwnAddress(
      *concrete, SocketAddress::Parse("127.0.0.2:0")->WithPort(port), local));

  options_.listen_address = SocketAddress::Ipv4Any(0);
  auto wildcard = Open();
  ASSERT_TRUE(wildcard.ok());
  const uint16_t any_port = wildcard->front().address.port();
  EXPECT_TRUE(IsOwnAddress(
      *wildcard, SocketAddress::Parse("127.0.0.9:0")->WithPort(any_port),
      local));
  const SocketAddress mine = *SocketAddress::Parse("10.1.2.3:0");
  EXPECT_TRUE(IsOwnAddress(*wildcard, mine.WithPort(any_port), mine));
  const SocketAddress other = *SocketAddress::Parse("10.1.2.4:0");
  EXPECT_FALSE(IsOwnAddress(*wildcard, other.WithPort(any_port), mine));
  EXPECT_FALSE(
      IsOwnAddress(*wildcard, SocketAddress::Ipv6Loopback(any_port), local));
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
