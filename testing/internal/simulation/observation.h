// Follows what the gateway is seen to do, and updates the model.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_OBSERVATION_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_OBSERVATION_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>

#include "absl/strings/string_view.h"
#include "testing/internal/simulation/actions.h"
#include "testing/internal/simulation/payload.h"
#include "testing/internal/simulation/restoring.h"
#include "testing/internal/simulation/state.h"
#include "udpgate/backend_resolver.h"

namespace udpgate {
namespace internal {
namespace simulation {

// The methods are those of SimulatedWorld and BackendResolver.
class Observation {
 public:
  // All must outlive it.
  Observation(SimulationState* state, Actions* actions, Restoring* restoring)
      : state_(state), actions_(actions), restoring_(restoring) {}
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;

  void OnSent(int fd, const SocketAddress& from, const SocketAddress& to,
              absl::string_view payload);
  void OnSendFailed(int fd, int error, absl::string_view payload);
  void OnReceived(int fd, absl::string_view payload, size_t bytes);
  void OnReceiveFailed(int fd, int error);
  void OnErrorTaken(int fd, int error, const SocketAddress& to);
  void OnWatched(int fd);
  // A session ends, and there must be a reason.
  void OnClosed(int fd);
  void Resolve(const ResolveRequest& request, BackendResolver::Callback done);

  // What the counters tell only after a call has returned.
  void NoteOutcome();

  // What the client of an unconfirmed session may still get; INT64_MAX if there
  // is no limit. From the rules in docs/behaviour.md.
  int64_t ReplyBytesLeft(const ModelSession& session) const;

 private:
  void OnSentToBackend(int fd, const SocketAddress& from,
                       const SocketAddress& to, const Tag& tag);
  void OnSentToClient(const SocketAddress& from, const SocketAddress& to,
                      const Tag& tag);
  void OnReopened(int fd, int index);
  void NoteClientActive(ModelSession* session);
  void CountRefusal(ModelSession* session, bool is_counted_by_its_entry);
  bool HasQueuedRefusal(int fd) const;
  void NoteEnd();
  bool IsLeastValidated(const ModelSession& session) const;
  uint64_t limit_drops() const;

  SimulationState* const state_;
  Actions* const actions_;
  Restoring* const restoring_;
  uint64_t sessions_created_ = 0;
  std::set<int> left_fds_;  // of sessions that go on with another one
  // Of the end that is not counted yet: the session, the counters before it,
  // and its possible reasons.
  int ending_session_ = kNone;
  std::array<uint64_t, kEndReasonCount> ends_before_{};
  std::array<bool, kEndReasonCount> end_reasons_{};
  // A reply that the limit forbids, and whose fate is not seen yet.
  int undecided_session_ = kNone;
  uint32_t undecided_reply_ = 0;
  uint64_t limit_drops_before_ = 0;
  bool could_pause_before_ = false;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_OBSERVATION_H_
