// Why a connection to Redis does not do its work.
#ifndef UDPGATE_REDIS_REDIS_PROBLEM_H_
#define UDPGATE_REDIS_REDIS_PROBLEM_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"

namespace udpgate {

// The names are label values of metrics, so they stay. The log has the details.
enum class RedisProblem {
  kNone,         // it works, or has not been tried yet
  kUnreachable,  // no address, or nobody accepts the connection
  kTls,          // the handshake fails
  kLogin,        // the user name or the password is rejected
  kPermission,   // the user may not run the command
  kUnsupported,  // the server does not know the command, as a proxy may not
  kError,        // the server replies with another error
  kClosed,       // the server or the network has closed the connection
  kSilent,       // no reply in time
  kProtocol,     // what was received is not valid, or too large
};
inline constexpr size_t kRedisProblemCount = 10;

// "none", "unreachable"...
UDPGATE_EXPORT absl::string_view RedisProblemName(RedisProblem problem);

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_PROBLEM_H_
