// The fields of a session event, for logs and messages: one list, so that they
// have the same names everywhere.
#ifndef UDPGATE_SESSION_EVENT_FIELDS_H_
#define UDPGATE_SESSION_EVENT_FIELDS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "udpgate/base/export.h"
#include "udpgate/session_observer.h"

namespace udpgate {

struct UDPGATE_EXPORT SessionEventField {
  std::string name;
  std::variant<std::string, uint64_t, double> value;
};

// "event" (session_opened, session_confirmed, session_ended), "session",
// "client", "local"; with a backend "backend", "relay", "relay_port"; with a
// tag "network_id"; at the end "duration_seconds", "client_datagrams",
// "client_bytes", "backend_datagrams", "backend_bytes" and "reason".
UDPGATE_EXPORT std::vector<SessionEventField> SessionEventFields(
    const SessionEvent& event);

}  // namespace udpgate

#endif  // UDPGATE_SESSION_EVENT_FIELDS_H_
