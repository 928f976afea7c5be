#include "cli/upgrade.h"

#include <sys/types.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/admin_endpoint.h"
#include "cli/system/new_process.h"
#include "udpgate/admin/carried_over.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace cli {

absl::Status TakeOverSessions(takeover::Predecessor* old_process, Proxy* proxy,
                              Logger* logger) {
  const absl::StatusOr<takeover::TakenOver> taken =
      old_process->TakeOver(proxy);
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
    const admin::AdminServer* admin, Proxy* proxy,
    std::function<void()> on_handed_over) {
  if (settings.takeover_socket.empty()) return nullptr;
  takeover::TakeoverServerOptions options;
  options.socket_path = settings.takeover_socket;
  options.predecessor_path = old_path;
  if (admin != nullptr) {
    options.extra_sockets[kAdminSocket] = admin->listen_fd();
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

std::string NotesForNewProcess(const admin::AdminServer* admin,
                               const admin::SessionHistory* history,
                               std::string given) {
  if (admin == nullptr) return given;
  admin::CarriedOver carried;
  carried.counters = admin->Counters();
  if (history != nullptr) carried.history = history->Save();
  return admin::EncodeCarriedOver(carried);
}

std::string ReadNotes(takeover::Predecessor* old_process,
                      admin::AdminServer* admin, admin::SessionHistory* history,
                      Logger* logger) {
  constexpr absl::Duration kTimeMax = absl::Seconds(2);
  absl::StatusOr<std::string> notes = old_process->ReadNotes(kTimeMax);
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
