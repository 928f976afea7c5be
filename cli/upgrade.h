// TAKEOVER_SOCKET, --takeover and SIGUSR2: how one process of the program takes
// over from another.
#ifndef UDPGATE_CLI_UPGRADE_H_
#define UDPGATE_CLI_UPGRADE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/log/logger.h"
#include "cli/session_keeping.h"
#include "cli/settings/settings.h"
#include "cli/signaling.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/proxy.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/takeover/predecessor.h"
#include "udpgate/takeover/takeover_server.h"

namespace udpgate {
namespace cli {

// Starts `proxy` with the sessions of the old process. Cancelled if the old
// process's connection was made with `is_cancelled` and that says so.
// `signaling` gets the joins before them, and `keeping` the run of the session
// store; both may be null.
absl::Status TakeOverSessions(takeover::Predecessor* old_process,
                              Signaling* signaling, SessionKeeping* keeping,
                              Proxy* proxy, Logger* logger);

// Where a new process can take over, started; null if TAKEOVER_SOCKET is not
// set. `old_path` is the socket of the process that this one took over from, or
// empty; `admin`, `signaling` and `keeping` may be null. Errors name the
// setting.
absl::StatusOr<std::unique_ptr<takeover::TakeoverServer>> StartTakeoverServer(
    const Settings& settings, const std::string& old_path,
    const admin::AdminServer* admin, Signaling* signaling,
    SessionKeeping* keeping, Proxy* proxy,
    std::function<void()> on_handed_over);

// What the new process learns before the sessions arrive: the joins, and the
// run of the session store. Without a run it is the joins alone, as processes
// of older releases know it.
struct HostState {
  std::string joins;
  std::string store_run;
};
std::string EncodeHostState(const HostState& state);
HostState DecodeHostState(std::string encoded);

// For the new process: what this process's endpoint has counted, or, if it has
// none, what it was given itself; and the joins of the last moment. `admin`,
// `history` and `signaling` may be null.
std::string NotesForNewProcess(const admin::AdminServer* admin,
                               const admin::SessionHistory* history,
                               Signaling* signaling, std::string given);

// Continues the counters and the list of ended sessions of the old process, and
// takes its last joins and its position in the stream of disconnect events.
// Returns its notes, without these. `admin`, `history`, `signaling` and
// `disconnects` may be null.
std::string ReadNotes(takeover::Predecessor* old_process,
                      admin::AdminServer* admin, admin::SessionHistory* history,
                      Signaling* signaling, RedisDisconnectSource* disconnects,
                      Logger* logger);

// The two parts of the notes, which are one JSON object. The joins are left out
// if they would make the notes too long.
std::string AddJoinsToNotes(std::string notes, std::string joins);
std::string TakeJoinsFromNotes(std::string* notes);

// The same for the position in the stream of disconnect events, see
// RedisDisconnectSource::stream_position. Empty: none.
std::string AddStreamPositionToNotes(std::string notes, std::string position);
std::string TakeStreamPositionFromNotes(std::string* notes);

// Why SIGUSR2 cannot start a new process; empty if it can. `process_id` is this
// process's.
std::string UpgradeObjection(const Settings& settings, bool is_stopping,
                             int process_id);

// Starts `program` with `arguments` and --takeover, and logs it.
void StartUpgrade(const Settings& settings, const std::string& program,
                  const std::vector<std::string>& arguments, Logger* logger);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_UPGRADE_H_
