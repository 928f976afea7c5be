// What the way of a datagram does to its size and its marks, on sockets and on
// the fast path: the real program between a client and a backend in network
// namespaces of their own.
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

// The number behind the last `words`; 0 where they are not there.
int64_t NumberBehind(const std::string& text, absl::string_view words) {
  const size_t begin = text.rfind(std::string(words));
  if (begin == std::string::npos) return 0;
  const std::string rest = text.substr(begin + words.size());
  int64_t number = 0;
  (void)absl::SimpleAtoi(rest.substr(0, rest.find_first_not_of("0123456789")),
                         &number);
  return number;
}

uint16_t InternetChecksum(const std::string& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    sum += i % 2 == 0 ? uint32_t{byte} << 8 : byte;
  }
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

template <typename Header>
std::string Bytes(const Header& header) {
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header));
}

// "Fragmentation needed", or "packet too big", for a datagram that `from` is
// to have sent to `to` (RFC 792; RFC 4443, section 3.2). To `from`'s host.
void ForgeTooBig(const SocketAddress& from, const SocketAddress& to,
                 uint32_t mtu_bytes) {
  udphdr udp{};
  udp.source = htons(from.port());
  udp.dest = htons(to.port());
  udp.len = htons(1408);
  std::string message;
  if (from.is_ipv4()) {
    icmphdr icmp{};
    icmp.type = ICMP_DEST_UNREACH;
    icmp.code = ICMP_FRAG_NEEDED;
    icmp.un.frag.mtu = htons(static_cast<uint16_t>(mtu_bytes));
    iphdr ip{};
    ip.version = 4;
    ip.ihl = 5;
    ip.tot_len = htons(1428);
    ip.ttl = 64;
    ip.protocol = IPPROTO_UDP;
    std::memcpy(&ip.saddr, from.ip_bytes().data(), 4);
    std::memcpy(&ip.daddr, to.ip_bytes().data(), 4);
    ip.check = htons(InternetChecksum(Bytes(ip)));
    message = Bytes(icmp) + Bytes(ip) + Bytes(udp);
    icmp.checksum = htons(InternetChecksum(message));
    message = Bytes(icmp) + Bytes(ip) + Bytes(udp);
  } else {
    icmp6_hdr icmp{};  // the kernel fills in the checksum
    icmp.icmp6_type = ICMP6_PACKET_TOO_BIG;
    icmp.icmp6_mtu = htonl(mtu_bytes);
    ip6_hdr ip{};
    ip.ip6_vfc = 0x60;
    ip.ip6_plen = htons(1408);
    ip.ip6_nxt = IPPROTO_UDP;
    ip.ip6_hlim = 64;
    std::memcpy(&ip.ip6_src, from.ip_bytes().data(), 16);
    std::memcpy(&ip.ip6_dst, to.ip_bytes().data(), 16);
    message = Bytes(icmp) + Bytes(ip) + Bytes(udp);
  }
  const int fd =
      ::socket(from.family(), SOCK_RAW | SOCK_CLOEXEC,
               from.is_ipv4() ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
  ASSERT_GE(fd, 0);
  sockaddr_storage address;
  const socklen_t bytes = from.WithPort(0).ToSockaddr(from.family(), &address);
  EXPECT_EQ(::sendto(fd, message.data(), message.size(), 0,
                     reinterpret_cast<const sockaddr*>(&address), bytes),
            static_cast<ssize_t>(message.size()));
  ::close(fd);
}

struct Way {
  bool is_ipv6;
  bool has_fast_path;
};

class PathTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    for (auto* space : {&client_space_, &gate_space_, &backend_space_}) {
      auto created = NetworkNamespace::Create();
      UDPGATE_NEEDS_RIGHTS(created.status());
      *space = *std::move(created);
      (*space)->Command("ip link set lo up");
    }
    NetworkNamespace::Connect(*client_space_, "c0", *gate_space_, "g1");
    NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
    GiveAddress(*client_space_, "c0", Ip(1, 2));
    GiveAddress(*gate_space_, "g1", Ip(1, 1));
    GiveAddress(*gate_space_, "g2", Ip(2, 1));
    GiveAddress(*backend_space_, "b0", Ip(2, 2));
    backend_space_->Run([&] {
      backend_ = std::make_unique<LoopbackPeer>(Address(Ip(2, 2), 0));
    });
    client_space_->Run([&] {
      client_ = std::make_unique<LoopbackPeer>(Address(Ip(1, 2), 0));
    });
    const int on = 1;
    for (const LoopbackPeer* peer : {backend_.get(), client_.get()}) {
      ASSERT_EQ(::setsockopt(peer->fd(), level(),
                             GetParam().is_ipv6 ? IPV6_RECVTCLASS : IP_RECVTOS,
                             &on, sizeof(on)),
                0);
    }
  }

  int level() const { return GetParam().is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP; }
  std::string Ip(int net, int host) const {
    return absl::StrCat(GetParam().is_ipv6 ? "fd00:" : "10.0.", net,
                        GetParam().is_ipv6 ? "::" : ".", host);
  }
  void GiveAddress(const NetworkNamespace& space, const std::string& interface,
                   const std::string& ip) const {
    space.Command(absl::StrCat("ip address add ", ip,
                               GetParam().is_ipv6 ? "/64 nodad" : "/24",
                               " dev ", interface));
  }
  static SocketAddress Address(const std::string& ip, uint16_t port) {
    return *SocketAddress::FromIpAndPort(ip, port);
  }

  // A gate on a wildcard or on one address, and a session; one of the fast path
  // where that is asked for.
  void StartGate(std::map<std::string, std::string> settings) {
    settings["PROXY_ADDR"] = Address(Ip(1, 1), 19132).ToString();
    settings["BACKEND_ADDR"] = backend_->address().ToString();
    // Often enough for a flow to be given to the kernel again soon.
    settings["SESSION_IDLE_TIMEOUT_SECS"] = "2";
    settings["UNCONFIRMED_REPLY_FACTOR"] = "0";
    if (GetParam().has_fast_path) settings["FAST_PATH"] = "required";
    GateProcessOptions options;
    options.environment = std::move(settings);
    gate_ = std::make_unique<GateProcess>(GateBinary(), options);
    absl::Status status;
    gate_space_->Run([&] { status = gate_->Start(); });
    ASSERT_TRUE(status.ok()) << status << gate_->log();
    Settle();
  }
  // So long that whatever the fast path takes is on it.
  void Settle() {
    const absl::Time end =
        absl::Now() + (GetParam().has_fast_path ? absl::Milliseconds(1800)
                                                : absl::ZeroDuration());
    do {
      ASSERT_TRUE(There("settle"));
      ASSERT_TRUE(Back("settle"));
    } while (absl::Now() < end);
  }

  // Whether it arrives, and sets `traffic_class_` to what it arrives with.
  bool There(const std::string& payload,
             absl::Duration timeout = kAwaitTimeout) {
    EXPECT_TRUE(client_->Send(gate_->address(), payload).ok());
    const bool arrives = Arrives(backend_.get(), payload, timeout, &relay_);
    if (first_traffic_class_ < 0) first_traffic_class_ = traffic_class_;
    return arrives;
  }
  bool Back(const std::string& payload,
            absl::Duration timeout = kAwaitTimeout) {
    EXPECT_TRUE(backend_->Send(relay_, payload).ok());
    SocketAddress source;
    return Arrives(client_.get(), payload, timeout, &source);
  }
  bool Arrives(LoopbackPeer* peer, const std::string& payload,
               absl::Duration timeout, SocketAddress* source) {
    std::string buffer(65536, '\0');
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    sockaddr_storage from;
    iovec vector = {&buffer[0], buffer.size()};
    msghdr header{};
    const absl::Time end = absl::Now() + timeout;
    ssize_t bytes = -1;
    do {
      header.msg_name = &from;
      header.msg_namelen = sizeof(from);
      header.msg_iov = &vector;
      header.msg_iovlen = 1;
      header.msg_control = control;
      header.msg_controllen = sizeof(control);
      bytes = ::recvmsg(peer->fd(), &header, MSG_DONTWAIT);
      if (bytes < 0) absl::SleepFor(absl::Microseconds(200));
    } while (bytes < 0 && absl::Now() < end);
    if (bytes < 0) return false;
    *source = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&from), header.msg_namelen);
    traffic_class_ = 0;
    const cmsghdr* const entry = CMSG_FIRSTHDR(&header);
    EXPECT_NE(entry, nullptr);
    if (entry != nullptr) {
      std::memcpy(&traffic_class_, CMSG_DATA(entry),
                  entry->cmsg_len - CMSG_LEN(0));
    }
    return buffer.substr(0, static_cast<size_t>(bytes)) == payload;
  }
  void Mark(const LoopbackPeer& peer, int traffic_class) {
    ASSERT_EQ(::setsockopt(peer.fd(), level(),
                           GetParam().is_ipv6 ? IPV6_TCLASS : IP_TOS,
                           &traffic_class, sizeof(traffic_class)),
              0);
  }
  // Fragments that have come to a host, as RFC 4293 counts them.
  int64_t Fragments(const NetworkNamespace& space) const {
    const std::string name =
        GetParam().is_ipv6 ? "Ip6ReasmReqds" : "IpReasmReqds";
    const std::string text = space.Output("nstat -asz " + name);
    const size_t begin = text.find(name);
    EXPECT_NE(begin, std::string::npos) << text;
    if (begin == std::string::npos) return -1;
    const size_t number = text.find_first_of("0123456789", begin + name.size());
    return NumberBehind(text, text.substr(begin, number - begin));
  }
  std::string StopAndReadLog() {
    const absl::StatusOr<ExitResult> end = gate_->Terminate();
    EXPECT_TRUE(end.ok()) << end.status();
    const std::string log = gate_->log();
    if (GetParam().has_fast_path) {
      EXPECT_GT(NumberBehind(log, "fast path: from clients "), 10) << log;
    }
    return log;
  }

  std::unique_ptr<NetworkNamespace> client_space_, gate_space_, backend_space_;
  std::unique_ptr<LoopbackPeer> backend_, client_;
  std::unique_ptr<GateProcess> gate_;
  SocketAddress relay_;
  int traffic_class_ = -1;
  int first_traffic_class_ = -1;  // of the client's first datagram
};

