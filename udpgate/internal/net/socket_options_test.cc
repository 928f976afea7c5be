#include "udpgate/internal/net/socket_options.h"

#include <sys/socket.h>

#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace {

using ::udpgate::test::LoopbackPeer;

class NextDatagramBytesTest : public ::testing::Test {
 protected:
  // Connected to `peer_`.
  void SetUp() override {
    sockaddr_storage name;
    const socklen_t size = peer_.address().ToSockaddr(AF_INET, &name);
    ASSERT_EQ(
        connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name), size),
        0);
    sockaddr_storage own;
    socklen_t own_size = sizeof(own);
    ASSERT_EQ(getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own),
                          &own_size),
              0);
    address_ = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&own), own_size);
  }

  absl::optional<size_t> Next() {
    return NextDatagramBytes(SysCalls::Real(), socket_.get());
  }

  LoopbackPeer peer_;
  const UniqueFd socket_ =
      UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  SocketAddress address_;
};

TEST_F(NextDatagramBytesTest, IsNothingIfNoDatagramWaits) {
  EXPECT_EQ(Next(), absl::nullopt);
}

TEST_F(NextDatagramBytesTest, LeavesTheDatagram) {
  ASSERT_TRUE(peer_.Send(address_, "reply").ok());
  EXPECT_EQ(Next(), 5u);
  EXPECT_EQ(Next(), 5u);
}

TEST_F(NextDatagramBytesTest, APendingErrorDoesNotHideTheDatagram) {
  const SocketAddress peer_address = peer_.address();
  peer_ = LoopbackPeer();
  ASSERT_EQ(send(socket_.get(), "x", 1, 0), 1);  // is refused at once
  peer_ = LoopbackPeer(peer_address);
  ASSERT_TRUE(peer_.Send(address_, "reply").ok());
  EXPECT_EQ(Next(), 5u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
