// What `Proxy::Restore` takes and returns.
#ifndef UDPGATE_SESSION_RESTORE_H_
#define UDPGATE_SESSION_RESTORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// A session of another process or gateway.
struct UDPGATE_EXPORT RestorableSession {
  SocketAddress client;
  SocketAddress local;  // the gateway's address that the client sent to
  SocketAddress backend;
  // The source address and port that it had; invalid: unknown.
  SocketAddress relay;
  std::string label;  // ResolveResult::label
  // `BackendResolver::RestoreTag` is called with it. May be null.
  std::shared_ptr<SessionTag> tag;
  absl::Duration age;  // since the client's first datagram
};

// What has become of one of them.
struct UDPGATE_EXPORT RestoredSession {
  enum class Outcome : uint8_t {
    kRestored,       // on the same source address and port
    kOnOtherRelay,   // its source port is taken, or its source address absent
    kClientPresent,  // the client has a session already, which stays
    kRejected,       // an address is invalid, or the session limit is reached
    kNoSocket,       // no upstream socket could be opened
  };
  Outcome outcome = Outcome::kRejected;
  uint64_t session_id = 0;  // SessionInfo::id of a restored session
  SocketAddress relay;      // of a restored session
};

}  // namespace udpgate

#endif  // UDPGATE_SESSION_RESTORE_H_