INSTANTIATE_TEST_SUITE_P(Ways, PathTest,
                         ::testing::Values(Way{false, false}, Way{true, false},
                                           Way{false, true}, Way{true, true}),
                         [](const ::testing::TestParamInfo<Way>& way) {
                           return absl::StrCat(
                               way.param.is_ipv6 ? "Ipv6" : "Ipv4",
                               way.param.has_fast_path ? "FastPath"
                                                       : "Sockets");
                         });

// A stranger's message makes no replies leave in fragments: by default over
// IPv4, with DONT_FRAGMENT over IPv6. The kernel does believe it where another
// socket of the host is named.
TEST_P(PathTest, AForgedMessageMakesNoFragments) {
  std::map<std::string, std::string> settings;
  if (GetParam().is_ipv6) settings["DONT_FRAGMENT"] = "on";
  const uint32_t forged_mtu_bytes = GetParam().is_ipv6 ? 1280 : 600;
  const std::string large(1400, 'x');
  std::unique_ptr<LoopbackPeer> other;
  gate_space_->Run(
      [&] { other = std::make_unique<LoopbackPeer>(Address(Ip(1, 1), 0)); });
  const auto forge = [&](const SocketAddress& from) {
    client_space_->Run(
        [&] { ForgeTooBig(from, client_->address(), forged_mtu_bytes); });
  };
  // Before the session, for what the fast path learns as it is installed.
  ASSERT_TRUE(other->Send(client_->address(), "neighbour").ok());
  ASSERT_TRUE(client_->Receive().ok());
  forge(other->address());
  ASSERT_TRUE(AwaitTrue([&] {
    return absl::StrContains(gate_space_->Output("ip route get " + Ip(1, 2)),
                             absl::StrCat("mtu ", forged_mtu_bytes));
  })) << gate_space_->Output("ip route get " + Ip(1, 2));
  StartGate(settings);
  EXPECT_TRUE(Back(large));
  forge(gate_->address());
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(There(large));
    EXPECT_TRUE(Back(large));
  }
  EXPECT_EQ(Fragments(*client_space_), 0);
  EXPECT_EQ(Fragments(*backend_space_), 0);
  const std::string log = StopAndReadLog();
  if (GetParam().has_fast_path) {
    EXPECT_GT(NumberBehind(log, ", from backends "), 10) << log;
  }
}

