#include "udpgate/session_event_fields.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {

std::vector<SessionEventField> SessionEventFields(const SessionEvent& event) {
  std::vector<SessionEventField> fields = {
      {"event", absl::StrCat("session_", SessionEventKindName(event.kind))},
      {"session", event.session_id},
      {"client", event.client.ToString()},
      {"local", event.local.ToString()}};
  // A session without a backend has neither.
  if (event.backend.is_valid()) {
    fields.push_back({"backend", event.backend.ToString()});
    fields.push_back({"relay", event.relay.ToString()});
    fields.push_back({"relay_port", uint64_t{event.relay.port()}});
  }
  if (event.tag != nullptr) {
    fields.push_back({"network_id", event.tag->text()});
  }
  if (event.kind != SessionEvent::Kind::kEnded) return fields;
  const int64_t milliseconds = absl::ToInt64Milliseconds(event.age);
  fields.push_back(
      {"duration_seconds", static_cast<double>(milliseconds) / 1000});
  fields.push_back({"client_datagrams", event.client_datagrams_forwarded});
  fields.push_back({"client_bytes", event.client_bytes_forwarded});
  fields.push_back({"backend_datagrams", event.backend_datagrams_forwarded});
  fields.push_back({"backend_bytes", event.backend_bytes_forwarded});
  fields.push_back({"reason", std::string(EndReasonName(event.end_reason))});
  return fields;
}

}  // namespace udpgate
