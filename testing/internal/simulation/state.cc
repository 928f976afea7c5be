#include "testing/internal/simulation/state.h"

#include <algorithm>
#include <iterator>

#include "udpgate/internal/shard/endings.h"

namespace udpgate {
namespace internal {
namespace simulation {

int64_t Nanoseconds(absl::Duration time) {
  return absl::ToInt64Nanoseconds(time);
}

SimulationState::SimulationState(uint64_t seed, Coverage* all_coverage,
                                 test::SimulatedWorld* world)
    : random(seed), coverage(all_coverage), sys_calls(world) {}

ProxyStats SimulationState::Stats() const {
  ProxyStats stats;
  for (const auto& reader : readers) reader->counters().AddTo(&stats);
  worker->counters().AddTo(&stats);
  stats.datagrams_held += worker->inbox()->datagrams_waiting();
  return stats;
}

int SimulationState::LiveSession() {
  if (session_by_fd.empty()) return kNone;
  auto found = session_by_fd.begin();
  std::advance(found, random.Below(static_cast<int64_t>(session_by_fd.size())));
  return found->second;
}

int SimulationState::OpenResolution() {
  return open_resolutions.empty() ? kNone : random.OneOf(open_resolutions);
}

int64_t SimulationState::BackendSilentNanoseconds() const {
  return Nanoseconds(limits().backend_silent_timeout);
}

int64_t SimulationState::ClientSilentNanoseconds() const {
  return Nanoseconds(limits().client_silent_timeout);
}

int64_t SimulationState::SweepNanoseconds() const {
  int64_t least = Nanoseconds(limits().session_idle_timeout);
  for (const int64_t timeout :
       {BackendSilentNanoseconds(), ClientSilentNanoseconds()}) {
    if (timeout > 0) least = std::min(least, timeout);
  }
  return least / Endings::kSweepsPerTimeout;
}

bool SimulationState::IsListener(int fd) const {
  return std::find(listener_fds.begin(), listener_fds.end(), fd) !=
         listener_fds.end();
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
