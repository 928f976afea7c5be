// The fast path between real interfaces: a client, a gate and a backend in
// network namespaces of their own, with the real loader and a tiny gate.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"
#include "testing/network_namespace.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/fastpath/tiny_gate.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::AwaitTrue;
using test::EchoBackend;
using test::LoopbackPeer;
using test::NetworkNamespace;

SocketAddress Address(const std::string& ip, uint16_t port) {
  return *SocketAddress::FromIpAndPort(ip, port);
}

// client ns: c0 10.1.0.2 --- g1 10.1.0.1 gate ns 10.2.0.1 g2 --- b0 10.2.0.2
// The address family, and whether the program may hang by links (TCX).
struct Setup {
  bool ipv6;
  bool may_use_tcx;
};

std::string NameOf(const ::testing::TestParamInfo<Setup>& info) {
  return absl::StrCat(info.param.ipv6 ? "Ipv6" : "Ipv4",
                      info.param.may_use_tcx ? "" : "ByFilter");
}

class Namespaces : public ::testing::TestWithParam<Setup> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<NetworkNamespace>> first =
        NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(first.status());
    client_space_ = *std::move(first);
    gate_space_ = *NetworkNamespace::Create();
    backend_space_ = *NetworkNamespace::Create();
    for (const NetworkNamespace* space : All()) {
      space->Command("ip link set lo up");
    }
    NetworkNamespace::Connect(*client_space_, "c0", *gate_space_, "g1");
    NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
    GiveAddresses(*client_space_, "c0", "1", "2");
    GiveAddresses(*gate_space_, "g1", "1", "1");
    GiveAddresses(*gate_space_, "g2", "2", "1");
    GiveAddresses(*backend_space_, "b0", "2", "2");
    // Only a relay lets them reach each other: the gate's host is no router.
    // Where an interface gets its hook for filters, it drops what is sent
    // meanwhile.
    for (const char* link : {"lo", "g1", "g2"}) {
      if (!HasLinks()) {
        gate_space_->Command(
            absl::StrCat("tc qdisc add dev ", link, " clsact"));
      }
    }
  }

  void TearDown() override {
    peers_.clear();
    gate_.reset();
    backend_.reset();
    offload_.reset();
  }

  bool ipv6() const { return GetParam().ipv6; }
  // Else it hangs as a filter of clsact.
  bool HasLinks() const { return GetParam().may_use_tcx; }
  SocketAddress ClientAddress() const { return Ip("1", "2").WithPort(0); }
  SocketAddress GateAddress() const { return Ip("1", "1").WithPort(19132); }
  SocketAddress BackendAddress() const { return Ip("2", "2").WithPort(0); }
  SocketAddress Loopback(uint16_t port) const {
    return ipv6() ? SocketAddress::Ipv6Loopback(port)
                  : SocketAddress::Ipv4Loopback(port);
  }

  KernelFlowOffload::Options MakeOptions() {
    KernelFlowOffload::Options options;
    options.sessions_max = 2000;
    options.listen_addresses = {listen_};
    options.may_use_tcx = GetParam().may_use_tcx;
    options.log_sink = [this](LogSeverity, absl::string_view line) {
      udpgate::internal::MutexLock lock(&log_mutex_);
      absl::StrAppend(&log_, line, "\n");
    };
    return options;
  }
  std::unique_ptr<KernelFlowOffload> NewOffload(
      const KernelFlowOffload::Options& options) {
    std::unique_ptr<KernelFlowOffload> created;
    gate_space_->Run([&] {
      auto offload = KernelFlowOffload::Create(options);
      EXPECT_TRUE(offload.ok()) << offload.status();
      if (offload.ok()) created = *std::move(offload);
    });
    return created;
  }
  absl::Status Load(std::vector<std::string> interfaces = {}) {
    KernelFlowOffload::Options options = MakeOptions();
    options.interfaces = std::move(interfaces);
    absl::Status status;
    gate_space_->Run([&] {
      auto offload = KernelFlowOffload::Create(options);
      status = offload.status();
      if (offload.ok()) offload_ = *std::move(offload);
    });
    return status;
  }

  // With everything at its usual place.
  void StartAll() {
    ASSERT_TRUE(Load().ok());
    StartBackend(*backend_space_, BackendAddress());
    StartGate();
  }
  void StartBackend(const NetworkNamespace& space,
                    const SocketAddress& address) {
    space.Run([&] { backend_ = std::make_unique<EchoBackend>("", address); });
  }
  void StartGate() {
    gate_space_->Run([&] {
      gate_ = std::make_unique<TinyGate>(listen_, backend_->address(),
                                         offload_.get());
    });
  }
  LoopbackPeer& NewPeer() { return NewPeer(*client_space_, ClientAddress()); }
  LoopbackPeer& NewPeer(const NetworkNamespace& space,
                        const SocketAddress& address) {
    space.Run(
        [&] { peers_.push_back(std::make_unique<LoopbackPeer>(address)); });
    return *peers_.back();
  }

  void Ask(LoopbackPeer& peer, const std::string& payload) {
    absl::StatusOr<std::string> reply = peer.Ask(gate_->address(), payload);
    ASSERT_TRUE(reply.ok()) << reply.status() << " " << Describe();
    ASSERT_EQ(*reply, payload);
  }
  // Asks until both directions are relayed.
  void Promote(LoopbackPeer& peer) {
    const uint64_t before_there =
        gate_->Activity(peer.address(), FlowDirection::kFromClient).datagrams;
    const uint64_t before_back =
        gate_->Activity(peer.address(), FlowDirection::kFromBackend).datagrams;
    ASSERT_TRUE(AwaitTrue([&] {
      EXPECT_TRUE(peer.Ask(gate_->address(), "promote").ok()) << Describe();
      return gate_->Activity(peer.address(), FlowDirection::kFromClient)
                     .datagrams > before_there &&
             gate_->Activity(peer.address(), FlowDirection::kFromBackend)
                     .datagrams > before_back;
    })) << Describe();
  }
  // Asks this often, and expects every datagram to be relayed by the kernel.
  void ExpectRelayed(LoopbackPeer& peer, int count,
                     const std::string& payload = "hello") {
    const int from_clients = gate_->from_clients();
    const int from_backend = gate_->from_backend();
    const DirectionActivity there =
        gate_->Activity(peer.address(), FlowDirection::kFromClient);
    const DirectionActivity back =
        gate_->Activity(peer.address(), FlowDirection::kFromBackend);
    for (int i = 0; i < count; ++i) Ask(peer, payload);
    EXPECT_EQ(gate_->from_clients(), from_clients) << Describe();
    EXPECT_EQ(gate_->from_backend(), from_backend) << Describe();
    for (const auto direction :
         {FlowDirection::kFromClient, FlowDirection::kFromBackend}) {
      const DirectionActivity now = gate_->Activity(peer.address(), direction);
      const DirectionActivity& before =
          direction == FlowDirection::kFromClient ? there : back;
      EXPECT_EQ(now.datagrams - before.datagrams, count);
      EXPECT_EQ(now.payload_bytes - before.payload_bytes,
                count * payload.size());
      EXPECT_GT(now.last_relayed_nanoseconds, 0);
    }
  }
  // Asks this often, and expects every datagram to go through the sockets.
  void ExpectOnSockets(LoopbackPeer& peer, int count,
                       const std::string& payload = "hello") {
    const int from_clients = gate_->from_clients();
    const int from_backend = gate_->from_backend();
    for (int i = 0; i < count; ++i) Ask(peer, payload);
    EXPECT_EQ(gate_->from_clients() - from_clients, count) << Describe();
    EXPECT_EQ(gate_->from_backend() - from_backend, count) << Describe();
  }

  // What becomes of it.
  absl::Status InstallStatus(const SessionAddresses& addresses) {
    const absl::optional<uint32_t> slot = offload_->Install(addresses);
    if (!slot.has_value()) return absl::ResourceExhaustedError("no free slot");
    absl::Status status;
    EXPECT_TRUE(AwaitTrue([&] {
      status = offload_->InstallStatus(*slot);
      return !absl::IsUnavailable(status);
    }));
    EXPECT_EQ(offload_->state(*slot),
              status.ok() ? FlowState::kInstalled : FlowState::kRefused);
    return status;
  }

  std::string Log() const {
    udpgate::internal::MutexLock lock(&log_mutex_);
    return log_;
  }
  // For the message of a failed expectation.
  std::string Describe() const {
    std::string text = absl::StrCat(
        "install: ", gate_ ? gate_->install_status().ToString() : "",
        "; log: ", Log(), "; passed up by reason:");
    if (offload_ != nullptr) {
      for (const uint64_t count : offload_->PassedUp()) {
        absl::StrAppend(&text, " ", count);
      }
    }
    return text;
  }

  std::vector<const NetworkNamespace*> All() const {
    return {client_space_.get(), gate_space_.get(), backend_space_.get()};
  }

  SocketAddress Ip(const std::string& net, const std::string& host) const {
    return Address(ipv6() ? absl::StrCat("fd00:", net, "::", host)
                          : absl::StrCat("10.", net, ".0.", host),
                   0);
  }
  static void GiveAddresses(const NetworkNamespace& space,
                            const std::string& name, const std::string& net,
                            const std::string& host) {
    space.Command(
        absl::StrCat("ip addr add 10.", net, ".0.", host, "/24 dev ", name));
    space.Command(absl::StrCat("ip addr add fd00:", net, "::", host, "/64 dev ",
                               name, " nodad"));
  }

  std::unique_ptr<NetworkNamespace> client_space_;
  std::unique_ptr<NetworkNamespace> gate_space_;
  std::unique_ptr<NetworkNamespace> backend_space_;
  SocketAddress listen_ = GateAddress();
  mutable udpgate::internal::Mutex log_mutex_;
  std::string log_ ABSL_GUARDED_BY(log_mutex_);
  std::unique_ptr<KernelFlowOffload> offload_;
  std::unique_ptr<EchoBackend> backend_;
  std::unique_ptr<TinyGate> gate_;
  std::vector<std::unique_ptr<LoopbackPeer>> peers_;
};

