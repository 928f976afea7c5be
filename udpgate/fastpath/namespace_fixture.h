// Fixture for tests of the fast path between real interfaces: client, gateway
// and backend in network namespaces of their own, with the real eBPF program
// and a `TinyGate`.
//
//   client ns            gateway ns               backend ns
//   c0 10.1.0.2 --- g1 10.1.0.1   10.2.0.1 g2 --- b0 10.2.0.2
#ifndef UDPGATE_FASTPATH_NAMESPACE_FIXTURE_H_
#define UDPGATE_FASTPATH_NAMESPACE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/fastpath/tiny_gate.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {

struct Variant {
  bool ipv6;
  bool may_use_tcx;  // else clsact filters
};

inline auto AllVariants() {
  return ::testing::Values(Variant{false, true}, Variant{true, true},
                           Variant{false, false}, Variant{true, false});
}
inline auto Ipv4Variants() {
  return ::testing::Values(Variant{false, true}, Variant{false, false});
}
std::string NameOf(const ::testing::TestParamInfo<Variant>& info);

// True if the kernel can attach programs by links (TCX), from 6.6 on. Else
// tests with links are skipped.
bool KernelHasLinks();

// Lists the filters of the interface that the clients are behind.
inline constexpr char kFiltersOfG1[] = "tc filter show dev g1 ingress";

class NamespaceTest : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override;
  void TearDown() override;

  bool ipv6() const { return GetParam().ipv6; }
  // True if the program is attached by links (TCX), else by clsact filters.
  bool HasLinks() const { return GetParam().may_use_tcx; }
  // The host `host` of net `net`, with port 0.
  SocketAddress Ip(const std::string& net, const std::string& host) const;
  SocketAddress ClientAddress() const { return Ip("1", "2"); }
  SocketAddress GateAddress() const { return Ip("1", "1").WithPort(19132); }
  SocketAddress BackendAddress() const { return Ip("2", "2"); }
  SocketAddress Loopback(uint16_t port) const;
  static void GiveAddresses(const test::NetworkNamespace& space,
                            const std::string& name, const std::string& net,
                            const std::string& host);

  KernelFlowOffload::Options MakeOptions();
  std::unique_ptr<KernelFlowOffload> NewOffload(
      const KernelFlowOffload::Options& options);
  // Creates `offload_`.
  absl::Status Load(std::vector<std::string> interfaces = {});
  void StartBackend(const test::NetworkNamespace& space,
                    const SocketAddress& address);
  void StartGate();
  // Offload, backend and gate, each in its own namespace.
  void StartAll();
  test::LoopbackPeer& NewPeer();
  test::LoopbackPeer& NewPeer(const test::NetworkNamespace& space,
                              const SocketAddress& address);

  // Sends one datagram and expects its echo.
  void Ask(test::LoopbackPeer& peer, const std::string& payload);
  // Sends until both directions are relayed by the kernel.
  void Promote(test::LoopbackPeer& peer);
  // Sends `count` datagrams, and expects the kernel to relay each of them.
  void ExpectRelayed(test::LoopbackPeer& peer, int count,
                     const std::string& payload = "hello");
  // Sends `count` datagrams, and expects each to pass through the sockets.
  void ExpectOnSockets(test::LoopbackPeer& peer, int count,
                       const std::string& payload = "hello");
  // Installs a session and waits for the result.
  absl::Status InstallStatus(const SessionAddresses& addresses);

  std::string Log() const;
  // State of the fast path, for the message of a failed expectation.
  std::string Describe() const;

  std::unique_ptr<test::NetworkNamespace> client_space_;
  std::unique_ptr<test::NetworkNamespace> gate_space_;
  std::unique_ptr<test::NetworkNamespace> backend_space_;
  SocketAddress listen_;
  mutable udpgate::internal::Mutex log_mutex_;
  std::string log_ ABSL_GUARDED_BY(log_mutex_);
  std::unique_ptr<KernelFlowOffload> offload_;
  std::unique_ptr<test::EchoBackend> backend_;
  std::unique_ptr<TinyGate> gate_;
  std::vector<std::unique_ptr<test::LoopbackPeer>> peers_;
};

}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_NAMESPACE_FIXTURE_H_
