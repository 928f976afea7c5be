// The message `state`, the last one that the old process sends in the pause:
// times, counters, and how many sessions the new process must have by now.
#ifndef UDPGATE_TAKEOVER_INTERNAL_GATE_STATE_H_
#define UDPGATE_TAKEOVER_INTERNAL_GATE_STATE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "udpgate/internal/session/handover.h"

namespace udpgate {
namespace takeover {
namespace internal {

nlohmann::json WriteState(const udpgate::internal::HandedGate& gate);

// Reads all but sessions and ports into `gate`. InvalidArgument if a field that
// must be there is missing, or any is wrong.
absl::Status ReadState(const nlohmann::json& message,
                       udpgate::internal::HandedGate* gate,
                       uint64_t* session_count);

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_GATE_STATE_H_
