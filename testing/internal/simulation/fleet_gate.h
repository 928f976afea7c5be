// One gateway of a fleet: the real logic of the keeper and its resolver, and
// what a Proxy does with their results.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_GATE_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_GATE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "testing/fake_session_store.h"
#include "testing/simulated_clock.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/socket_address.h"
#include "udpgate/store/internal/core_fixture.h"

namespace udpgate {
namespace internal {
namespace simulation {

// Threads: one. Lives as long as its process.
class FleetGate {
 public:
  using Session = store::internal::FakeGateway::Session;

  struct Parts {
    SessionKeeperOptions options;
    std::shared_ptr<test::FakeStoreConnection> connection;
    std::shared_ptr<BackendResolver> inner;
    const test::SimulatedClock* clock;
    SocketAddress local;
    uint64_t run;
    absl::Duration clock_offset;
    // The gateway that hears at this address; null if it is down. Datagrams
    // between gateways are not lost here, see forward_simulation.h.
    std::function<FleetGate*(const SocketAddress& forward_address)> peer;
  };

  explicit FleetGate(Parts parts);
  FleetGate(const FleetGate&) = delete;
  FleetGate& operator=(const FleetGate&) = delete;

  void Start() { host_.Start(); }
  // Instead of Start, with what the old process has.
  void TakeOver(FleetGate* old);

  // A datagram of a client. Returns its session if it gets to a backend; null
  // if it waits or is dropped. `at` is the gateway that has the session: this,
  // or one that it was forwarded to.
  const Session* Receive(const SocketAddress& client, const FleetGate** at);
  // The client has answered replies for a while.
  void Confirm(const SocketAddress& client);
  void End(const SocketAddress& client, EndReason reason, bool is_told);
  // Ends the sessions that it names and that are older than it.
  void Disconnect(DisconnectTarget target, absl::Duration age);
  // Ends all as stopped.
  void StopAll();
  // Clients that wait for their backend longer than this give up.
  void ExpirePending(absl::Duration timeout);

  store::internal::CoreHost& host() { return host_; }
  test::FakeStoreConnection& connection() { return *connection_; }
  store::internal::FakeGateway& gateway() { return host_.gateway(); }
  // The oldest time at which a client began to wait.
  absl::optional<int64_t> oldest_pending() const;
  size_t pending_count() const { return pending_.size(); }

 private:
  struct Pending {
    SocketAddress client;
    int64_t since_nanoseconds;
    uint64_t number;
  };
  class Source;

  // Null if its owner is gone or has no session.
  const Session* Forward(const SocketAddress& client, const FleetGate** at);
  void Resolve(const SocketAddress& client);
  void Open(const SocketAddress& client, uint64_t number,
            const absl::StatusOr<ResolveResult>& result);

  const test::SimulatedClock* const clock_;
  const std::shared_ptr<test::FakeStoreConnection> connection_;
  store::internal::CoreHost host_;
  std::shared_ptr<BackendResolver> resolver_;
  const std::function<FleetGate*(const SocketAddress&)> peer_;
  std::map<std::string, Pending> pending_;
  // By the client: where its owner hears; and owners that had no session.
  std::map<std::string, SocketAddress> forwarded_;
  std::map<std::string, SocketAddress> refused_;
  uint64_t resolve_count_ = 0;
  // Results may come after the end of this process.
  const std::shared_ptr<bool> is_alive_ = std::make_shared<bool>(true);

 public:
  ~FleetGate() { *is_alive_ = false; }
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_GATE_H_
