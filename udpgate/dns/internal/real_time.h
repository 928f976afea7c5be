// The time in which lookups expire, whatever clock the cache has.
#ifndef UDPGATE_DNS_INTERNAL_REAL_TIME_H_
#define UDPGATE_DNS_INTERNAL_REAL_TIME_H_

#include <cstdint>

#include "udpgate/clock.h"

namespace udpgate {
namespace dns {
namespace internal {

constexpr int64_t kNever = INT64_MAX;

inline int64_t RealNowNanoseconds() {
  return Clock::Monotonic()->NowNanoseconds();
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_REAL_TIME_H_