INSTANTIATE_TEST_SUITE_P(Setups, Namespaces,
                         ::testing::Values(Setup{false, true},
                                           Setup{true, true},
                                           Setup{false, false},
                                           Setup{true, false}),
                         NameOf);

// What there is no IPv6 for.
class OnIpv4 : public Namespaces {};
INSTANTIATE_TEST_SUITE_P(Setups, OnIpv4,
                         ::testing::Values(Setup{false, true},
                                           Setup{false, false}),
                         NameOf);

TEST_P(Namespaces, RelaysBothWays) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Ask(peer, "first");
  Promote(peer);
  ExpectRelayed(peer, 100);
  ExpectRelayed(peer, 1, "");
}

// --- Topologies.

// The address that the backend listens on belongs to the gate's host, but not
// to lo.
TEST_P(Namespaces, BackendOnTheGatesHost) {
  ASSERT_TRUE(Load().ok());
  StartBackend(*gate_space_, Ip("2", "1"));
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 100);
}

TEST_P(Namespaces, BackendOnLoopback) {
  ASSERT_TRUE(Load().ok());
  StartBackend(*gate_space_, Loopback(0));
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 100);
}

TEST_P(Namespaces, AllOnLoopback) {
  listen_ = Loopback(19132);
  ASSERT_TRUE(Load().ok());
  StartBackend(*gate_space_, Loopback(0));
  StartGate();
  LoopbackPeer& peer = NewPeer(*gate_space_, Loopback(0));
  Promote(peer);
  ExpectRelayed(peer, 100);
  ExpectRelayed(peer, 3, std::string(20'000, 'x'));
}

TEST_P(Namespaces, ClientOnTheGatesHost) {
  ASSERT_TRUE(Load().ok());
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  LoopbackPeer& peer = NewPeer(*gate_space_, Ip("1", "1"));
  Promote(peer);
  ExpectRelayed(peer, 100);
}

TEST_P(Namespaces, ClientAndBackendBehindTheSameInterface) {
  GiveAddresses(*client_space_, "c0", "1", "3");
  ASSERT_TRUE(Load().ok());
  StartBackend(*client_space_, Ip("1", "3"));
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 100);
}

// A wildcard socket: the flow has the address that the client writes to.
TEST_P(Namespaces, FindsTheInterfacesOfAWildcard) {
  listen_ =
      ipv6() ? SocketAddress::Ipv6Any(19132) : SocketAddress::Ipv4Any(19132);
  ASSERT_TRUE(Load().ok());
  EXPECT_THAT(offload_->AttachedInterfaces(),
              ::testing::UnorderedElementsAre("lo", "g1", "g2"));
}

// The program hangs at the VLAN's own interface, where the kernel has taken the
// tag off, and at the one below, where it passes tagged frames up.
TEST_P(Namespaces, ClientBehindAVlan) {
  const std::string made = client_space_->Output(
      "ip link add link c0 name c0.5 type vlan id 5 2>&1");
  if (!made.empty()) GTEST_SKIP() << "the kernel has no VLANs: " << made;
  gate_space_->Command("ip link add link g1 name g1.5 type vlan id 5");
  client_space_->Command("ip addr flush dev c0; ip link set c0.5 up");
  gate_space_->Command("ip addr flush dev g1; ip link set g1.5 up");
  GiveAddresses(*client_space_, "c0.5", "1", "2");
  GiveAddresses(*gate_space_, "g1.5", "1", "1");
  ASSERT_TRUE(Load({"g1", "g1.5", "g2"}).ok());
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const uint64_t tagged = offload_->PassedUp()[UDPGATE_TAGGED];
  ExpectRelayed(peer, 100);
  EXPECT_EQ(offload_->PassedUp()[UDPGATE_TAGGED] - tagged, 100u);
}

TEST_P(Namespaces, AThousandSessions) {
  constexpr int kClients = 1000;
  StartAll();
  for (int i = 0; i < kClients; ++i) NewPeer();
  for (const auto& peer : peers_) ASSERT_NO_FATAL_FAILURE(Promote(*peer));
  const int from_clients = gate_->from_clients();
  const int from_backend = gate_->from_backend();
  const uint64_t there = gate_->Total(FlowDirection::kFromClient).datagrams;
  const uint64_t back = gate_->Total(FlowDirection::kFromBackend).datagrams;
  const size_t received = backend_->received_count();
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < peers_.size(); ++i) {
      Ask(*peers_[i], absl::StrCat("client ", i));
    }
  }
  EXPECT_EQ(gate_->from_clients(), from_clients);
  EXPECT_EQ(gate_->from_backend(), from_backend);
  EXPECT_EQ(gate_->Total(FlowDirection::kFromClient).datagrams - there,
            3 * kClients);
  EXPECT_EQ(gate_->Total(FlowDirection::kFromBackend).datagrams - back,
            3 * kClients);
  EXPECT_EQ(backend_->received_count() - received, 3u * kClients);
}

