#include "udpgate/fastpath/namespace_fixture.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "testing/await.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace fastpath {

using test::AwaitTrue;
using test::EchoBackend;
using test::LoopbackPeer;
using test::NetworkNamespace;
using udpgate::internal::MutexLock;

std::string NameOf(const ::testing::TestParamInfo<Variant>& info) {
  return absl::StrCat(info.param.ipv6 ? "Ipv6" : "Ipv4",
                      info.param.may_use_tcx ? "" : "ByFilter");
}

bool KernelHasLinks() {
  // BPF_TCX_INGRESS of linux/bpf.h.
  constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
  const auto loopback = static_cast<int>(::if_nametoindex("lo"));
  uint32_t count = 0;
  return bpf_prog_query(loopback, kTcxIngress, /*query_flags=*/0,
                        /*attach_flags=*/nullptr, /*prog_ids=*/nullptr,
                        &count) == 0;
}

void NamespaceTest::SetUp() {
  absl::StatusOr<std::unique_ptr<NetworkNamespace>> first =
      NetworkNamespace::Create();
  UDPGATE_NEEDS_RIGHTS(first.status());
  if (HasLinks() && !KernelHasLinks()) {
    GTEST_SKIP() << "this kernel has no links (TCX), which came with 6.6";
  }
  listen_ = GateAddress();
  client_space_ = *std::move(first);
  gate_space_ = *NetworkNamespace::Create();
  backend_space_ = *NetworkNamespace::Create();
  for (const NetworkNamespace* space :
       {client_space_.get(), gate_space_.get(), backend_space_.get()}) {
    space->Command("ip link set lo up");
  }
  // Without forwarding in the gateway's namespace: only a relay connects the
  // two.
  NetworkNamespace::Connect(*client_space_, "c0", *gate_space_, "g1");
  NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
  GiveAddresses(*client_space_, "c0", "1", "2");
  GiveAddresses(*gate_space_, "g1", "1", "1");
  GiveAddresses(*gate_space_, "g2", "2", "1");
  GiveAddresses(*backend_space_, "b0", "2", "2");
}

void NamespaceTest::TearDown() {
  peers_.clear();
  gate_.reset();
  backend_.reset();
  offload_.reset();
}

SocketAddress NamespaceTest::Ip(const std::string& net,
                                const std::string& host) const {
  return *SocketAddress::FromIpAndPort(
      ipv6() ? absl::StrCat("fd00:", net, "::", host)
             : absl::StrCat("10.", net, ".0.", host),
      0);
}

SocketAddress NamespaceTest::Loopback(uint16_t port) const {
  return ipv6() ? SocketAddress::Ipv6Loopback(port)
                : SocketAddress::Ipv4Loopback(port);
}

void NamespaceTest::GiveAddresses(const NetworkNamespace& space,
                                  const std::string& name,
                                  const std::string& net,
                                  const std::string& host) {
  space.Command(
      absl::StrCat("ip addr add 10.", net, ".0.", host, "/24 dev ", name));
  space.Command(absl::StrCat("ip addr add fd00:", net, "::", host, "/64 dev ",
                             name, " nodad"));
}

KernelFlowOffload::Options NamespaceTest::MakeOptions() {
  KernelFlowOffload::Options options;
  options.sessions_max = 2000;
  options.listen_addresses = {listen_};
  options.may_use_tcx = GetParam().may_use_tcx;
  options.log_sink = [this](LogSeverity, absl::string_view line) {
    MutexLock lock(&log_mutex_);
    absl::StrAppend(&log_, line, "\n");
  };
  return options;
}

std::unique_ptr<KernelFlowOffload> NamespaceTest::NewOffload(
    const KernelFlowOffload::Options& options) {
  std::unique_ptr<KernelFlowOffload> created;
  gate_space_->Run([&] {
    auto offload = KernelFlowOffload::Create(options);
    EXPECT_TRUE(offload.ok()) << offload.status();
    if (offload.ok()) created = *std::move(offload);
  });
  return created;
}

