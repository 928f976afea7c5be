// The fast path between real interfaces: a client, a gate and a backend in
// network namespaces of their own, with the real loader and a tiny gate.
#include <gtest/gtest.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"
#include "testing/network_namespace.h"
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
class Namespaces : public ::testing::TestWithParam<bool> {
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
  }

  void TearDown() override {
    peers_.clear();
    gate_.reset();
    backend_.reset();
    offload_.reset();
  }

  bool ipv6() const { return GetParam(); }
  SocketAddress ClientAddress() const { return Ip("1", "2").WithPort(0); }
  SocketAddress GateAddress() const { return Ip("1", "1").WithPort(19132); }
  SocketAddress BackendAddress() const { return Ip("2", "2").WithPort(0); }
  SocketAddress Loopback(uint16_t port) const {
    return ipv6() ? SocketAddress::Ipv6Loopback(port)
                  : SocketAddress::Ipv4Loopback(port);
  }

  absl::Status Load(std::vector<std::string> interfaces = {}) {
    KernelFlowOffload::Options options;
    options.sessions_max = 2000;
    options.interfaces = std::move(interfaces);
    options.listen_addresses = {listen_};
    options.log_sink = [this](LogSeverity, absl::string_view line) {
      internal::MutexLock lock(&log_mutex_);
      absl::StrAppend(&log_, line, "\n");
    };
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

  std::string Log() const {
    internal::MutexLock lock(&log_mutex_);
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
  mutable internal::Mutex log_mutex_;
  std::string log_ ABSL_GUARDED_BY(log_mutex_);
  std::unique_ptr<KernelFlowOffload> offload_;
  std::unique_ptr<EchoBackend> backend_;
  std::unique_ptr<TinyGate> gate_;
  std::vector<std::unique_ptr<LoopbackPeer>> peers_;
};

INSTANTIATE_TEST_SUITE_P(Family, Namespaces, ::testing::Values(false, true),
                         [](const ::testing::TestParamInfo<bool>& family) {
                           return family.param ? "Ipv6" : "Ipv4";
                         });

TEST_P(Namespaces, RelaysBothWays) {
  StartAll();
  LoopbackPeer& peer = NewPeer();
  Ask(peer, "first");
  Promote(peer);
  ExpectRelayed(peer, 100);
  ExpectRelayed(peer, 1, "");
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
