// One session, as `Proxy::ForEachSession` shows it.
#ifndef UDPGATE_SESSION_INFO_H_
#define UDPGATE_SESSION_INFO_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// A session's life: pending, while its backend is being asked for;
// unconfirmed, once it has one; confirmed, once its client has gone on to send
// after replies of the backend for a while. That is a sign, not a proof, that
// the client's address is not forged.
enum class SessionState : uint8_t { kPending, kUnconfirmed, kConfirmed };

// A copy; it does not change after it was taken.
struct SessionInfo {
  uint64_t id = 0;  // never used again in the life of the Proxy
  SessionState state = SessionState::kPending;
  SocketAddress client;
  SocketAddress backend;  // invalid while pending
  SocketAddress relay;    // the gate's own end towards the backend
  std::string label;      // of ResolveResult
  absl::Duration age;
  absl::Duration idle;  // since the last datagram in either direction
  uint64_t client_datagrams_forwarded = 0;
  uint64_t client_bytes_forwarded = 0;
  uint64_t backend_datagrams_forwarded = 0;
  uint64_t backend_bytes_forwarded = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_SESSION_INFO_H_