// What is larger than the interface passes in fragments; and over IPv6 also
// after a forged message, which is believed there.
TEST_P(PathTest, LargeDatagramsPassByDefault) {
  StartGate({});
  client_space_->Run(
      [&] { ForgeTooBig(gate_->address(), client_->address(), 1280); });
  for (const size_t bytes : {1400, 1473, 65507}) {
    EXPECT_TRUE(There(std::string(bytes, 'x'))) << bytes;
    EXPECT_TRUE(Back(std::string(bytes, 'y'))) << bytes;
  }
  EXPECT_GT(Fragments(*client_space_), 40);
  EXPECT_GT(Fragments(*backend_space_), 40);
  EXPECT_EQ(NumberBehind(StopAndReadLog(), " dropped"), 0);
}

TEST_P(PathTest, WithDontFragmentWhatIsTooLargeIsDroppedAndCounted) {
  StartGate({{"DONT_FRAGMENT", "on"}});
  const size_t fits = GetParam().is_ipv6 ? 1252 : 1272;
  const absl::Duration soon = absl::Milliseconds(200);
  gate_space_->Command("ip link set g2 mtu 1300");
  Settle();
  EXPECT_TRUE(There(std::string(fits, 'x')));
  EXPECT_FALSE(There(std::string(fits + 1, 'x'), soon));
  gate_space_->Command("ip link set g2 mtu 1500");
  gate_space_->Command("ip link set g1 mtu 1300");
  Settle();
  EXPECT_TRUE(Back(std::string(fits, 'x')));
  EXPECT_FALSE(Back(std::string(fits + 1, 'x'), soon));
  EXPECT_FALSE(Back(std::string(20000, 'x'), soon));
  EXPECT_EQ(Fragments(*client_space_), 0);
  EXPECT_EQ(Fragments(*backend_space_), 0);
  const std::string log = StopAndReadLog();
  EXPECT_EQ(NumberBehind(log, "would_fragment "), 3) << log;
}

