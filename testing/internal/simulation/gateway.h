// Sets up the gateway under test, and runs its readers and its worker.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_GATEWAY_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_GATEWAY_H_

#include <cstddef>
#include <cstdint>

#include "testing/internal/simulation/observation.h"
#include "testing/internal/simulation/rules.h"
#include "testing/internal/simulation/state.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/proxy_options.h"

namespace udpgate {
namespace internal {
namespace simulation {

class Gateway {
 public:
  // All must outlive it.
  Gateway(SimulationState* state, Observation* observation, Rules* rules)
      : state_(state), observation_(observation), rules_(rules) {}
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // With random options, and random clients around it.
  void Start(BackendResolver* resolver);
  // Nothing is left of it afterwards.
  void Destroy();

  void Read(size_t reader);
  void PollOnce(int64_t max_wait_nanoseconds);
  // As the worker's thread: it sleeps as long as it wants to, and no longer.
  void Sleep(int64_t nanoseconds);
  // Until there is nothing left to do.
  void Settle();
  // As in SimulatedWorld.
  void OnSleep(int64_t timeout_nanoseconds);

 private:
  ProxyOptions Options();

  SimulationState* const state_;
  Observation* const observation_;
  Rules* const rules_;
  int sleeps_ = 0;
  int64_t sleep_until_nanoseconds_ = kNone;  // kNone: time stands still
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_GATEWAY_H_
