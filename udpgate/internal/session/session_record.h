// What a takeover hands over of a session, and the session table holds.
#ifndef UDPGATE_INTERNAL_SESSION_SESSION_RECORD_H_
#define UDPGATE_INTERNAL_SESSION_SESSION_RECORD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "udpgate/backend_resolver.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The part of a session that survives a takeover. `Session` and `HandedSession`
// both derive from it, and it is copied whole between them. Each field has a
// column in udpgate/takeover/internal/session_columns.cc; session_columns_test
// fails if one has none. What a new process derives anew is a field of
// `Session` instead. Times are those of the Clock.
struct SessionRecord {
  // Used when the session is created, confirmed or ended. First, so that the
  // others lie beside the fields of `Session` that each datagram uses.
  int64_t created_nanoseconds = 0;
  SocketAddress backend;
  SocketAddress relay;  // source address and port of the upstream socket
  std::string label;    // see ResolveResult
  // Null if there is none, and while pending. If it is set `OnBegin` was
  // called, and `OnEnd` follows, except in a process that hands the session
  // over.
  std::shared_ptr<SessionTag> tag;
  // While pending: when the resolution times out.
  int64_t resolve_deadline_nanoseconds = 0;
  // See AddressValidation.
  int64_t first_proof_nanoseconds = 0;
  // Bytes sent to a client that is not confirmed; see AddressValidation.
  uint64_t reply_bytes = 0;

  // Used for each datagram.
  uint64_t id = 0;  // 0: the slot is free
  SocketAddress client;
  SessionState state = SessionState::kPending;
  // The client's last datagram came in by it.
  uint16_t listener = 0;
  // How far the client has shown that it receives replies; see
  // AddressValidation.
  bool has_unanswered_reply = false;
  uint8_t proof_count = 0;
  // The backend has sent something, whether or not it was forwarded.
  bool has_answered = false;
  // Refusals (ICMP errors) of the backend in a row, without a reply between.
  int refusals = 0;
  int64_t last_active_nanoseconds = 0;
  int64_t client_active_nanoseconds = 0;  // the client's last datagram
  SocketAddress local;                    // see ClientDatagram
  uint64_t client_datagrams_forwarded = 0;
  uint64_t client_bytes_forwarded = 0;
  uint64_t backend_datagrams_forwarded = 0;
  uint64_t backend_bytes_forwarded = 0;
  // The client's first datagram after the last reply; 0 if there was none.
  int64_t unanswered_since_nanoseconds = 0;

  SessionRecord& record() { return *this; }
  const SessionRecord& record() const { return *this; }
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_SESSION_RECORD_H_
