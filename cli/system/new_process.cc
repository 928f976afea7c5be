#include "cli/system/new_process.h"

#include <fcntl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace cli {
namespace {

constexpr absl::string_view kTakeoverFlag = "--takeover";

// For one process only (sd_watchdog_enabled(3), sd_listen_fds(3)).
bool IsOfOneProcess(absl::string_view variable) {
  for (const absl::string_view name :
       {"WATCHDOG_PID=", "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES="}) {
    if (absl::StartsWith(variable, name)) return true;
  }
  return false;
}

std::vector<char*> Pointers(std::vector<std::string>* texts) {
  std::vector<char*> pointers;
  for (std::string& text : *texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// What the processes in between report about the new process.
struct Outcome {
  pid_t process;
  int error;
};

bool ReadOutcome(int fd, Outcome* outcome) {
  ssize_t size;
  do {
    size = read(fd, outcome, sizeof(*outcome));
  } while (size < 0 && errno == EINTR);
  return size == static_cast<ssize_t>(sizeof(*outcome));
}

void WriteOutcome(int fd, const Outcome& outcome) {
  // A pipe accepts so little immediately, and nobody is left to report to.
  if (write(fd, &outcome, sizeof(outcome)) < 0) _exit(1);
}

// In the child: starts the new process and exits, so that the new process is
// adopted. The service manager can only wait for children of its own.
[[noreturn]] void BecomeParent(char* const* argv, char* const* environment,
                               int pipe_fd) {
  // The caller's thread blocks all signals.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const pid_t process = fork();
  if (process == 0) {
    execvpe(argv[0], argv, environment);
    WriteOutcome(pipe_fd, {0, errno});
    _exit(1);
  }
  WriteOutcome(pipe_fd, {process, process < 0 ? errno : 0});
  _exit(0);
}

}  // namespace

std::vector<std::string> NewProcessArguments(
    const std::vector<std::string>& arguments, const std::string& socket_path) {
  std::vector<std::string> result;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == kTakeoverFlag) {
      ++i;
    } else if (!absl::StartsWith(arguments[i],
                                 absl::StrCat(kTakeoverFlag, "="))) {
      result.push_back(arguments[i]);
    }
  }
  // First: what follows "--" is no flag.
  result.insert(result.begin(), {std::string(kTakeoverFlag), socket_path});
  return result;
}

absl::StatusOr<pid_t> StartNewProcess(
    const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> texts = {program};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!IsOfOneProcess(*variable)) variables.emplace_back(*variable);
  }
  const std::vector<char*> argv = Pointers(&texts);
  const std::vector<char*> environment = Pointers(&variables);
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "pipe2");
  }
  const auto close_pipe = absl::MakeCleanup([&] { close(pipe_fds[0]); });
  const pid_t child = fork();
  if (child < 0) {
    const int error = errno;
    close(pipe_fds[1]);
    return absl::ErrnoToStatus(error, "fork");
  }
  // Only what is safe in a signal handler, since this process has threads.
  if (child == 0) BecomeParent(argv.data(), environment.data(), pipe_fds[1]);
  close(pipe_fds[1]);
  waitpid(child, nullptr, 0);
  Outcome outcome{};
  pid_t process = 0;
  // One outcome with the process id, and a second one if execvpe has failed.
  // Ends when no process has the pipe open.
  while (ReadOutcome(pipe_fds[0], &outcome)) {
    if (outcome.error != 0) return absl::ErrnoToStatus(outcome.error, program);
    process = outcome.process;
  }
  if (process == 0) return absl::InternalError("a new process did not report");
  return process;
}

}  // namespace cli
}  // namespace udpgate