// --- What goes up, and comes through all the same.

TEST_P(Namespaces, DatagramsOfEverySize) {
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

TEST_P(Namespaces, WhatIsTooBigForTheWayOutGoesUp) {
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

TEST_P(Namespaces, ALowerLimitHoldsAtOnce) {
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

TEST_P(Namespaces, ALastHopGoesUp) {
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

// --- Checksums and super-packets.

TEST_P(Namespaces, WithoutChecksumOffload) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const NetworkNamespace* const spaces[] = {
      client_space_.get(), gate_space_.get(), gate_space_.get(),
      backend_space_.get()};
  const char* const links[] = {"c0", "g1", "g2", "b0"};
  for (int i = 0; i < 4; ++i) {
    spaces[i]->Command(absl::StrCat("ethtool -K ", links[i], " tx off"));
    // The gate hears of it as a change of the link.
    Ask(peer, "on whatever way");
    ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
    Promote(peer);
    ExpectRelayed(peer, 20, "odd");
  }
}

TEST_P(OnIpv4, WithoutChecksum) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  const int on = 1;
  ASSERT_EQ(::setsockopt(peer.fd(), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)),
            0);
  Promote(peer);
  ExpectRelayed(peer, 20);
}

TEST_P(Namespaces, SuperPacketsStayWhole) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  for (const char* const command :
       {"true", "ethtool -K g2 tx-udp-segmentation off gso off tx off"}) {
    gate_space_->Command(command);
    Ask(peer, "on whatever way");
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

// --- The network changes.

TEST_P(Namespaces, ARouteChangeWithdrawsWhomItConcerns) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  gate_space_->Command(ipv6() ? "ip route add fd00:77::/64 dev g1"
                              : "ip route add 10.77.0.0/16 dev g1");
  // Changes are told in order, so once the second is known the first was.
  ExpectRelayed(peer, 10);
  EXPECT_FALSE(gate_->IsWithdrawn(peer.address()));
  gate_space_->Command(ipv6() ? "ip route add fd00:1::2/128 dev g1"
                              : "ip route add 10.1.0.2/32 dev g1");
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  EXPECT_EQ(offload_->withdrawn_by_changes(), 1u);
  ExpectOnSockets(peer, 10);
  ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
  Promote(peer);
  ExpectRelayed(peer, 10);
}

TEST_P(Namespaces, AnAddressThatGoesWithdrawsAll) {
  gate_space_->Command(
      "ip link add other type dummy || ip link add other type "
      "veth peer name unused; ip link set other up");
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  GiveAddresses(*gate_space_, "other", "88", "1");
  ExpectRelayed(peer, 10);
  EXPECT_FALSE(gate_->IsWithdrawn(peer.address()));
  gate_space_->Command("ip addr flush dev other");
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  ExpectOnSockets(peer, 10);
}

TEST_P(Namespaces, AnInterfaceGoesAndComesAgain) {
  ASSERT_TRUE(Load({"g1", "g2"}).ok());
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  gate_space_->Command("ip link del g2");
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  EXPECT_THAT(offload_->AttachedInterfaces(), ::testing::ElementsAre("g1"));
  NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
  GiveAddresses(*gate_space_, "g2", "2", "1");
  GiveAddresses(*backend_space_, "b0", "2", "2");
  ASSERT_TRUE(
      AwaitTrue([&] { return offload_->AttachedInterfaces().size() == 2; }));
  // The link comes up in steps; each takes the flows of the one before away.
  ASSERT_TRUE(AwaitTrue([&] {
    return peer.Ask(gate_->address(), "again", absl::Milliseconds(50)).ok() &&
           gate_->Reinstall(peer.address()).ok();
  })) << Describe();
  while (peer.TryReceive().ok()) {
  }
  Promote(peer);
  ExpectRelayed(peer, 10);
}

// --- Others on the host.

// Network address translation, which the program would bypass, keeps its
// sessions on sockets: the tuples at the hook are not the ones that we expect.
TEST_P(Namespaces, TranslatedSessionsStayOnSockets) {
  StartAll();
  const std::string family = ipv6() ? "ip6" : "ip";
  gate_space_->Command(
      absl::StrCat("nft 'table ", family,
                   " t { chain c { type nat hook prerouting priority "
                   "-100; udp dport 19100 redirect to :19132; }; }'"));
  LoopbackPeer& peer = NewPeer();
  const SocketAddress translated = listen_.WithPort(19100);
  for (int i = 0; i < 50; ++i) {
    absl::StatusOr<std::string> reply = peer.Ask(translated, "hello");
    ASSERT_TRUE(reply.ok()) << reply.status();
  }
  EXPECT_TRUE(gate_->install_status().ok());
  EXPECT_EQ(gate_->from_clients(), 50);
  EXPECT_EQ(gate_->from_backend(), 50);
}

TEST_P(Namespaces, SessionsWithATranslatedSourceStayOnSockets) {
  // One that no socket takes by itself.
  gate_space_->Command(
      "ip addr add 10.2.0.7/24 dev g2;"
      "ip addr add fd00:2::7/64 dev g2 nodad preferred_lft 0");
  StartAll();
  const std::string family = ipv6() ? "ip6" : "ip";
  gate_space_->Command(absl::StrCat(
      "nft 'table ", family,
      " t { chain c { type nat hook postrouting priority 100; oifname g2 snat "
      "to ",
      Ip("2", "7").IpToString(), "; }; }'"));
  LoopbackPeer& peer = NewPeer();
  ExpectOnSockets(peer, 50);
  EXPECT_TRUE(gate_->install_status().ok());
  EXPECT_EQ(backend_->sources()[0].IpToString(), Ip("2", "7").IpToString());
}

constexpr char kFiltersOfG1[] = "tc filter show dev g1 ingress";

TEST_P(Namespaces, LeavesProgramsOfOthersAlone) {
  gate_space_->Command("tc qdisc replace dev g1 clsact");
  // Both see every packet and match none.
  gate_space_->Command(
      "tc filter add dev g1 ingress pref 1 handle 1 bpf bytecode '1,6 0 0 0' "
      "flowid 1:1");
  gate_space_->Command(
      "tc filter add dev g1 ingress pref 30000 handle 1 bpf bytecode "
      "'1,6 0 0 0' flowid 1:1");
  const std::string before = gate_space_->Output(kFiltersOfG1);
  StartAll();
  EXPECT_TRUE(absl::StrContains(Log(), "behind ours on g1")) << Log();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 10);
  // A link goes before all filters, a filter between them.
  EXPECT_TRUE(absl::StrContains(
      Log(), HasLinks() ? "what we relay: bpf, bpf" : "what we relay: bpf\n"))
      << Log();
  EXPECT_EQ(absl::StrContains(gate_space_->Output(kFiltersOfG1), "udpgate_eth"),
            !HasLinks());
  TearDown();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), before);
}

