#include "cli/upgrade.h"

#include <sys/types.h>

#include <cstddef>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "cli/admin_endpoint.h"
#include "cli/listen_sockets.h"
#include "cli/system/new_process.h"
#include "nlohmann/json.hpp"
#include "udpgate/admin/carried_over.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace cli {
namespace {

constexpr char kJoinsMember[] = "joins";
// Below what AwaitSuccessor leaves out.
constexpr size_t kNotesBytesMax = 3 << 20;
constexpr char kStreamPositionMember[] = "disconnect_stream_position";
// No list of joins begins so.
constexpr char kStoreRunMark[] = "store-run ";

// Leaves an empty value out, and one that would make the notes too long.
std::string AddMember(std::string notes, const char* name, std::string value) {
  if (value.empty() || notes.size() + value.size() > kNotesBytesMax) {
    return notes;
  }
  nlohmann::json object =
      nlohmann::json::parse(notes, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) object = nlohmann::json::object();
  object[name] = std::move(value);
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Empty if there is no such text.
std::string TakeMember(std::string* notes, const char* name) {
  nlohmann::json object =
      nlohmann::json::parse(*notes, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return "";
  const auto found = object.find(name);
  if (found == object.end()) return "";
  std::string value;
  if (found->is_string()) value = found->get<std::string>();
  object.erase(found);
  *notes =
      object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return value;
}

}  // namespace

absl::Status TakeOverSessions(takeover::Predecessor* old_process,
                              Signaling* signaling, SessionKeeping* keeping,
                              Proxy* proxy, Logger* logger) {
  bool has_run = false;
  const absl::StatusOr<takeover::TakenOver> taken =
      old_process->TakeOver(proxy, [&](std::string encoded, bool is_late) {
        const HostState state = DecodeHostState(std::move(encoded));
        if (signaling != nullptr) signaling->ImportJoins(state.joins);
        if (keeping == nullptr || is_late) return;
        has_run = true;
        keeping->ContinueRun(state.store_run);
      });
  if (keeping != nullptr && taken.ok() && !has_run) keeping->ContinueRun("");
  if (!taken.ok()) {
    return absl::Status(taken.status().code(),
                        absl::StrCat("--takeover: ", taken.status().message()));
  }
  logger->Log(
      LogSeverity::kInfo,
      absl::StrCat("took over ", taken->session_count, " sessions, ",
                   taken->session_count - taken->late_count,
                   " of them prepared in advance; forwarding paused for ",
                   absl::FormatDuration(
                       absl::Trunc(taken->pause, absl::Microseconds(1)))));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<takeover::TakeoverServer>> StartTakeoverServer(
    const Settings& settings, const std::string& old_path,
    const admin::AdminServer* admin, Signaling* signaling,
    SessionKeeping* keeping, Proxy* proxy,
    std::function<void()> on_handed_over) {
  if (settings.takeover_socket.empty()) return nullptr;
  takeover::TakeoverServerOptions options;
  options.socket_path = settings.takeover_socket;
  options.predecessor_path = old_path;
  if (admin != nullptr) {
    options.extra_sockets[kAdminSocket] = admin->listen_fd();
  }
  if (signaling != nullptr) {
    options.extra_sockets[kNetherNetSocket] = signaling->listen_fd();
  }
  if (signaling != nullptr || keeping != nullptr) {
    options.host_state = [signaling, keeping](bool is_late) {
      HostState state;
      if (signaling != nullptr) state.joins = signaling->ExportJoins(is_late);
      if (keeping != nullptr && !is_late) {
        state.store_run = keeping->ExportRun();
      }
      return EncodeHostState(state);
    };
  }
  options.log_sink = settings.proxy.log_sink;
  absl::StatusOr<std::unique_ptr<takeover::TakeoverServer>> server =
      takeover::TakeoverServer::Create(options, proxy,
                                       std::move(on_handed_over));
  absl::Status status = server.ok() ? (*server)->Start() : server.status();
  if (status.ok()) return server;
  return absl::Status(status.code(),
                      absl::StrCat("TAKEOVER_SOCKET: ", status.message()));
}

std::string EncodeHostState(const HostState& state) {
  if (state.store_run.empty()) return state.joins;
  return absl::StrCat(kStoreRunMark, absl::Base64Escape(state.store_run), "\n",
                      state.joins);
}

HostState DecodeHostState(std::string encoded) {
  HostState state;
  absl::string_view rest = encoded;
  if (absl::ConsumePrefix(&rest, kStoreRunMark)) {
    const size_t end = rest.find('\n');
    if (end != absl::string_view::npos &&
        absl::Base64Unescape(rest.substr(0, end), &state.store_run)) {
      state.joins = std::string(rest.substr(end + 1));
      return state;
    }
  }
  state.joins = std::move(encoded);
  return state;
}

std::string NotesForNewProcess(const admin::AdminServer* admin,
                               const admin::SessionHistory* history,
                               Signaling* signaling, std::string given) {
  std::string notes = std::move(given);
  if (admin != nullptr) {
    admin::CarriedOver carried;
    carried.counters = admin->Counters();
    if (history != nullptr) carried.history = history->Save();
    notes = admin::EncodeCarriedOver(carried);
  }
  if (signaling == nullptr) return notes;
  return AddJoinsToNotes(std::move(notes),
                         signaling->ExportJoins(/*is_late=*/true));
}

std::string AddJoinsToNotes(std::string notes, std::string joins) {
  // They are binary data.
  return AddMember(std::move(notes), kJoinsMember, absl::Base64Escape(joins));
}

std::string TakeJoinsFromNotes(std::string* notes) {
  std::string joins;
  if (!absl::Base64Unescape(TakeMember(notes, kJoinsMember), &joins)) {
    joins.clear();
  }
  return joins;
}

std::string AddStreamPositionToNotes(std::string notes, std::string position) {
  return AddMember(std::move(notes), kStreamPositionMember,
                   std::move(position));
}

std::string TakeStreamPositionFromNotes(std::string* notes) {
  return TakeMember(notes, kStreamPositionMember);
}

std::string ReadNotes(takeover::Predecessor* old_process,
                      admin::AdminServer* admin, admin::SessionHistory* history,
                      Signaling* signaling, RedisDisconnectSource* disconnects,
                      Logger* logger) {
  // Longer than the old process waits for its last joins.
  constexpr absl::Duration kTimeMax = absl::Seconds(4);
  absl::StatusOr<std::string> notes = old_process->ReadNotes(kTimeMax);
  if (notes.ok()) {
    const std::string joins = TakeJoinsFromNotes(&*notes);
    if (signaling != nullptr) signaling->ImportJoins(joins);
    const std::string position = TakeStreamPositionFromNotes(&*notes);
    if (disconnects != nullptr) disconnects->ContinueStreamFrom(position);
  }
  const absl::StatusOr<admin::CarriedOver> carried =
      notes.ok() ? admin::DecodeCarriedOver(*notes) : notes.status();
  if (!carried.ok()) {
    logger->Log(
        LogSeverity::kWarning,
        absl::StrCat("--takeover: some counters of /metrics restart from 0: ",
                     carried.status().message()));
    return "";
  }
  if (history != nullptr) history->Restore(carried->history);
  if (admin != nullptr) admin->AddCounters(carried->counters);
  return *std::move(notes);
}

std::string UpgradeObjection(const Settings& settings, bool is_stopping,
                             int process_id) {
  if (settings.takeover_socket.empty()) {
    return "TAKEOVER_SOCKET is not set, so no new process can take over";
  }
  if (is_stopping) return "no new process is started during shutdown";
  if (process_id == 1) {
    return "no new process is started, because this process is the first one "
           "of its container, which would end with it; start another container "
           "with --takeover";
  }
  return "";
}

void StartUpgrade(const Settings& settings, const std::string& program,
                  const std::vector<std::string>& arguments, Logger* logger) {
  const absl::StatusOr<pid_t> process = StartNewProcess(
      program, NewProcessArguments(arguments, settings.takeover_socket));
  if (process.ok()) {
    logger->Log(LogSeverity::kInfo,
                absl::StrCat("SIGUSR2: started process ", *process,
                             " for the takeover"));
  } else {
    logger->Log(LogSeverity::kError,
                absl::StrCat("SIGUSR2: cannot start a new process: ",
                             process.status().message()));
  }
}

}  // namespace cli
}  // namespace udpgate
