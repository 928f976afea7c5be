#include "udpgate/redis/redis_problem.h"

namespace udpgate {

absl::string_view RedisProblemName(RedisProblem problem) {
  constexpr absl::string_view kNames[kRedisProblemCount] = {
      "none",        "unreachable", "tls",    "login",  "permission",
      "unsupported", "error",       "closed", "silent", "protocol"};
  return kNames[static_cast<size_t>(problem)];
}

}  // namespace udpgate