TEST_P(Namespaces, TwoGatesOnOneInterface) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  std::unique_ptr<KernelFlowOffload> first = std::move(offload_);
  ASSERT_TRUE(Load().ok());
  const std::string filters = gate_space_->Output(kFiltersOfG1);
  EXPECT_EQ(absl::StrContains(filters, "handle 0x1 "), !HasLinks()) << filters;
  EXPECT_EQ(absl::StrContains(filters, "handle 0x2 "), !HasLinks()) << filters;
  ExpectRelayed(peer, 10);
  offload_.reset();
  ExpectRelayed(peer, 10);
  gate_.reset();
  first.reset();
}

TEST_P(Namespaces, SaysWhichInterfaceIsMissing) {
  const absl::Status status = Load({"g1", "nonesuch"});
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "nonesuch")) << status;
  // What was attached before is off again.
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
}

TEST_P(Namespaces, RefusesAnInterfaceThatJoinsDatagramsIntoLists) {
  gate_space_->Command("ethtool -K g1 rx-gro-list on");
  const absl::Status status = Load();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(
      absl::StrContains(status.message(), "ethtool -K g1 rx-gro-list off"))
      << status;
  gate_space_->Command("ethtool -K g1 rx-gro-list off");
  EXPECT_TRUE(Load().ok());
}