TEST_P(PathTest, MarksAreCopiedBothWays) {
  // The first of them waits for its client's backend.
  Mark(*client_, 0xB8);
  StartGate({});
  EXPECT_EQ(first_traffic_class_, 0xB8);
  EXPECT_EQ(traffic_class_, 0);
  for (const int traffic_class : {0xB8, 0, 0x02, 0x03, 0xBB, 0, 0xFF}) {
    Mark(*client_, traffic_class);
    Mark(*backend_, traffic_class ^ 0x04);
    ASSERT_TRUE(There("x"));
    EXPECT_EQ(traffic_class_, traffic_class);
    ASSERT_TRUE(Back("y"));
    EXPECT_EQ(traffic_class_, traffic_class ^ 0x04);
  }
  StopAndReadLog();
}

TEST_P(PathTest, MarksOfABackendAloneAreCopied) {
  Mark(*backend_, 0xB8);
  StartGate({});
  EXPECT_EQ(traffic_class_, 0xB8);
  ASSERT_TRUE(There("x"));
  EXPECT_EQ(traffic_class_, 0);
  StopAndReadLog();
}

TEST_P(PathTest, MarksCanBeCleared) {
  Mark(*client_, 0xBB);
  Mark(*backend_, 0xBB);
  StartGate({{"TRAFFIC_CLASS", "clear"}});
  ASSERT_TRUE(There("x"));
  EXPECT_EQ(traffic_class_, 0);
  ASSERT_TRUE(Back("y"));
  EXPECT_EQ(traffic_class_, 0);
  StopAndReadLog();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
