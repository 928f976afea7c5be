// Packets that are not relayed, or that need more than a rewrite: sizes, TTL,
// checksums, super-packets, malformed frames, devices without a link header.
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/namespace_fixture.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::AwaitTrue;
using test::LoopbackPeer;
using test::NetworkNamespace;
using udpgate::internal::UniqueFd;

class SpecialPacketsTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, SpecialPacketsTest, AllVariants(), NameOf);

class Ipv4PacketsTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, Ipv4PacketsTest, Ipv4Variants(), NameOf);

TEST_P(SpecialPacketsTest, DatagramsOfEverySize) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const size_t fits = ipv6() ? 1452 : 1472;
  ExpectRelayed(peer, 3, std::string(fits, 'x'));
  Ask(peer, std::string(fits + 1, 'y'));  // two fragments
  Ask(peer, std::string(test::kDatagramBytesMax, 'z'));
  EXPECT_GT(offload_->PassedUp()[ipv6() ? UDPGATE_EXTENSION_HEADERS
                                        : UDPGATE_FRAGMENT],
            0u);
  Promote(peer);
  ExpectRelayed(peer, 3, "");
}

TEST_P(SpecialPacketsTest, PassesUpPacketsLargerThanTheMtu) {
  gate_space_->Command("ip link set g2 mtu 1300");
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const size_t fits = ipv6() ? 1252 : 1272;
  ExpectRelayed(peer, 3, std::string(fits, 'x'));
  const int from_clients = gate_->from_clients();
  Ask(peer, std::string(fits + 1, 'y'));
  EXPECT_EQ(gate_->from_clients(), from_clients + 1);
  EXPECT_EQ(offload_->PassedUp()[UDPGATE_TOO_BIG], 1u);
}

TEST_P(SpecialPacketsTest, LoweredLimitAppliesImmediately) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  // The only session has the first slot.
  offload_->LowerPacketBytesMax(0, FlowDirection::kFromClient, 600);
  offload_->LowerPacketBytesMax(0, FlowDirection::kFromClient, 900);
  const int from_clients = gate_->from_clients();
  Ask(peer, std::string(600, 'x'));
  EXPECT_EQ(gate_->from_clients(), from_clients + 1);
  EXPECT_EQ(offload_->PassedUp()[UDPGATE_TOO_BIG], 1u);
}

TEST_P(SpecialPacketsTest, PassesUpPacketsWithTtlOne) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const int one = 1;
  ASSERT_EQ(
      ::setsockopt(peer.fd(), ipv6() ? IPPROTO_IPV6 : IPPROTO_IP,
                   ipv6() ? IPV6_UNICAST_HOPS : IP_TTL, &one, sizeof(one)),
      0);
  const int from_clients = gate_->from_clients();
  Ask(peer, "near");
  EXPECT_EQ(gate_->from_clients(), from_clients + 1);
  EXPECT_EQ(offload_->PassedUp()[UDPGATE_HOP_LIMIT], 1u);
}

TEST_P(SpecialPacketsTest, WorksWithoutChecksumOffload) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const NetworkNamespace* const spaces[] = {
      client_space_.get(), gate_space_.get(), gate_space_.get(),
      backend_space_.get()};
  const char* const links[] = {"c0", "g1", "g2", "b0"};
  for (int i = 0; i < 4; ++i) {
    spaces[i]->Command(absl::StrCat("ethtool -K ", links[i], " tx off"));
    // The link change withdraws the flow.
    Ask(peer, "by either path");
    ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
    Promote(peer);
    ExpectRelayed(peer, 20, "odd");
  }
}

TEST_P(Ipv4PacketsTest, RelaysDatagramsWithoutChecksum) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  const int on = 1;
  ASSERT_EQ(::setsockopt(peer.fd(), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)),
            0);
  Promote(peer);
  ExpectRelayed(peer, 20);
}

