// What the eBPF program costs for one packet (BPF_PROG_TEST_RUN, bpf(2)): by
// address family and size of the UDP payload, and for a packet of no session.
// Without the way of the packet through the kernel before and after it.
//
// `packet_ns` is nanoseconds of one packet.
#include <benchmark/benchmark.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/clock.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/layout.h"
#include "udpgate/fastpath/internal/program.h"
#include "udpgate/flow_offload.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

// Each packet of a run has a TTL that is smaller by 1; 1 is not relayed.
constexpr int kPacketsOfRun = 250;
constexpr uint8_t kTimeToLive = 255;
constexpr size_t kEthernetBytes = 14;
constexpr size_t kUdpBytes = 8;
constexpr uint32_t kRedirect = 7;             // TC_ACT_REDIRECT
constexpr uint32_t kContinue = 0xFFFFFFFF;    // TC_ACT_UNSPEC
constexpr uint32_t kLoopbackIndex = 1;        // ingress of a test run
constexpr uint32_t kOtherInterfaceIndex = 2;  // is not looked up

// Addresses and ports are replaced by themselves, so that the run's next packet
// belongs to the session, too.
SessionAddresses MakeSession(bool is_ipv6) {
  const SocketAddress client =
      *SocketAddress::FromIpAndPort(is_ipv6 ? "fd00::1" : "10.0.0.1", 40000);
  const SocketAddress gate =
      *SocketAddress::FromIpAndPort(is_ipv6 ? "fd00::2" : "10.0.0.2", 19132);
  return {client, gate, client, gate};
}

void Put16(size_t value, uint8_t* to) {
  to[0] = static_cast<uint8_t>(value >> 8);
  to[1] = static_cast<uint8_t>(value);
}

// The checksums need not be correct: the program changes them by difference.
std::vector<uint8_t> MakeFrame(const SessionAddresses& session,
                               size_t payload_bytes) {
  const bool is_ipv6 = session.client.is_ipv6();
  const size_t ip_bytes = is_ipv6 ? 40 : 20;
  const size_t address_bytes = is_ipv6 ? 16 : 4;
  const size_t udp_bytes = kUdpBytes + payload_bytes;
  std::vector<uint8_t> frame(kEthernetBytes + ip_bytes + udp_bytes);
  Put16(is_ipv6 ? 0x86DD : 0x0800, &frame[12]);
  uint8_t* const ip = &frame[kEthernetBytes];
  ip[0] = is_ipv6 ? 0x60 : 0x45;
  Put16(is_ipv6 ? udp_bytes : ip_bytes + udp_bytes, &ip[is_ipv6 ? 4 : 2]);
  ip[is_ipv6 ? 7 : 8] = kTimeToLive;
  ip[is_ipv6 ? 6 : 9] = 17;  // UDP
  uint8_t* const addresses = &ip[is_ipv6 ? 8 : 12];
  std::memcpy(addresses, session.client.ip_bytes().data(), address_bytes);
  std::memcpy(addresses + address_bytes, session.listen.ip_bytes().data(),
              address_bytes);
  uint8_t* const udp = ip + ip_bytes;
  Put16(session.client.port(), udp);
  Put16(session.listen.port(), udp + 2);
  Put16(udp_bytes, udp + 4);
  Put16(0x1234, udp + 6);
  return frame;
}

// A program with one promoted session.
class PromotedSession {
 public:
  static std::unique_ptr<PromotedSession> Create(
      const SessionAddresses& addresses) {
    absl::StatusOr<std::unique_ptr<Program>> program = Program::Load(1);
    if (!program.ok()) return nullptr;
    std::unique_ptr<PromotedSession> session(new PromotedSession);
    session->program_ = *std::move(program);
    session->table_ = std::make_unique<FlowTable>(session->program_.get(), 1);
    Exit exit;
    exit.packet_bytes_max = 1500;
    exit.interface_index = kOtherInterfaceIndex;
    const absl::optional<uint32_t> slot = session->table_->Take(addresses);
    if (!slot.has_value() || !session->table_->NextRequest().has_value() ||
        !session->table_->Add(*slot, exit, exit).ok()) {
      return nullptr;
    }
    session->program_->flow(0).handled_nanoseconds = 1;
    udpgate_activity& activity = session->program_->activity(0);
    activity.passed_up_nanoseconds = 1;
    activity.seen_interface = kLoopbackIndex;
    activity.peer_was_seen = 1;
    return session;
  }

  // Nanoseconds of one packet; 0 if the last one did not end so.
  uint32_t Run(const std::vector<uint8_t>& frame, uint32_t verdict) {
    *program_->lease_nanoseconds() =
        static_cast<uint64_t>(Clock::Monotonic()->NowNanoseconds());
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()),
                .repeat = kPacketsOfRun);
    const int error = bpf_prog_test_run_opts(program_->program_fd(), &options);
    return error == 0 && options.retval == verdict ? options.duration : 0;
  }

 private:
  PromotedSession() = default;

  std::unique_ptr<Program> program_;
  std::unique_ptr<FlowTable> table_;
};

void RunPackets(benchmark::State& state, const SessionAddresses& session,
                const std::vector<uint8_t>& frame, uint32_t verdict) {
  const std::unique_ptr<PromotedSession> promoted =
      PromotedSession::Create(session);
  if (promoted == nullptr) return state.SkipWithError("no rights");
  double sum = 0;
  for (auto _ : state) {
    const uint32_t nanoseconds = promoted->Run(frame, verdict);
    if (nanoseconds == 0) return state.SkipWithError("another verdict");
    sum += nanoseconds;
  }
  state.counters["packet_ns"] = sum / static_cast<double>(state.iterations());
}

void RelayedIpv4(benchmark::State& state) {
  const SessionAddresses session = MakeSession(/*is_ipv6=*/false);
  RunPackets(state, session,
             MakeFrame(session, static_cast<size_t>(state.range(0))),
             kRedirect);
}
void RelayedIpv6(benchmark::State& state) {
  const SessionAddresses session = MakeSession(/*is_ipv6=*/true);
  RunPackets(state, session,
             MakeFrame(session, static_cast<size_t>(state.range(0))),
             kRedirect);
}
// What the program costs all other traffic of the interface.
void PassedUpWithoutSession(benchmark::State& state) {
  const SessionAddresses session = MakeSession(/*is_ipv6=*/false);
  SessionAddresses other = session;
  other.client = session.client.WithPort(40001);
  RunPackets(state, session,
             MakeFrame(other, static_cast<size_t>(state.range(0))), kContinue);
}

BENCHMARK(RelayedIpv4)->Arg(16)->Arg(128)->Arg(512)->Arg(1400)->Iterations(400);
BENCHMARK(RelayedIpv6)->Arg(16)->Arg(128)->Arg(512)->Arg(1400)->Iterations(400);
BENCHMARK(PassedUpWithoutSession)->Arg(128)->Iterations(400);

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
