// One seed: a random but repeatable life of a shard, in memory only.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_SIMULATION_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "testing/internal/simulation/actions.h"
#include "testing/internal/simulation/faults.h"
#include "testing/internal/simulation/gateway.h"
#include "testing/internal/simulation/model.h"
#include "testing/internal/simulation/observation.h"
#include "testing/internal/simulation/restoring.h"
#include "testing/internal/simulation/rules.h"
#include "testing/internal/simulation/state.h"
#include "testing/internal/support/simulated_sys_calls.h"
#include "udpgate/backend_resolver.h"

namespace udpgate {
namespace internal {
namespace simulation {

// Runs the real Worker and Reader on simulated sockets and a simulated clock,
// against a model of what must be live and where each datagram must go. The
// seed decides everything: the limits, who sends what when, the results of the
// resolver, which system calls fail, also in the middle of an iteration.
//
// The parts call each other in one direction:
//
//   Simulation -> Gateway -> Rules -> Observation -> Actions, Restoring
//              -> Faults -----------> Observation
//
// One thread; nothing waits.
class Simulation : public test::SimulatedWorld, public BackendResolver {
 public:
  // `coverage` must outlive it.
  Simulation(uint64_t seed, Coverage* coverage);
  ~Simulation() override;

  // Keeps a history from now on.
  void Trace() { state_.must_trace = true; }
  // The first rule that was broken; empty if there is none.
  std::string Run();
  // The last events, one in each line.
  std::string History() const;

 private:
  void Step();
  void Stop();

  int OnCall(test::Call call, int fd) override;
  unsigned OnBatch(test::Call call, int fd, unsigned count) override;
  void OnSent(int fd, const SocketAddress& from, const SocketAddress& to,
              absl::string_view payload) override;
  void OnSendFailed(int fd, int error, absl::string_view payload) override;
  void OnReceived(int fd, absl::string_view payload, size_t bytes) override;
  void OnReceiveFailed(int fd, int error) override;
  void OnErrorTaken(int fd, int error, const SocketAddress& to) override;
  void OnWatched(int fd) override;
  void OnClosed(int fd) override;
  void OnSleep(int64_t timeout_nanoseconds) override;
  void Resolve(const ResolveRequest& request, Callback done) override;
  Screening Screen(const SocketAddress& client,
                   absl::Span<const char> datagram) override;

  SimulationState state_;
  Actions actions_;
  Restoring restoring_;
  Observation observation_;
  Faults faults_;
  Rules rules_;
  Gateway gateway_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_SIMULATION_H_
