// What happens around the gateway: clients, backends and the resolver.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_ACTIONS_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_ACTIONS_H_

#include "testing/internal/simulation/state.h"

namespace udpgate {
namespace internal {
namespace simulation {

class Actions {
 public:
  // `state` must outlive it.
  explicit Actions(SimulationState* state) : state_(state) {}
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;

  void ClientSendsSome(int client);
  // A datagram from a source that cannot be answered.
  void ForgedDatagram();
  void BackendReplies(int session);
  void GiveResult(int resolution);
  // Against the contract of BackendResolver, which is harmless.
  void RepeatResult(int resolution);
  // A disconnect event for a client.
  void Disconnect(int client);
  // One of them, while the gateway is at work.
  void Interrupt();

 private:
  void NamePlayer(int resolution, ResolveResult* result);

  SimulationState* const state_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_ACTIONS_H_
