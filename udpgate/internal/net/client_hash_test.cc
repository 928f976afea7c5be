#include "udpgate/internal/net/client_hash.h"

#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace internal {
namespace {

SocketAddress Address(absl::string_view text) {
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  EXPECT_TRUE(address.ok()) << address.status();
  return *address;
}

TEST(ClientHashTest, DependsOnSeedAddressAndPort) {
  const ClientHash hash(1);
  EXPECT_EQ(hash(Address("1.2.3.4:5")), hash(Address("1.2.3.4:5")));
  EXPECT_NE(hash(Address("1.2.3.4:5")), hash(Address("1.2.3.4:6")));
  EXPECT_NE(hash(Address("1.2.3.4:5")), hash(Address("1.2.3.5:5")));
  EXPECT_NE(hash(Address("[::1]:5")), hash(Address("[::2]:5")));
  EXPECT_NE(hash(Address("1.2.3.4:5")), ClientHash(2)(Address("1.2.3.4:5")));
}

TEST(ClientHashTest, LeavesTheScopeOut) {
  const ClientHash hash(1);
  EXPECT_EQ(hash(Address("[fe80::1]:5")), hash(Address("[fe80::1%1]:5")));
}

TEST(ClientHashTest, SpreadsNeighboursEvenly) {
  const ClientHash hash(7);
  constexpr int kShards = 8;
  constexpr int kClients = 8000;
  int counts[kShards] = {};
  for (int i = 0; i < kClients; ++i) {
    ++counts[hash(SocketAddress::Ipv4Loopback(
                 static_cast<uint16_t>(20000 + i))) %
             kShards];
  }
  for (const int count : counts) {
    EXPECT_GT(count, kClients / kShards / 2);
    EXPECT_LT(count, kClients / kShards * 2);
  }
}

// The kernel must pick, for every client, the listener that the hash names.
class ReuseportTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ReuseportTest, KernelAndLibraryAgree) {
  constexpr int kListeners = 3;
  const ClientHash hash = ClientHash::Random();
  ProxyOptions options;
  options.listen_address = Address(GetParam());
  options.listener_count = kListeners;
  absl::StatusOr<std::vector<ListenSocket>> sockets =
      OpenListenSockets(SysCalls::Real(), options, hash);
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  const uint16_t port = sockets->front().address.port();

  std::set<uint32_t> seen;
  for (int i = 0; i < 60; ++i) {
    const bool is_ipv6 = options.listen_address.is_ipv6() && i % 2 == 0;
    test::LoopbackPeer client(is_ipv6 ? SocketAddress::Ipv6Loopback(0)
                                      : SocketAddress::Ipv4Loopback(0));
    ASSERT_TRUE(client
                    .Send(is_ipv6 ? SocketAddress::Ipv6Loopback(port)
                                  : SocketAddress::Ipv4Loopback(port),
                          "x")
                    .ok());
    const uint32_t expected = hash(client.address()) % kListeners;
    seen.insert(expected);
    char byte;
    EXPECT_EQ(::recv((*sockets)[expected].fd.get(), &byte, 1, MSG_DONTWAIT), 1)
        << client.address().ToString() << " did not reach listener "
        << expected;
  }
  EXPECT_EQ(seen.size(), kListeners) << "60 clients left a listener out";
}

INSTANTIATE_TEST_SUITE_P(Addresses, ReuseportTest,
                         ::testing::Values("127.0.0.1:0", "0.0.0.0:0",
                                           "[::]:0"));

}  // namespace
}  // namespace internal
}  // namespace udpgate
