// The next gate, which takes over from this one.
#ifndef UDPGATE_CLI_SUCCESSOR_H_
#define UDPGATE_CLI_SUCCESSOR_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace udpgate {
namespace cli {

// The arguments of a successor: those of this process, but for a `--takeover`
// of its own, and `--takeover socket_path`.
std::vector<std::string> SuccessorArguments(
    const std::vector<std::string>& arguments, const std::string& socket_path);

// Runs `program`, found as a shell would find it, which may be a newer one by
// now, with these arguments and this process's environment; what that says to
// this process alone is left out (WATCHDOG_PID, LISTEN_PID and the like).
// Returns its process id. It is no child of this process but of the first one,
// or of its service manager, which waits for it. What fork(2) and execvpe(3)
// report, with the name. Threads: any, while nobody changes the environment.
absl::StatusOr<pid_t> StartSuccessor(const std::string& program,
                                     const std::vector<std::string>& arguments);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SUCCESSOR_H_
