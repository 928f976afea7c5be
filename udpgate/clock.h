// The clock that everything in udpgate asks for the time.
//
// It is monotonic: a step of the system clock (NTP, an operator, a suspended
// virtual machine) must never end a session or stop a timeout. Tests put
// `test::SimulatedClock` (//testing) in its place and do not sleep.
#ifndef UDPGATE_CLOCK_H_
#define UDPGATE_CLOCK_H_

#include <cstdint>

#include "udpgate/base/export.h"

namespace udpgate {

// Threads: every method may be called from any thread at any time.
class UDPGATE_EXPORT Clock {
 public:
  virtual ~Clock() = default;

  // Nanoseconds since a moment that is fixed for the life of the process
  // (CLOCK_MONOTONIC, clock_gettime(2)). Never runs backwards.
  virtual int64_t NowNanoseconds() const = 0;

  // The clock of the machine. Lives until the process ends; not owned by the
  // caller.
  static const Clock* Monotonic();
};

}  // namespace udpgate

#endif  // UDPGATE_CLOCK_H_
