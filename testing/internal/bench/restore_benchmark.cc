// How long it takes to continue sessions of another process or gateway: before
// Start, as after a crash; while the gateway runs, as a standby does; and right
// after their ports were released.
//
//   bazel run --config=opt //testing/internal/bench:restore_benchmark -- 15000
//
// A line for each number of sessions: wall time and processor time, and
// sessions a second.
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace {

// Each source address has so many ports.
constexpr size_t kPorts = 28000;
constexpr uint16_t kFirstPort = 32768;

double SecondsOf(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_nsec) / 1e9;
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::vector<RestorableSession> Sessions(size_t count, uint16_t listen_port,
                                        const SocketAddress& backend) {
  std::vector<RestorableSession> sessions(count);
  for (size_t i = 0; i < count; ++i) {
    RestorableSession& session = sessions[i];
    session.client = *SocketAddress::FromIpAndPort(
        absl::StrCat("10.", i >> 16, ".", (i >> 8) & 255, ".", i & 255), 19132);
    session.local = SocketAddress::Ipv4Loopback(listen_port);
    session.backend = backend;
    session.relay = *SocketAddress::FromIpAndPort(
        absl::StrCat("127.0.0.", 2 + i / kPorts),
        static_cast<uint16_t>(kFirstPort + i % kPorts));
    session.label = "lobby-3.internal:19132";
    session.age = absl::Seconds(100);
  }
  // As a store lists them.
  std::shuffle(sessions.begin(), sessions.end(), std::mt19937(7));
  return sessions;
}

std::unique_ptr<Proxy> CreateProxy(size_t sessions,
                                   const SocketAddress& backend) {
  ProxyOptions options;
  options.listen_address = SocketAddress::Ipv4Loopback(0);
  options.log_sink = nullptr;
  for (size_t i = 0; i < kPorts; ++i) {
    options.relay_ports.push_back(static_cast<uint16_t>(kFirstPort + i));
  }
  for (size_t i = 0; i * kPorts < sessions; ++i) {
    options.upstream_bind_addresses.push_back(
        *SocketAddress::FromIpAndPort(absl::StrCat("127.0.0.", 2 + i), 0));
  }
  auto proxy = Proxy::Create(
      options, {std::make_shared<StaticBackendResolver>(backend)});
  if (!proxy.ok()) {
    std::fprintf(stderr, "%s\n", proxy.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(proxy);
}

void Measure(const char* when, absl::Span<const RestorableSession> sessions,
             Proxy* proxy) {
  const double wall_before = SecondsOf(CLOCK_MONOTONIC);
  const double processor_before = SecondsOf(CLOCK_PROCESS_CPUTIME_ID);
  const auto restored = proxy->Restore(sessions);
  const double wall = SecondsOf(CLOCK_MONOTONIC) - wall_before;
  const double processor =
      SecondsOf(CLOCK_PROCESS_CPUTIME_ID) - processor_before;
  size_t same = 0, other = 0;
  if (restored.ok()) {
    for (const RestoredSession& session : *restored) {
      same += session.outcome == RestoredSession::Outcome::kRestored ? 1 : 0;
      other += session.outcome == RestoredSession::Outcome::kOnOtherRelay;
    }
  }
  std::printf(
      "%-16s %7zu sessions: %6.0f ms, %6.0f ms of processor time, %7.0f "
      "sessions/s of it; %zu on the same port, %zu on another\n",
      when, sessions.size(), 1000 * wall, 1000 * processor,
      static_cast<double>(sessions.size()) / processor, same, other);
}

void Run(size_t count) {
  const test::LoopbackPeer backend;
  std::unique_ptr<Proxy> proxy = CreateProxy(count, backend.address());
  const std::vector<RestorableSession> sessions =
      Sessions(count, proxy->listen_addresses()[0].port(), backend.address());
  Measure("before Start", sessions, proxy.get());
  if (!proxy->Start().ok()) std::exit(1);
  proxy->SetStandby(true);
  test::AwaitTrue([&] { return proxy->GetStats().sessions_active == 0; },
                  absl::Seconds(60));
  Measure("after standby", sessions, proxy.get());
  proxy = CreateProxy(count, backend.address());
  if (!proxy->Start().ok()) std::exit(1);
  const std::vector<RestorableSession> again =
      Sessions(count, proxy->listen_addresses()[0].port(), backend.address());
  Measure("while it runs", again, proxy.get());
}

}  // namespace
}  // namespace udpgate

int main(int argc, char** argv) {
  udpgate::RaiseDescriptorLimit();
  for (int i = 1; i < argc; ++i) {
    uint64_t count = 0;
    if (!absl::SimpleAtoi(argv[i], &count) || count == 0) {
      std::fprintf(stderr, "%s: not a number of sessions\n", argv[i]);
      return 1;
    }
    udpgate::Run(count);
  }
  if (argc == 1) udpgate::Run(1000);
}
