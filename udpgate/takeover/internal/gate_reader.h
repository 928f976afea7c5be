// Collects what the old process hands over.
#ifndef UDPGATE_TAKEOVER_INTERNAL_GATE_READER_H_
#define UDPGATE_TAKEOVER_INTERNAL_GATE_READER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "udpgate/internal/session/handover.h"
#include "udpgate/takeover/internal/index_by_id.h"
#include "udpgate/takeover/internal/messages.h"

namespace udpgate {
namespace takeover {
namespace internal {

// Collects the messages about sessions and the gateway's state. Each list has a
// limit. Threads: one.
class GateReader {
 public:
  // Reads `sessions`, `changes`, `held`, `quarantined` or `state`; messages of
  // other types are skipped. InvalidArgument says what is wrong.
  absl::Status Read(Incoming message);
  // The sessions read so far. The caller may move their sockets out, and must
  // leave the rest.
  absl::Span<udpgate::internal::HandedSession> sessions() {
    return absl::MakeSpan(sessions_);
  }
  // The pause begins. Only sessions that are read again from now on count: the
  // others have ended.
  void BeginState();
  // Whether `state` was read.
  bool has_state() const { return has_state_; }
  // Sessions that were read for the first time after BeginState.
  int64_t late_count() const { return late_count_; }
  // Everything that was read after BeginState; once. InvalidArgument if
  // sessions are missing.
  absl::StatusOr<udpgate::internal::HandedGate> Take();

 private:
  absl::Status ReadSessions(Incoming message);
  absl::Status ReadChanges(const Incoming& message);
  absl::Status ReadHeld(const nlohmann::json& message);
  absl::Status ReadQuarantined(const Incoming& message);

  std::vector<udpgate::internal::HandedSession> sessions_;
  // Of each session: whether its socket was read, and whether it counts.
  std::vector<bool> has_socket_;
  std::vector<bool> is_current_;
  IndexById index_;
  size_t held_bytes_ = 0;
  bool is_state_ = false;
  bool has_state_ = false;
  int64_t late_count_ = 0;
  uint64_t session_count_ = 0;  // as `state` says
  udpgate::internal::HandedGate gate_;
};

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_GATE_READER_H_
