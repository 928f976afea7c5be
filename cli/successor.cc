#include "cli/successor.h"

#include <spawn.h>
#include <unistd.h>

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

}  // namespace

std::vector<std::string> SuccessorArguments(
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

absl::StatusOr<pid_t> StartSuccessor(
    const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> texts = {program};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!IsOfOneProcess(*variable)) variables.emplace_back(*variable);
  }
  // Nobody waits for it: without this it would stay a zombie where it fails.
  std::signal(SIGCHLD, SIG_IGN);
  posix_spawnattr_t attributes;
  if (const int error = posix_spawnattr_init(&attributes); error != 0) {
    return absl::ErrnoToStatus(error, "posix_spawnattr_init");
  }
  const auto destroy =
      absl::MakeCleanup([&] { posix_spawnattr_destroy(&attributes); });
  // This thread blocks all signals.
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  sigset_t child_signal;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  posix_spawnattr_setsigdefault(&attributes, &child_signal);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t process = 0;
  // Every descriptor but the standard ones is close-on-exec.
  const int error =
      posix_spawnp(&process, program.c_str(), nullptr, &attributes,
                   Pointers(&texts).data(), Pointers(&variables).data());
  if (error != 0) return absl::ErrnoToStatus(error, program);
  return process;
}

}  // namespace cli
}  // namespace udpgate