// --- The process ends, and how.

TEST_P(Namespaces, RemovedFlowsGoBackToTheSockets) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  ExpectRelayed(peer, 10);
  gate_->RemoveFlows();
  const SessionActivity relayed = gate_->RelayedInAll();
  EXPECT_GE(relayed.from_client.datagrams, 10u);
  EXPECT_GE(relayed.from_backend.datagrams, 10u);
  ExpectOnSockets(peer, 10);
  // Nothing was under way.
  EXPECT_EQ(offload_->LateActivity().from_client.datagrams, 0u);
}

// A client that floods while its session goes over and back: each datagram is
// counted by the sockets or by the fast path, also those that the program was
// at work with as the flows were removed.
TEST_P(Namespaces, CountsEachDatagramOnceWhileFlowsAreRemoved) {
  constexpr int kRounds = 200;
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  const size_t received_before = backend_->received_count();
  const int from_clients_before = gate_->from_clients();
  const uint64_t relayed_before = gate_->RelayedInAll().from_client.datagrams;
  std::atomic<bool> is_done{false};
  std::atomic<uint32_t> unanswered{0};
  size_t sent = 0;
  std::thread sender([&] {
    while (!is_done) {
      if (unanswered >= 32) continue;
      EXPECT_TRUE(peer.Send(gate_->address(), "flood").ok());
      ++unanswered;
      ++sent;
    }
  });
  int round = 0;
  uint64_t removed_at = relayed_before;
  EXPECT_TRUE(AwaitTrue([&] {
    for (int i = 0; i < 1000 && peer.TryReceive().ok(); ++i) --unanswered;
    // Each time as soon as it relays.
    const uint64_t relayed = gate_->RelayedInAll().from_client.datagrams;
    if (relayed > removed_at) {
      removed_at = relayed;
      EXPECT_TRUE(gate_->Reinstall(peer.address()).ok());
      ++round;
    }
    return round == kRounds;
  }));
  is_done = true;
  sender.join();
  EXPECT_TRUE(AwaitTrue(
      [&] { return backend_->received_count() - received_before == sent; }));
  const SessionActivity late = offload_->LateActivity();
  EXPECT_EQ(static_cast<uint64_t>(gate_->from_clients() - from_clients_before) +
                gate_->RelayedInAll().from_client.datagrams - relayed_before,
            sent);
  std::cout << sent << " datagrams, " << kRounds << " removals, "
            << late.from_client.datagrams + late.from_backend.datagrams
            << " counted late\n";
}

TEST_P(Namespaces, EndingTakesTheFiltersOff) {
  StartAll();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1) == "", HasLinks());
  TearDown();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
}

// A gate in a process of its own, which a signal can end or stop.
class GateProcess : public Namespaces {
 protected:
  // Before there is any other thread, so that the child may do as it likes.
  void SetUp() override {
    Namespaces::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const SocketAddress backend = BackendAddress().WithPort(19133);
    child_ = ::fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (!Load().ok()) ::_exit(1);
      gate_space_->Run([&] {
        gate_ = std::make_unique<TinyGate>(listen_, backend, offload_.get());
      });
      for (;;) ::pause();
    }
    StartBackend(*backend_space_, backend);
    NewPeer();
    ASSERT_TRUE(AwaitTrue([&] { return Asked(); }));
    ASSERT_TRUE(AwaitTrue([&] { return IsRelayed(); }));
  }
  void TearDown() override {
    Kill();
    Namespaces::TearDown();
  }

  // Whether a reply came within a moment.
  bool Asked() {
    while (peers_.front()->TryReceive().ok()) {
    }
    return peers_.front()->Ask(listen_, "hello", absl::Milliseconds(20)).ok();
  }
  // Whether there are replies while nobody but the program is there. Gives it
  // datagrams to promote the session with, too.
  bool IsRelayed() {
    for (int i = 0; i < 20; ++i) Asked();
    ::kill(child_, SIGSTOP);
    const bool is_relayed = Asked() && Asked();
    ::kill(child_, SIGCONT);
    return is_relayed;
  }
  void Kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }

  pid_t child_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Setups, GateProcess,
                         ::testing::Values(Setup{false, true},
                                           Setup{true, true},
                                           Setup{false, false},
                                           Setup{true, false}),
                         NameOf);

