// What the fast path costs the threads that move datagrams, beside the
// datagrams themselves: a session given to the kernel, and taken back. Needs
// the rights of the fast path, and works in a network namespace of its own.
//
//   bazel run --config=opt //testing/internal/bench:fast_path_benchmark
//
// `install_ns` and `remove_ns` are nanoseconds of the calling thread for one
// call. What the offload's own thread does after that is not in them.
//
// fast_path_program_benchmark.cc is a part of the same program.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "testing/await.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/clock.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace {

constexpr int kSessionsMax = 65536;

class Stopwatch {
 public:
  // Adds the time of `body`, which makes `calls` calls.
  template <typename Body>
  void Measure(int64_t calls, Body body) {
    const int64_t begin = Clock::Monotonic()->NowNanoseconds();
    body();
    nanoseconds_ += Clock::Monotonic()->NowNanoseconds() - begin;
    calls_ += calls;
  }
  double average_nanoseconds() const {
    return static_cast<double>(nanoseconds_) / static_cast<double>(calls_);
  }

 private:
  int64_t nanoseconds_ = 0;
  int64_t calls_ = 0;
};

// Different for each number below 60,000, and in no direction like another.
SessionAddresses SessionNumber(int number) {
  const auto port = static_cast<uint16_t>(1 + number % 60'000);
  return {*SocketAddress::FromIpAndPort("127.0.0.2", port),
          *SocketAddress::FromIpAndPort("127.0.0.1", 19132),
          *SocketAddress::FromIpAndPort("127.0.0.3", port),
          *SocketAddress::FromIpAndPort("127.0.0.4", 19133)};
}

// So many sessions at a time: the first call of a burst finds the offload's
// thread asleep and wakes it.
void InstallAndRemove(benchmark::State& state) {
  absl::StatusOr<std::unique_ptr<test::NetworkNamespace>> space =
      test::NetworkNamespace::Create();
  if (!space.ok()) return state.SkipWithError("no rights");
  (*space)->Command("ip link set lo up");
  std::unique_ptr<KernelFlowOffload> offload;
  (*space)->Run([&] {
    KernelFlowOffload::Options options;
    options.sessions_max = kSessionsMax;
    options.listen_addresses = {SocketAddress::Ipv4Loopback(19132)};
    auto created = KernelFlowOffload::Create(options);
    if (created.ok()) offload = *std::move(created);
  });
  if (offload == nullptr) return state.SkipWithError("no rights");
  const auto burst = static_cast<int>(state.range(0));
  std::vector<SessionAddresses> sessions;
  std::vector<uint32_t> slots;
  slots.reserve(static_cast<size_t>(burst));
  Stopwatch install, remove;
  int number = 0;
  for (auto _ : state) {
    sessions.clear();
    slots.clear();
    for (int i = 0; i < burst; ++i) sessions.push_back(SessionNumber(number++));
    install.Measure(burst, [&] {
      for (const SessionAddresses& session : sessions) {
        if (const auto slot = offload->Install(session); slot.has_value()) {
          slots.push_back(*slot);
        }
      }
    });
    test::AwaitTrue([&] {
      for (const uint32_t slot : slots) {
        if (offload->state(slot) == FlowState::kWaiting) return false;
      }
      return true;
    });
    for (const uint32_t slot : slots) {
      if (offload->state(slot) == FlowState::kInstalled) continue;
      return state.SkipWithError("refused");
    }
    remove.Measure(burst, [&] {
      for (const uint32_t slot : slots) offload->Remove(slot);
    });
    if (slots.size() != sessions.size()) return state.SkipWithError("no room");
  }
  state.counters["install_ns"] = install.average_nanoseconds();
  state.counters["remove_ns"] = remove.average_nanoseconds();
}
// Less than there is room for, since slots rest for a second.
BENCHMARK(InstallAndRemove)->Arg(1)->Iterations(2000);
BENCHMARK(InstallAndRemove)->Arg(64)->Iterations(500);

}  // namespace
}  // namespace fastpath
}  // namespace udpgate

BENCHMARK_MAIN();
