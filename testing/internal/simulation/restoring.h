// Sessions that come from other gateways, and go to them.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_RESTORING_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_RESTORING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "testing/internal/simulation/state.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/session_restore.h"

namespace udpgate {
namespace internal {
namespace simulation {

class Restoring {
 public:
  // `state` must outlive it.
  explicit Restoring(SimulationState* state) : state_(state) {}
  Restoring(const Restoring&) = delete;
  Restoring& operator=(const Restoring&) = delete;

  // Some clients have had sessions elsewhere.
  void Restore();
  // Another gateway has some of the sessions.
  void Supersede();
  // Enters standby, or leaves it.
  void SwitchStandby();

  // A restored session has got its socket.
  void OnOpened(int resolution);
  // What restorations have reported since the last call. Before the observer's
  // events are looked at.
  void NoteResults();
  // Nothing is left to do.
  void NoteSettled();

 private:
  // A call of Proxy::Restore, or one phase of it.
  struct Batch {
    std::vector<RestorableSession> sessions;
    std::vector<RestoreTask> tasks;
    std::vector<int> resolutions;
    bool takes_other_relays = false;
    bool is_finished = false;
    size_t noted = 0;
  };

  void Add(Batch* batch);
  SocketAddress SomeRelay();
  void NoteResult(const Batch& batch, size_t index);

  SimulationState* const state_;
  std::vector<std::unique_ptr<Batch>> batches_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_RESTORING_H_