// A process that is killed takes its links with it, and leaves its filters.
// They relay for two seconds more at most, and the next start takes them off.
TEST_P(GateProcess, Killed) {
  Kill();
  const absl::Time killed = absl::Now();
  // Nobody but the program is there now.
  if (!HasLinks()) {
    EXPECT_TRUE(AwaitTrue([&] { return Asked(); }));
  }
  ASSERT_TRUE(AwaitTrue([&] { return !Asked(); }));
  EXPECT_LT(absl::Now() - killed, absl::Seconds(HasLinks() ? 1 : 5));
  EXPECT_EQ(absl::StrContains(gate_space_->Output(kFiltersOfG1), "udpgate_eth"),
            !HasLinks());
  if (HasLinks()) return;

  ASSERT_TRUE(Load({"g2"}).ok());
  EXPECT_TRUE(absl::StrContains(Log(), "earlier run left on g1")) << Log();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
}

TEST_P(GateProcess, StoppedForAWhile) {
  ASSERT_EQ(::kill(child_, SIGSTOP), 0);
  // The first replies may be late on a busy machine. Once the program's lease
  // is over none comes any more.
  EXPECT_TRUE(AwaitTrue([&] { return Asked(); }));
  ASSERT_TRUE(AwaitTrue([&] { return !Asked(); }));
  ASSERT_EQ(::kill(child_, SIGCONT), 0);
  ASSERT_TRUE(AwaitTrue([&] { return Asked(); }));
  ASSERT_TRUE(AwaitTrue([&] { return IsRelayed(); })) << "again";
}

// Nor is it lost for good where the network changes faster than it listens.
TEST_P(GateProcess, FindsOutWhatChangedWhileItCouldNotListen) {
  ASSERT_EQ(::kill(child_, SIGSTOP), 0);
  // More messages than its socket holds.
  gate_space_->Command(
      "for i in $(seq 4000); do"
      "  echo route add 10.9.$((i / 250)).$((i % 250)) dev lo;"
      "done | ip -batch -");
  gate_space_->Command("ip link del g2");
  NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
  GiveAddresses(*gate_space_, "g2", "2", "1");
  GiveAddresses(*backend_space_, "b0", "2", "2");
  ASSERT_EQ(::kill(child_, SIGCONT), 0);
  NewPeer();  // the tiny gate installs no session twice by itself
  std::swap(peers_.front(), peers_.back());
  // Before any other change comes by, which may tell of the link by chance.
  EXPECT_TRUE(AwaitTrue([&] { return IsRelayed(); }, absl::Seconds(5)));
}

TEST_P(Namespaces, RefusesWhatItCannotRelay) {
  StartAll();
  SessionAddresses addresses;
  addresses.client = *SocketAddress::Parse("10.1.0.2:5000");
  addresses.listen = *SocketAddress::Parse("10.1.0.1:19132");
  addresses.relay = *SocketAddress::Parse("[fd00:2::1]:5000");
  addresses.backend = *SocketAddress::Parse("[fd00:2::2]:19133");
  EXPECT_TRUE(absl::IsUnimplemented(InstallStatus(addresses)));
  addresses.relay = *SocketAddress::Parse("10.2.0.1:5000");
  addresses.backend = *SocketAddress::Parse("10.99.0.2:19133");
  EXPECT_TRUE(absl::IsNotFound(InstallStatus(addresses)));
  addresses.listen = SocketAddress::Ipv4Any(19132);
  EXPECT_TRUE(absl::IsInvalidArgument(InstallStatus(addresses)));
  EXPECT_TRUE(absl::StrContains(Log(),
                                "the session of 10.1.0.2:5000 stays on "
                                "sockets: client and backend are of "
                                "different address families"))
      << Log();
}

// --- Hand-over under load.

struct Order {
  size_t received = 0;
  size_t reordered = 0;  // smaller than one before
};

Order OrderOf(const std::vector<uint32_t>& numbers) {
  Order order;
  uint32_t newest = 0;
  for (const uint32_t number : numbers) {
    ++order.received;
    if (number < newest) ++order.reordered;
    newest = std::max(newest, number);
  }
  return order;
}

uint32_t NumberIn(const std::string& payload) {
  uint32_t number = 0;
  std::memcpy(&number, payload.data(),
              std::min(payload.size(), sizeof(number)));
  return number;
}

// A client that does not wait for replies, while its session goes from the
// sockets to the kernel and back, again and again.
TEST_P(Namespaces, NothingIsOvertakenOrLostInAHandOver) {
  constexpr uint32_t kDatagrams = 20'000;
  constexpr uint32_t kHandOverEach = 1'000;
  // Under way at once: enough that some wait in every queue, and no more than
  // a socket's buffer holds.
  constexpr uint32_t kWindow = 64;
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Ask(peer, "begin");
  const size_t received_before = backend_->received_count();
  std::atomic<uint32_t> replied{0};
  std::thread sender([&] {
    for (uint32_t number = 1; number <= kDatagrams; ++number) {
      EXPECT_TRUE(AwaitTrue([&] { return number - replied <= kWindow; }));
      if (::testing::Test::HasFailure()) return;
      const absl::Time next = absl::Now() + absl::Microseconds(40);
      EXPECT_TRUE(peer.Send(gate_->address(),
                            std::string(reinterpret_cast<const char*>(&number),
                                        sizeof(number)))
                      .ok());
      while (absl::Now() < next) {
      }
    }
  });
  std::vector<uint32_t> replies;
  int relayed_phases = 0;
  while (replies.size() < kDatagrams) {
    auto reply = peer.Receive(absl::Seconds(5));
    if (!reply.ok()) break;
    replies.push_back(NumberIn(reply->payload));
    ++replied;
    if (replies.size() % kHandOverEach != 0) continue;
    if (gate_->Activity(peer.address(), FlowDirection::kFromBackend).datagrams >
        0) {
      ++relayed_phases;
    }
    EXPECT_TRUE(gate_->Reinstall(peer.address()).ok());
  }
  sender.join();
  std::vector<uint32_t> requests;
  for (const auto& datagram : backend_->received()) {
    requests.push_back(NumberIn(datagram.payload));
  }
  requests.erase(requests.begin(),
                 requests.begin() + static_cast<int>(received_before));
  const Order there = OrderOf(requests), back = OrderOf(replies);
  EXPECT_EQ(there.received, kDatagrams) << Describe();
  EXPECT_EQ(back.received, kDatagrams) << Describe();
  EXPECT_EQ(there.reordered, 0u);
  EXPECT_EQ(back.reordered, 0u);
  EXPECT_GT(relayed_phases, 5);
  std::cout << relayed_phases << " hand-overs, " << gate_->from_clients()
            << " of " << kDatagrams << " datagrams through the sockets\n";
}

