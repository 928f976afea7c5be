#include "udpgate/internal/control/handed_gate.h"

#include "udpgate/internal/session/session_table.h"

namespace udpgate {
namespace internal {
namespace {

// No sum or difference of such numbers overflows.
constexpr int64_t kTimeMax = INT64_MAX / 4;
constexpr uint64_t kSessionNumberMax = uint64_t{1} << 54;

// A larger difference is that of two clocks.
constexpr int64_t kTransferMaxNanoseconds = 60'000'000'000;

bool IsInRange(const HandedSession& session, int64_t now_nanoseconds) {
  for (const int64_t nanoseconds :
       {session.first_proof_nanoseconds, session.created_nanoseconds,
        session.last_active_nanoseconds, session.client_active_nanoseconds,
        session.unanswered_since_nanoseconds}) {
    if (nanoseconds < 0 || nanoseconds > now_nanoseconds) return false;
  }
  return session.resolve_deadline_nanoseconds >= 0 &&
         session.resolve_deadline_nanoseconds <= kTimeMax &&
         SessionTable::NumberOf(session.id) < kSessionNumberMax;
}

}  // namespace

absl::Status CheckRanges(const HandedGate& gate) {
  bool is_in_range = gate.now_nanoseconds >= 0 &&
                     gate.now_nanoseconds <= kTimeMax &&
                     gate.session_number < kSessionNumberMax;
  for (const HandedPort& port : gate.quarantined) {
    is_in_range = is_in_range && port.since_nanoseconds >= 0 &&
                  port.since_nanoseconds <= gate.now_nanoseconds;
  }
  for (const HandedSession& session : gate.sessions) {
    is_in_range = is_in_range && IsInRange(session, gate.now_nanoseconds);
  }
  if (is_in_range) return absl::OkStatus();
  return absl::InvalidArgumentError("a time or an id is out of range");
}

void ConvertTimes(int64_t now_nanoseconds, HandedGate* gate) {
  const int64_t shift_nanoseconds = now_nanoseconds - gate->now_nanoseconds;
  if (shift_nanoseconds >= 0 && shift_nanoseconds < kTransferMaxNanoseconds) {
    return;  // the same clock
  }
  for (HandedPort& port : gate->quarantined) {
    port.since_nanoseconds += shift_nanoseconds;
  }
  for (HandedSession& session : gate->sessions) {
    session.first_proof_nanoseconds += shift_nanoseconds;
    session.created_nanoseconds += shift_nanoseconds;
    session.last_active_nanoseconds += shift_nanoseconds;
    session.client_active_nanoseconds += shift_nanoseconds;
    session.resolve_deadline_nanoseconds += shift_nanoseconds;
    if (session.unanswered_since_nanoseconds != 0) {
      session.unanswered_since_nanoseconds += shift_nanoseconds;
    }
  }
}

}  // namespace internal
}  // namespace udpgate
