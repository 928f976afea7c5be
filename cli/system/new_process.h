// Starts the process that takes over from this one.
#ifndef UDPGATE_CLI_SYSTEM_NEW_PROCESS_H_
#define UDPGATE_CLI_SYSTEM_NEW_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace udpgate {
namespace cli {

// The arguments of the new process: those of this process without its own
// `--takeover`, and `--takeover socket_path`.
std::vector<std::string> NewProcessArguments(
    const std::vector<std::string>& arguments, const std::string& socket_path);

// Runs `program`, which may have been replaced by a newer version, with these
// arguments and this process's environment, without the variables that are
// meant for this process only (WATCHDOG_PID, LISTEN_PID and the like). PATH is
// searched as by a shell. Returns its process id. It is not a child of this
// process but of process 1 or of the service manager, which waits for it.
// Errors: what fork(2) and execvpe(3) report, with the program's name. Threads:
// any, while none changes the environment.
absl::StatusOr<pid_t> StartNewProcess(
    const std::string& program, const std::vector<std::string>& arguments);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SYSTEM_NEW_PROCESS_H_