// --- Take-over by another process.

class TakeOver : public Namespaces {
 protected:
  // One that could go on with the flows of `offload_`.
  std::unique_ptr<KernelFlowOffload> NewTaker(
      KernelFlowOffload::Options options) {
    options.adopted = offload_->CopyDescriptors();
    EXPECT_FALSE(options.adopted.empty());
    return NewOffload(options);
  }
  // It has the flows, and the other one is gone.
  void GoOnWith(std::unique_ptr<KernelFlowOffload> taker) {
    ASSERT_TRUE(taker->has_adopted()) << Log();
    ASSERT_TRUE(offload_->BeginHandOver());
    EXPECT_EQ(gate_->GoOnWith(taker.get()), 0);
    taker->StartAdopted();
    offload_->LetGo();
    offload_ = std::move(taker);
  }
};
INSTANTIATE_TEST_SUITE_P(Setups, TakeOver,
                         ::testing::Values(Setup{false, true},
                                           Setup{true, true}),
                         NameOf);

TEST_P(TakeOver, FlowsGoOn) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  LoopbackPeer& other = NewPeer();
  Promote(other);
  // A slot that rests, and one whose end the giver has not dealt with.
  ASSERT_TRUE(gate_->Reinstall(other.address()).ok());
  Promote(other);
  const uint64_t before = gate_->RelayedInAll().from_client.datagrams;
  for (int i = 0; i < 5; ++i) {
    auto taker = NewTaker(MakeOptions());
    ExpectRelayed(peer, 100);
    GoOnWith(std::move(taker));
    ExpectRelayed(peer, 100);
    ExpectRelayed(other, 100);
  }
  EXPECT_EQ(gate_->RelayedInAll().from_client.datagrams - before, 1500u);
  // By more than the lease.
  const absl::Time end = absl::Now() + absl::Milliseconds(2500);
  while (absl::Now() < end) ExpectRelayed(peer, 100);
  // New ones begin, old ones end and begin again.
  LoopbackPeer& newcomer = NewPeer();
  ASSERT_TRUE(AwaitTrue([&] {
    Ask(newcomer, "hello");
    return gate_->install_status().ok();
  }));
  Promote(newcomer);
  ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
  Promote(peer);
  ExpectRelayed(peer, 10);
  gate_->RemoveFlows();
  ExpectOnSockets(peer, 10);
  ExpectOnSockets(other, 10);
  EXPECT_EQ(Log(), "");
  EXPECT_THAT(offload_->AttachedInterfaces(),
              ::testing::UnorderedElementsAre("g1", "g2"));
}

// What the network did meanwhile concerns the flows that were handed over too.
TEST_P(TakeOver, AChangeOfTheNetworkMeanwhileCounts) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  auto taker = NewTaker(MakeOptions());
  ASSERT_TRUE(offload_->BeginHandOver());
  gate_space_->Command(ipv6() ? "ip route add fd00:2::2/128 dev g2"
                              : "ip route add 10.2.0.2/32 dev g2");
  EXPECT_EQ(gate_->GoOnWith(taker.get()), 0);
  taker->StartAdopted();
  offload_->LetGo();
  offload_ = std::move(taker);
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
  ExpectOnSockets(peer, 10);
  ASSERT_TRUE(gate_->Reinstall(peer.address()).ok());
  Promote(peer);
  ExpectRelayed(peer, 10);
}

TEST_P(TakeOver, OneThatFailsChangesNothing) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  for (int i = 0; i < 3; ++i) {
    auto taker = NewTaker(MakeOptions());
    ASSERT_TRUE(taker->has_adopted());
    ASSERT_TRUE(offload_->BeginHandOver());
    // As a Proxy would whose start has failed.
    ASSERT_TRUE(
        taker->Adopt(0, {peer.address(), listen_, backend_->sources().at(0),
                         backend_->address()}));
    EXPECT_FALSE(
        taker->Adopt(0, {peer.address(), listen_, backend_->sources().at(0),
                         backend_->address()}));
    EXPECT_FALSE(
        taker->Adopt(1, {peer.address(), listen_, backend_->sources().at(0),
                         backend_->address()}));
    EXPECT_FALSE(taker->Adopt(UINT32_MAX, {}));
    EXPECT_GT(taker->Remove(0).from_client.datagrams, 0u);
    ExpectRelayed(peer, 100);
    taker.reset();
    offload_->CancelHandOver();
    ExpectRelayed(peer, 100);
  }
  // Longer than the lease: the giver renews it all the time.
  ASSERT_TRUE(offload_->BeginHandOver());
  const absl::Time end = absl::Now() + absl::Milliseconds(2500);
  while (absl::Now() < end) ExpectRelayed(peer, 100);
  gate_space_->Command(ipv6() ? "ip route add fd00:2::2/128 dev g2"
                              : "ip route add 10.2.0.2/32 dev g2");
  offload_->CancelHandOver();
  ASSERT_TRUE(AwaitTrue([&] { return gate_->IsWithdrawn(peer.address()); }));
}

