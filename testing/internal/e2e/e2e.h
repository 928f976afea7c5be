// What the end-to-end tests share: a real Redis, the real gate as a process or
// in this process, and clients.
#ifndef UDPGATE_TESTING_INTERNAL_E2E_E2E_H_
#define UDPGATE_TESTING_INTERNAL_E2E_E2E_H_

#include <cstddef>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/redis_server.h"
#include "testing/loopback_peer.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/proxy.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {
namespace test {

inline constexpr char kBackendKey[] = "udp_gate:backend";
inline constexpr char kDisconnectChannel[] = "udp_gate:disconnect";

// Sanitizers slow the gate down; the contract's bounds are those of a build
// without.
#ifdef UDPGATE_SANITIZED
inline constexpr int kSlowness = 5;
#else
inline constexpr int kSlowness = 1;
#endif

// The contract: the gate stops within a second.
inline constexpr absl::Duration kStopTimeMax = absl::Seconds(kSlowness);

// The path of the real program.
std::string GateBinary();

// How the gate spreads its work over threads.
struct Shape {
  int worker_count;
  int listener_count;
};
std::ostream& operator<<(std::ostream& out, const Shape& shape);
// "Workers4Listeners2", for INSTANTIATE_TEST_SUITE_P.
std::string ShapeName(const ::testing::TestParamInfo<Shape>& info);

// All that differ in how a datagram gets from a listener to its session.
inline constexpr Shape kAllShapes[] = {{0, 1}, {1, 1}, {4, 1}, {0, 2},
                                       {0, 3}, {1, 3}, {4, 2}, {4, 3}};

// True where `count` datagrams in a row come back from `name`, without a loss.
bool IsServedBy(LoopbackPeer* client, const SocketAddress& gate,
                absl::string_view name, int count = 1);

// All numbers, one a line, for a message.
std::string Describe(const ProxyStats& stats);

// The laws of proxy_stats.h, which hold while traffic is at rest.
::testing::AssertionResult AccountsForAll(const ProxyStats& stats);

// A Redis for all tests of a suite, emptied for each, and the real gate.
class GateTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;
  // The gate, where it still runs, must stop with status 0 and in time.
  void TearDown() override;

  static RedisServer& redis() { return *redis_; }

  // Settings that point the gate at `redis()`.
  static std::map<std::string, std::string> RedisEnvironment();

  // Writes the key.
  static void SetBackend(const EchoBackend& backend);
  static void SetBackendText(absl::string_view text);

  // Waits until somebody is subscribed, and publishes the payload.
  static void Publish(absl::string_view payload);
  static bool AwaitSubscriber(RedisServer* server,
                              absl::string_view channel = kDisconnectChannel);

  // Starts the gate with `RedisEnvironment` and these settings over it.
  void StartGate(std::map<std::string, std::string> environment = {});
  void StartGate(const Shape& shape,
                 std::map<std::string, std::string> environment = {});
  void StopGate();

  GateProcess& gate() { return *gate_; }
  const SocketAddress& address() const { return gate_->address(); }

 private:
  static RedisServer* redis_;

  std::unique_ptr<GateProcess> gate_;
};

// The library with its Redis parts, as an embedder composes them: where a test
// wants `Proxy::GetStats`.
class InProcessGate {
 public:
  struct Options {
    ProxyOptions proxy;  // the address is 127.0.0.1:0 where it is the default
    RedisOptions redis;
    HostLookupOptions lookup;
    // Not empty: this backend instead of Redis.
    SocketAddress backend;
    // Not empty: this backend, `host:port`, instead of Redis.
    std::string named_backend;
  };

  // Ends the test process where the gate does not start.
  explicit InProcessGate(const Options& options);

  Proxy& proxy() { return *proxy_; }
  ProxyStats stats() const { return proxy_->GetStats(); }
  const SocketAddress& address() const {
    return proxy_->listen_addresses().front();
  }
  // Waits until `GetStats` satisfies `condition`.
  template <typename Condition>
  bool AwaitStats(Condition condition,
                  absl::Duration timeout = kAwaitTimeout) const {
    return AwaitTrue([&] { return condition(stats()); }, timeout);
  }

 private:
  std::unique_ptr<Proxy> proxy_;
};

// `GateTest` with the gate in this process.
class InProcessGateTest : public GateTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Options that point at `redis()`, to change.
  InProcessGate::Options options_;

  void StartInProcess();
  InProcessGate& in_process() { return *in_process_; }

 private:
  std::unique_ptr<InProcessGate> in_process_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_E2E_H_
