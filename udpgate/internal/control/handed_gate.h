// Checks and adapts what another process hands over.
#ifndef UDPGATE_INTERNAL_CONTROL_HANDED_GATE_H_
#define UDPGATE_INTERNAL_CONTROL_HANDED_GATE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "udpgate/internal/session/handover.h"

namespace udpgate {
namespace internal {

// InvalidArgument if a time or an id is out of range, so that later sums and
// differences of them could overflow.
absl::Status CheckRanges(const HandedGate& gate);

// Changes all times of the old process's clock to those of this process's
// clock, which is at `now_nanoseconds`. The clocks differ only if the processes
// are in different time namespaces (time_namespaces(7)).
void ConvertTimes(int64_t now_nanoseconds, HandedGate* gate);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_HANDED_GATE_H_
