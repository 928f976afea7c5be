// One session, as `Proxy::ForEachSession` shows it.
#ifndef UDPGATE_SESSION_INFO_H_
#define UDPGATE_SESSION_INFO_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// The states of a session: pending while its backend is being resolved;
// unconfirmed once it has a backend; confirmed once its client has kept sending
// after replies of the backend for a while. This makes a forged client address
// unlikely; it does not rule one out.
enum class SessionState : uint8_t { kPending, kUnconfirmed, kConfirmed };

// A copy: later changes of the session do not show in it.
struct UDPGATE_EXPORT SessionInfo {
  uint64_t id = 0;  // never reused in the lifetime of the Proxy
  SessionState state = SessionState::kPending;
  SocketAddress client;
  SocketAddress local;    // the gateway's address that the client sent to last
  SocketAddress backend;  // invalid while pending
  SocketAddress relay;    // address of the upstream socket
  std::string label;      // of ResolveResult
  std::string tag;        // SessionTag::text, or empty
  std::string tag_key;    // SessionTag::key, or empty
  absl::Duration age;
  absl::Duration idle;  // since the last datagram in either direction
  uint64_t client_datagrams_forwarded = 0;
  uint64_t client_bytes_forwarded = 0;
  uint64_t backend_datagrams_forwarded = 0;
  uint64_t backend_bytes_forwarded = 0;
};

// Sessions that one backend has.
struct UDPGATE_EXPORT BackendSessionCount {
  SocketAddress backend;
  int64_t sessions = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_SESSION_INFO_H_