absl::Status NamespaceTest::Load(std::vector<std::string> interfaces) {
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

void NamespaceTest::StartBackend(const NetworkNamespace& space,
                                 const SocketAddress& address) {
  space.Run([&] { backend_ = std::make_unique<EchoBackend>("", address); });
}

void NamespaceTest::StartGate() {
  gate_space_->Run([&] {
    gate_ = std::make_unique<TinyGate>(listen_, backend_->address(),
                                       offload_.get());
  });
}

void NamespaceTest::StartAll() {
  ASSERT_TRUE(Load().ok());
  StartBackend(*backend_space_, BackendAddress());
  StartGate();
}

LoopbackPeer& NamespaceTest::NewPeer() {
  return NewPeer(*client_space_, ClientAddress());
}

LoopbackPeer& NamespaceTest::NewPeer(const NetworkNamespace& space,
                                     const SocketAddress& address) {
  space.Run([&] { peers_.push_back(std::make_unique<LoopbackPeer>(address)); });
  return *peers_.back();
}

void NamespaceTest::Ask(LoopbackPeer& peer, const std::string& payload) {
  absl::StatusOr<std::string> reply = peer.Ask(gate_->address(), payload);
  ASSERT_TRUE(reply.ok()) << reply.status() << " " << Describe();
  ASSERT_EQ(*reply, payload);
}

void NamespaceTest::Promote(LoopbackPeer& peer) {
  const auto relayed = [&](FlowDirection direction) {
    return gate_->Activity(peer.address(), direction).datagrams;
  };
  const uint64_t from_client = relayed(FlowDirection::kFromClient);
  const uint64_t from_backend = relayed(FlowDirection::kFromBackend);
  ASSERT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(peer.Ask(gate_->address(), "promote").ok()) << Describe();
    return relayed(FlowDirection::kFromClient) > from_client &&
           relayed(FlowDirection::kFromBackend) > from_backend;
  })) << Describe();
}

void NamespaceTest::ExpectRelayed(LoopbackPeer& peer, int count,
                                  const std::string& payload) {
  const int from_clients = gate_->from_clients();
  const int from_backend = gate_->from_backend();
  const DirectionActivity client_before =
      gate_->Activity(peer.address(), FlowDirection::kFromClient);
  const DirectionActivity backend_before =
      gate_->Activity(peer.address(), FlowDirection::kFromBackend);
  for (int i = 0; i < count; ++i) Ask(peer, payload);
  EXPECT_EQ(gate_->from_clients(), from_clients) << Describe();
  EXPECT_EQ(gate_->from_backend(), from_backend) << Describe();
  for (const auto direction :
       {FlowDirection::kFromClient, FlowDirection::kFromBackend}) {
    const DirectionActivity now = gate_->Activity(peer.address(), direction);
    const DirectionActivity& before = direction == FlowDirection::kFromClient
                                          ? client_before
                                          : backend_before;
    EXPECT_EQ(now.datagrams - before.datagrams, count);
    EXPECT_EQ(now.payload_bytes - before.payload_bytes, count * payload.size());
    EXPECT_GT(now.last_relayed_nanoseconds, 0);
  }
}

void NamespaceTest::ExpectOnSockets(LoopbackPeer& peer, int count,
                                    const std::string& payload) {
  const int from_clients = gate_->from_clients();
  const int from_backend = gate_->from_backend();
  for (int i = 0; i < count; ++i) Ask(peer, payload);
  EXPECT_EQ(gate_->from_clients() - from_clients, count) << Describe();
  EXPECT_EQ(gate_->from_backend() - from_backend, count) << Describe();
}

absl::Status NamespaceTest::InstallStatus(const SessionAddresses& addresses) {
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

std::string NamespaceTest::Log() const {
  MutexLock lock(&log_mutex_);
  return log_;
}

std::string NamespaceTest::Describe() const {
  std::string text =
      absl::StrCat("install: ", gate_ ? gate_->install_status().ToString() : "",
                   "; log: ", Log(), "; passed up by reason:");
  if (offload_ != nullptr) {
    for (const uint64_t count : offload_->PassedUp()) {
      absl::StrAppend(&text, " ", count);
    }
  }
  return text;
}

}  // namespace fastpath
}  // namespace udpgate