TEST_P(SpecialPacketsTest, KeepsSuperPacketsWhole) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  for (const char* const command :
       {"true", "ethtool -K g2 tx-udp-segmentation off gso off tx off"}) {
    gate_space_->Command(command);
    Ask(peer, "by either path");
    ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
    Promote(peer);
    const int from_clients = gate_->from_clients();
    const uint64_t before =
        gate_->Activity(peer.address(), FlowDirection::kFromClient).datagrams;
    const size_t received = backend_->received_count();
    int segment_bytes = 1000;
    ASSERT_EQ(::setsockopt(peer.fd(), SOL_UDP, UDP_SEGMENT, &segment_bytes,
                           sizeof(segment_bytes)),
              0);
    std::string payload;
    for (char letter = 'a'; letter < 'k'; ++letter) {
      payload += std::string(1000, letter);
    }
    payload += "rest";
    ASSERT_TRUE(peer.Send(gate_->address(), payload).ok());
    segment_bytes = 0;
    ASSERT_EQ(::setsockopt(peer.fd(), SOL_UDP, UDP_SEGMENT, &segment_bytes,
                           sizeof(segment_bytes)),
              0);
    std::string replies;
    for (int i = 0; i < 11; ++i) {
      auto reply = peer.Receive();
      ASSERT_TRUE(reply.ok()) << i << " " << Describe();
      replies += reply->payload;
    }
    EXPECT_EQ(replies, payload);
    EXPECT_EQ(backend_->received_count() - received, 11u);
    EXPECT_EQ(gate_->from_clients(), from_clients);
    EXPECT_EQ(
        gate_->Activity(peer.address(), FlowDirection::kFromClient).datagrams -
            before,
        11u);
  }
}

// Sends frames that no UDP socket sends.
class RawLink {
 public:
  RawLink(const NetworkNamespace& space, const char* name) {
    space.Run([&] {
      fd_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
      index_ = static_cast<int>(::if_nametoindex(name));
    });
  }

  void Send(const std::string& frame) const {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = index_;
    to.sll_halen = 6;
    EXPECT_EQ(::sendto(fd_.get(), frame.data(), frame.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
              static_cast<ssize_t>(frame.size()))
        << std::strerror(errno);
  }

 private:
  UniqueFd fd_;
  int index_ = 0;
};

std::string Bytes(const void* data, size_t count) {
  return std::string(static_cast<const char*>(data), count);
}

std::string BigEndian(size_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value)};
}

// Of an even number of bytes, see RFC 1071.
std::string Checksum(const std::string& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    sum += static_cast<uint32_t>(static_cast<uint8_t>(bytes[i]) << 8 |
                                 static_cast<uint8_t>(bytes[i + 1]));
  }
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return BigEndian(~sum & 0xFFFF);
}

// An IP packet with a UDP datagram of an even number of bytes. Only over IPv6,
// which needs it, has it a UDP checksum.
std::string IpPacket(const SocketAddress& from, const SocketAddress& to,
                     const std::string& payload = "data") {
  const udpgate_tuple tuple = internal::MakeTuple(from, to);
  const std::string ports = Bytes(&tuple.source_port, 4);
  const std::string udp_bytes = BigEndian(8 + payload.size());
  if (from.is_ipv6()) {
    const std::string addresses =
        Bytes(tuple.source, 16) + Bytes(tuple.destination, 16);
    const std::string checksum = Checksum(addresses + ports + udp_bytes +
                                          udp_bytes + BigEndian(17) + payload);
    return std::string("\x60\0\0\0", 4) + udp_bytes + "\x11\x40" + addresses +
           ports + udp_bytes + checksum + payload;
  }
  std::string ip = std::string("\x45\0", 2) + BigEndian(28 + payload.size()) +
                   std::string("\0\0\0\0\x40\x11\0\0", 8) +
                   Bytes(tuple.source, 4) + Bytes(tuple.destination, 4);
  ip.replace(10, 2, Checksum(ip));
  return ip + ports + udp_bytes + std::string(2, '\0') + payload;
}

TEST_P(SpecialPacketsTest, PassesUpTaggedAndTruncatedFrames) {
  gate_space_->Command("ip link set g1 address 02:00:00:00:00:01");
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const RawLink link(*client_space_, "c0");
  const std::string macs("\x02\0\0\0\0\x01\x02\0\0\0\0\x02", 12);
  const std::string type(ipv6() ? "\x86\xDD" : "\x08\0", 2);
  const std::string packet = IpPacket(peer.address(), listen_);
  const auto before = offload_->PassedUp();
  const size_t received = backend_->received_count();
  link.Send(macs + std::string("\x81\0\0\x05", 4) + type + packet);
  link.Send(macs + std::string("\x88\xA8\0\x05\x81\0\0\x05", 8) + type +
            packet);
  const size_t headers = packet.size() - 4;
  for (size_t bytes = 1; bytes < headers; ++bytes) {
    link.Send(macs + type + packet.substr(0, bytes));
  }
  const auto counted = [&](udpgate_reason reason) {
    return offload_->PassedUp()[reason] - before[reason];
  };
  EXPECT_TRUE(AwaitTrue([&] {
    return counted(UDPGATE_TAGGED) == 2 &&
           counted(UDPGATE_MALFORMED) == headers - 1;
  })) << Describe();
  // The flow itself is still relayed.
  ExpectRelayed(peer, 10);
  EXPECT_EQ(backend_->received_count() - received, 10u);
}

