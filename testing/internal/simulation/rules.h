// The rules: what must hold always, and if there is nothing left to do.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_RULES_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_RULES_H_

#include <cstdint>

#include "testing/internal/simulation/observation.h"
#include "testing/internal/simulation/restoring.h"
#include "testing/internal/simulation/state.h"

namespace udpgate {
namespace internal {
namespace simulation {

class Rules {
 public:
  // All must outlive it.
  Rules(SimulationState* state, Observation* observation, Restoring* restoring)
      : state_(state), observation_(observation), restoring_(restoring) {}
  Rules(const Rules&) = delete;
  Rules& operator=(const Rules&) = delete;

  void CheckAlways();
  // After every message is handled and every socket is read.
  void CheckSettled();
  // The worker wakes up for each deadline: when it sleeps, nothing is overdue.
  void CheckPunctual();

 private:
  void CheckLimits(const ProxyStats& stats);
  void CheckTimes(const ModelSession& session);
  void CheckFates(int client);

  SimulationState* const state_;
  Observation* const observation_;
  Restoring* const restoring_;
  uint64_t pending_limit_drops_ = 0;  // at the last CheckAlways
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_RULES_H_
