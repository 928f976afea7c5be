// Counters and session history of the admin endpoint, as text for a takeover:
// in the new process no counter decreases, and the ended sessions are kept.
//
//   server.AwaitSuccessor(timeout, EncodeCarriedOver(
//       {admin->Counters(), history->Save()}));      // the old process
//   auto carried = DecodeCarriedOver(*predecessor->ReadNotes(timeout));
//   history->Restore(carried->history);              // the new process
//   admin->AddCounters(carried->counters);
#ifndef UDPGATE_ADMIN_CARRIED_OVER_H_
#define UDPGATE_ADMIN_CARRIED_OVER_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/base/export.h"

namespace udpgate {
namespace admin {

struct UDPGATE_EXPORT CarriedOver {
  // See AdminServer::Counters.
  std::map<std::string, double> counters;
  SessionHistory::Record history;
};

// A JSON object.
UDPGATE_EXPORT std::string EncodeCarriedOver(const CarriedOver& carried);

// The text may come from another version: unknown members are ignored, and
// missing ones keep their default. InvalidArgument if it is not such an object,
// or if a value is not valid for its name. An empty text has no content.
UDPGATE_EXPORT absl::StatusOr<CarriedOver> DecodeCarriedOver(
    absl::string_view text);

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_CARRIED_OVER_H_
