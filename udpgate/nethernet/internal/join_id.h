// Names for joins that are unique among all gateways.
#ifndef UDPGATE_NETHERNET_INTERNAL_JOIN_ID_H_
#define UDPGATE_NETHERNET_INTERNAL_JOIN_ID_H_

#include <cstdint>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// 16 hexadecimal digits. Threads: any.
inline std::string NewJoinId() {
  std::random_device source;  // of the kernel or the processor
  const uint64_t value = uint64_t{source()} << 32 | uint64_t{source()};
  return absl::StrCat(absl::Hex(value, absl::kZeroPad16));
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JOIN_ID_H_