TEST_P(TakeOver, OneWithOtherMapsBeginsAnew) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Promote(peer);
  KernelFlowOffload::Options options = MakeOptions();
  options.sessions_max = 1000;
  EXPECT_FALSE(NewTaker(options)->has_adopted());
  EXPECT_TRUE(absl::StrContains(Log(), "is another one")) << Log();
  options = MakeOptions();
  options.interfaces = {"g1"};
  EXPECT_FALSE(NewTaker(options)->has_adopted());
  EXPECT_TRUE(absl::StrContains(Log(), "other interfaces")) << Log();
  options = MakeOptions();
  options.may_use_tcx = false;
  EXPECT_FALSE(NewTaker(options)->has_adopted());
  // Each of its descriptors may be missing, or be something else.
  for (const auto& entry : offload_->CopyDescriptors()) {
    ::close(entry.second);
    options = MakeOptions();
    options.adopted = offload_->CopyDescriptors();
    ::close(options.adopted[entry.first]);
    options.adopted[entry.first] = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const auto taker = NewOffload(options);
    if (absl::StartsWith(entry.first, "link/")) continue;
    EXPECT_FALSE(taker->has_adopted()) << entry.first;
  }
  ExpectRelayed(peer, 100);
}

// A filter of clsact cannot pass to another process.
TEST_P(OnIpv4, OnlyLinksCanBeHandedOver) {
  StartAll();
  const std::map<std::string, int> copies = offload_->CopyDescriptors();
  EXPECT_EQ(copies.empty(), !HasLinks());
  for (const auto& entry : copies) ::close(entry.second);
}

// --- Frames that no socket sends.

class RawLink {
 public:
  RawLink(const NetworkNamespace& space, const char* name) {
    space.Run([&] {
      fd_ = udpgate::internal::UniqueFd(
          ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
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
  udpgate::internal::UniqueFd fd_;
  int index_ = 0;
};

// An IP packet with a UDP datagram of 4 bytes, without UDP checksum; enough for
// what must not be relayed, and on IPv4 for what must.
std::string IpPacket(const SocketAddress& from, const SocketAddress& to) {
  const udpgate_tuple tuple = internal::MakeTuple(from, to);
  const auto bytes = [](const void* data, size_t count) {
    return std::string(static_cast<const char*>(data), count);
  };
  const std::string ports = bytes(&tuple.source_port, 4);
  const std::string udp = ports + std::string("\0\x0C\0\0data", 8);
  if (from.is_ipv6()) {
    return std::string("\x60\0\0\0\0\x0C\x11\x40", 8) +
           bytes(tuple.source, 16) + bytes(tuple.destination, 16) + udp;
  }
  std::string ip = std::string("\x45\0\0\x20\0\0\0\0\x40\x11\0\0", 12) +
                   bytes(tuple.source, 4) + bytes(tuple.destination, 4);
  uint32_t sum = 0;
  for (size_t i = 0; i < ip.size(); i += 2) {
    sum += static_cast<uint32_t>(static_cast<uint8_t>(ip[i]) << 8 |
                                 static_cast<uint8_t>(ip[i + 1]));
  }
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  ip[10] = static_cast<char>(~sum >> 8);
  ip[11] = static_cast<char>(~sum);
  return ip + udp;
}

TEST_P(Namespaces, TaggedAndTruncatedFramesGoUp) {
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
  // They changed nothing for those behind them.
  ExpectRelayed(peer, 10);
  EXPECT_EQ(backend_->received_count() - received, 10u);
}

// --- A device without Ethernet header.

// On IPv4, where the test's packets need no UDP checksum.
TEST_P(OnIpv4, ATunnelHasNoLinkHeader) {
  udpgate::internal::UniqueFd tunnel;
  gate_space_->Run([&] {
    tunnel = udpgate::internal::UniqueFd(
        ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    std::strcpy(request.ifr_name, "tun0");
    ASSERT_EQ(::ioctl(tunnel.get(), TUNSETIFF, &request), 0)
        << std::strerror(errno);
  });
  gate_space_->Command("ip link set tun0 up; ip addr add 10.3.0.1/24 dev tun0");
  listen_ = *SocketAddress::Parse("10.3.0.1:19132");
  StartAll();
  const SocketAddress client = *SocketAddress::Parse("10.3.0.2:5000");
  const std::string request = IpPacket(client, listen_);
  const std::string ports = request.substr(20, 4);
  const auto ask = [&] {
    EXPECT_EQ(::write(tunnel.get(), request.data(), request.size()),
              static_cast<ssize_t>(request.size()));
    return AwaitTrue([&] {
      char buffer[2048];
      const ssize_t bytes = ::read(tunnel.get(), buffer, sizeof(buffer));
      const std::string reply(buffer,
                              static_cast<size_t>(std::max<ssize_t>(bytes, 0)));
      return bytes == 32 && reply.substr(20, 2) == ports.substr(2) &&
             reply.substr(22, 2) == ports.substr(0, 2) &&
             reply.substr(28) == "data";
    });
  };
  ASSERT_TRUE(AwaitTrue([&] {
    return ask() &&
           gate_->Activity(client, FlowDirection::kFromBackend).datagrams > 0 &&
           gate_->Activity(client, FlowDirection::kFromClient).datagrams > 0;
  })) << Describe();
  const int from_clients = gate_->from_clients();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(ask());
  EXPECT_EQ(gate_->from_clients(), from_clients);
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
