// What fails: system calls, networks and routes.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_FAULTS_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_FAULTS_H_

#include "testing/failing_sys_calls.h"
#include "testing/internal/simulation/actions.h"
#include "testing/internal/simulation/observation.h"
#include "testing/internal/simulation/state.h"

namespace udpgate {
namespace internal {
namespace simulation {

class Faults {
 public:
  // All must outlive it.
  Faults(SimulationState* state, Actions* actions, Observation* observation)
      : state_(state), actions_(actions), observation_(observation) {}
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  // As in SimulatedWorld. Something may happen before a call, too.
  int OnCall(test::Call call, int fd);
  unsigned OnBatch(unsigned count);

  // An ICMP message about a datagram to a backend.
  void NetworkError();
  // An ICMP message about a reply.
  void ClientUnreachable();
  // The routes choose another source address; the old one may be lost.
  void ChangeNetwork();

 private:
  int ErrorOf(test::Call call);

  SimulationState* const state_;
  Actions* const actions_;
  Observation* const observation_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_FAULTS_H_
