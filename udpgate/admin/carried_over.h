// What an endpoint's numbers stand at, for another process that goes on with
// them: in a take-over no counter steps back, and the ends of sessions stay.
//
//   server.AwaitSuccessor(timeout, EncodeCarriedOver(
//       {admin->Counters(), history->Save()}));      // the gate that gives
//   auto carried = DecodeCarriedOver(*predecessor->ReadNotes(timeout));
//   history->Restore(carried->history);              // the one that takes
//   admin->AddCounters(carried->counters);
#ifndef UDPGATE_ADMIN_CARRIED_OVER_H_
#define UDPGATE_ADMIN_CARRIED_OVER_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/admin/session_history.h"

namespace udpgate {
namespace admin {

struct CarriedOver {
  // See AdminServer::Counters.
  std::map<std::string, double> counters;
  SessionHistory::Record history;
};

// A JSON object in which everything has a name.
std::string EncodeCarriedOver(const CarriedOver& carried);

// What it does not know it leaves out, and what it misses keeps its default:
// the text may be of another version. InvalidArgument where it is no such
// object, or a value is none that its name can have. Empty: nothing.
absl::StatusOr<CarriedOver> DecodeCarriedOver(absl::string_view text);

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_CARRIED_OVER_H_
