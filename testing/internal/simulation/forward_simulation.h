// One seed: a random but repeatable life of two gateways that forward the
// datagrams of clients to each other, in memory only.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_FORWARD_SIMULATION_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_FORWARD_SIMULATION_H_

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "testing/internal/simulation/payload.h"
#include "testing/internal/simulation/random.h"
#include "testing/internal/support/simulated_sys_calls.h"
#include "testing/simulated_clock.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/hop_reader.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace simulation {

// What all seeds together must have met, or the test proves little.
struct ForwardCoverage {
  ProxyStats stats;
  int64_t replies_by_hop = 0;
  int64_t wrong_owners = 0;
  int64_t repeated = 0;
};

// Runs the real Worker, Reader and HopReader of both gateways. The resolvers
// know who has which session, as a store would, and are wrong at times.
//
// What must hold: a datagram reaches one backend, once, one that the client was
// given, in order with those that came by the same gateway; a reply reaches its
// client, once, from the address that the client has written to; both gateways
// account for everything, and nothing goes in a circle.
//
// One thread; nothing waits.
class ForwardSimulation : public test::SimulatedWorld {
 public:
  // `coverage` must outlive it.
  ForwardSimulation(uint64_t seed, ForwardCoverage* coverage);
  ~ForwardSimulation() override;

  // The first rule that was broken; empty if there is none.
  std::string Run();

 private:
  static constexpr size_t kGateways = 2;
  static constexpr size_t kClients = 6;

  // Asks the simulation.
  class Resolver final : public BackendResolver {
   public:
    Resolver(ForwardSimulation* simulation, size_t gateway)
        : simulation_(simulation), gateway_(gateway) {}
    void Resolve(const ResolveRequest& request, Callback done) override {
      simulation_->Resolve(gateway_, request, std::move(done));
    }

   private:
    ForwardSimulation* const simulation_;
    const size_t gateway_;
  };

  struct Gateway {
    std::unique_ptr<GateContext> context;
    std::unique_ptr<Worker> worker;
    std::unique_ptr<Reader> reader;
    std::unique_ptr<HopReader> hop_reader;
    std::vector<std::pair<BackendResolver::Callback, ResolveResult>> results;
    SocketAddress address;
  };
  struct Client {
    SocketAddress address;
    uint32_t sent = 0;
    std::set<uint32_t> left;
    std::map<uint32_t, size_t> sent_to;  // the gateway of each datagram
    int owner = -1;                      // as the store says
  };
  struct Upstream {
    size_t gateway;
    SocketAddress relay;
    SocketAddress backend;
    uint32_t client;
    // By the gateway that they came by: the highest number that has left.
    std::array<int64_t, kGateways> last_left = {-1, -1};
  };
  // On its way from one gateway to the other.
  struct InFlight {
    SocketAddress from;
    SocketAddress to;
    std::string payload;
  };

  void Start(size_t gateway);
  void Step();
  void ClientSends();
  void BackendReplies();
  void Disconnect();
  void Repeat();
  void Garbage();
  void Deliver();
  void Poll(size_t gateway);
  void SwitchStandby();
  void ForgetOwner();
  void Resolve(size_t gateway, const ResolveRequest& request,
               BackendResolver::Callback done);
  ResolveResult ResultFor(size_t gateway, uint32_t client);
  void GiveResult(size_t gateway);
  void Settle();
  void Stop();
  void Check();
  ProxyStats StatsOf(const Gateway& gateway) const;

  void OnSent(int fd, const SocketAddress& from, const SocketAddress& to,
              absl::string_view payload) override;
  void OnWatched(int fd) override;
  void OnClosed(int fd) override;
  void OnToBackend(Upstream* upstream, const Tag& tag);
  void OnToClient(const SocketAddress& from, const SocketAddress& to,
                  const Tag& tag);

  template <typename... Texts>
  void Require(bool holds, const Texts&... texts) {
    if (!holds && broken_.empty()) broken_ = absl::StrCat(texts...);
  }

  Random random_;
  ForwardCoverage* const coverage_;
  test::SimulatedClock clock_;
  test::SimulatedSysCalls sys_calls_;
  std::array<Gateway, kGateways> gateways_;
  size_t running_gateway_ = 0;  // whose code runs
  std::vector<Client> clients_;
  std::map<int, Upstream> upstreams_;      // by descriptor
  std::vector<uint32_t> backend_clients_;  // by the backend's number
  std::deque<InFlight> in_flight_;
  std::vector<InFlight> past_;  // what was in flight
  std::set<uint32_t> replied_;
  uint32_t next_reply_ = 0;
  std::string broken_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_FORWARD_SIMULATION_H_