// `struct virtio_net_hdr` of linux/virtio_net.h, which is no C++.
struct VirtioHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t linear_bytes;
  uint16_t others[3];
};
static_assert(sizeof(VirtioHeader) == 10, "the size that the kernel expects");

// A device without a link header (tun(4), Documentation/networking/tuntap.rst)
// that asks the gateway as a client behind it would.
class TunClient {
 public:
  // If `linear_bytes` is not 0, the kernel keeps so many bytes of a packet that
  // is larger than a page in its linear part, and the others in pages.
  TunClient(const NetworkNamespace& space, uint16_t linear_bytes) {
    header_.linear_bytes = linear_bytes;
    header_bytes_ = linear_bytes == 0 ? 0 : sizeof(header_);
    space.Run([&] {
      fd_ = UniqueFd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
      ifreq request{};
      request.ifr_flags = static_cast<short>(
          IFF_TUN | IFF_NO_PI | (linear_bytes == 0 ? 0 : IFF_VNET_HDR));
      std::strcpy(request.ifr_name, "tun0");
      EXPECT_EQ(::ioctl(fd_.get(), TUNSETIFF, &request), 0)
          << std::strerror(errno);
    });
  }

  // Sends a packet that ends with this payload, and waits for the reply to its
  // port with the same payload.
  bool Ask(const std::string& packet, const std::string& payload) const {
    const size_t udp = packet.size() - payload.size() - 8;
    const std::string reply_ports =
        packet.substr(udp + 2, 2) + packet.substr(udp, 2);
    const std::string frame = Bytes(&header_, header_bytes_) + packet;
    EXPECT_EQ(::write(fd_.get(), frame.data(), frame.size()),
              static_cast<ssize_t>(frame.size()))
        << std::strerror(errno);
    std::string buffer(header_bytes_ + 10000, '\0');
    return AwaitTrue([&] {
      const ssize_t bytes = ::read(fd_.get(), &buffer[0], buffer.size());
      if (bytes != static_cast<ssize_t>(frame.size())) return false;
      return buffer.substr(header_bytes_ + udp, 4) == reply_ports &&
             buffer.substr(header_bytes_ + udp + 8, payload.size()) == payload;
    });
  }

 private:
  UniqueFd fd_;
  VirtioHeader header_{};
  size_t header_bytes_;
};

class TunTest : public SpecialPacketsTest {
 protected:
  // Expects the kernel to relay datagrams of a client behind `tun0`.
  void ExpectRelayedFrom(const TunClient& tun, const std::string& payload) {
    gate_space_->Command("ip link set tun0 up mtu 9000");
    gate_space_->Command("ip link set g2 mtu 9000");
    backend_space_->Command("ip link set b0 mtu 9000");
    GiveAddresses(*gate_space_, "tun0", "3", "1");
    listen_ = Ip("3", "1").WithPort(19132);
    StartAll();
    const SocketAddress client = Ip("3", "2").WithPort(5000);
    const std::string request = IpPacket(client, listen_, payload);
    ASSERT_TRUE(AwaitTrue([&] {
      return tun.Ask(request, payload) &&
             gate_->Activity(client, FlowDirection::kFromBackend).datagrams >
                 0 &&
             gate_->Activity(client, FlowDirection::kFromClient).datagrams > 0;
    })) << Describe();
    const int from_clients = gate_->from_clients();
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(tun.Ask(request, payload));
    EXPECT_EQ(gate_->from_clients(), from_clients) << Describe();
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, TunTest, AllVariants(), NameOf);

TEST_P(TunTest, RelaysOnADeviceWithoutLinkHeader) {
  ExpectRelayedFrom(TunClient(*gate_space_, 0), "data");
}

TEST_P(TunTest, RelaysPacketsWhoseHeadersAreNotAdjacent) {
  // The first 20 bytes are a part of the headers, also of IPv6.
  ExpectRelayedFrom(TunClient(*gate_space_, 20), std::string(6000, 'x'));
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
