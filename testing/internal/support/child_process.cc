#include "testing/internal/support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace test {
namespace {

constexpr size_t kOutputBytesMax = 16 << 20;

// execvpe(3) is not safe between fork and exec of a process with threads.
std::string FindProgram(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = std::getenv("PATH");
  for (absl::string_view directory : absl::StrSplit(
           path != nullptr ? path : "/usr/bin:/bin:/usr/local/bin", ':')) {
    std::string candidate = absl::StrCat(directory, "/", name);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return name;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& string : strings) {
    pointers.push_back(const_cast<char*>(string.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// All that the child needs, made before the fork.
struct Execution {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::string working_directory;
  rlimit open_files;
  int input_fd;
  int output_fd;
  int error_fd;
  pid_t parent;
};

// Runs in the child: only what is safe after a fork (signal-safety(7)).
[[noreturn]] void Execute(const Execution& execution, char* const* arguments,
                          char* const* environment) {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before the line above.
  if (::getppid() != execution.parent) ::_exit(127);
  bool ok = ::dup2(execution.input_fd, 0) == 0 &&
            ::dup2(execution.output_fd, 1) == 1 &&
            ::dup2(execution.output_fd, 2) == 2;
  if (!execution.working_directory.empty()) {
    ok = ok && ::chdir(execution.working_directory.c_str()) == 0;
  }
  if (execution.open_files.rlim_max != 0) {
    ok = ok && ::setrlimit(RLIMIT_NOFILE, &execution.open_files) == 0;
  }
  if (ok) ::execve(execution.program.c_str(), arguments, environment);
  const int error = errno;
  const ssize_t ignored = ::write(execution.error_fd, &error, sizeof(error));
  static_cast<void>(ignored);
  ::_exit(127);
}

int WaitMilliseconds(absl::Time deadline) {
  const int64_t left =
      absl::ToInt64Milliseconds(absl::Ceil(deadline - absl::Now(),  //
                                           absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const ChildProcessOptions& options) {
  if (options.arguments.empty()) {
    return absl::InvalidArgumentError("no program");
  }
  int output_pipe[2];
  int error_pipe[2];
  if (::pipe2(output_pipe, O_CLOEXEC) != 0) {
    return internal::ErrnoToStatus(errno, "pipe2");
  }
  internal::UniqueFd output_read(output_pipe[0]);
  internal::UniqueFd output_write(output_pipe[1]);
  // Of this end only: the child's end blocks.
  if (::fcntl(output_read.get(), F_SETFL, O_NONBLOCK) != 0) {
    return internal::ErrnoToStatus(errno, "fcntl");
  }
  if (::pipe2(error_pipe, O_CLOEXEC) != 0) {
    return internal::ErrnoToStatus(errno, "pipe2");
  }
  internal::UniqueFd error_read(error_pipe[0]);
  internal::UniqueFd error_write(error_pipe[1]);
  internal::UniqueFd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));

  Execution execution;
  execution.program = FindProgram(options.arguments[0]);
  execution.arguments = options.arguments;
  for (const auto& [name, value] : options.environment) {
    execution.environment.push_back(absl::StrCat(name, "=", value));
  }
  execution.working_directory = options.working_directory;
  execution.open_files = {options.open_files_soft_max,
                          options.open_files_hard_max};
  execution.input_fd = input.get();
  execution.output_fd = output_write.get();
  execution.error_fd = error_write.get();
  execution.parent = ::getpid();
  const std::vector<char*> arguments = Pointers(execution.arguments);
  const std::vector<char*> environment = Pointers(execution.environment);

  const pid_t pid = ::fork();
  if (pid < 0) return internal::ErrnoToStatus(errno, "fork");
  if (pid == 0) Execute(execution, arguments.data(), environment.data());

  output_write.Reset();
  error_write.Reset();
  // An end of file here says that the program replaced the fork.
  int error = 0;
  if (::read(error_read.get(), &error, sizeof(error)) == sizeof(error)) {
    ::waitpid(pid, nullptr, 0);
    return internal::ErrnoToStatus(error,
                                   absl::StrCat("exec ", execution.program));
  }
  internal::UniqueFd pid_fd(
      static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pid_fd.is_open()) {
    const int pidfd_error = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return internal::ErrnoToStatus(pidfd_error, "pidfd_open");
  }
  return std::unique_ptr<ChildProcess>(
      new ChildProcess(pid, std::move(pid_fd), std::move(output_read)));
}

ChildProcess::ChildProcess(pid_t pid, internal::UniqueFd pid_fd,
                           internal::UniqueFd output_fd)
    : pid_(pid),
      pid_fd_(std::move(pid_fd)),
      output_fd_(std::move(output_fd)),
      stop_fd_(::eventfd(0, EFD_CLOEXEC)) {
  reader_ = std::thread([this] { ReadOutput(); });
}

ChildProcess::~ChildProcess() {
  Signal(SIGKILL);
  AwaitExit(absl::Hours(1)).IgnoreError();
  // Another process may hold the pipe open.
  ::eventfd_write(stop_fd_.get(), 1);
  reader_.join();
}

void ChildProcess::ReadOutput() {
  bool has_ended = false;
  for (;;) {
    pollfd events[] = {{output_fd_.get(), POLLIN, 0},
                       {stop_fd_.get(), POLLIN, 0},
                       // Ready for good after the end.
                       {has_ended ? -1 : pid_fd_.get(), POLLIN, 0}};
    if (::poll(events, 3, -1) < 0) continue;
    if (events[1].revents != 0) return;
    // What it wrote is in the pipe by now.
    has_ended |= events[2].revents != 0;
    const bool is_closed = !ReadWhatIsThere();
    internal::MutexLock lock(&mutex_);
    output_drained_ = has_ended || is_closed;
    output_complete_ = is_closed;
    output_changed_.SignalAll();
    if (is_closed) return;
  }
}

bool ChildProcess::ReadWhatIsThere() {
  char buffer[4096];
  for (;;) {
    const ssize_t size = ::read(output_fd_.get(), buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return true;
    if (size <= 0) return false;
    internal::MutexLock lock(&mutex_);
    const size_t room = kOutputBytesMax - output_.size();
    output_.append(buffer, std::min(static_cast<size_t>(size), room));
    output_changed_.SignalAll();
    while (output_held_) {
      reader_waits_ = true;
      output_changed_.Wait(&mutex_);
    }
  }
}

void ChildProcess::HoldOutput() {
  {
    internal::MutexLock lock(&mutex_);
    output_held_ = true;
  }
  // An end of our own that does not block, whatever the child's end does.
  const internal::UniqueFd end(
      ::open(absl::StrCat("/proc/self/fd/", output_fd_.get()).c_str(),
             O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  // The reader takes one more piece before it waits; what comes after that
  // fills the pipe for good.
  AwaitTrue([&] {
    bool reader_waits;
    {
      internal::MutexLock lock(&mutex_);
      reader_waits = reader_waits_;
    }
    while (::write(end.get(), "\n", 1) == 1) {
    }
    return reader_waits;
  });
}

void ChildProcess::ReleaseOutput() {
  internal::MutexLock lock(&mutex_);
  output_held_ = false;
  output_changed_.SignalAll();
}

bool ChildProcess::running() const {
  if (reaped_) return false;
  pollfd ended = {pid_fd_.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 0;
}

std::string ChildProcess::output() const {
  internal::MutexLock lock(&mutex_);
  return output_;
}

bool ChildProcess::AwaitOutput(absl::string_view text, absl::Duration timeout,
                               size_t from) {
  const absl::Time deadline = absl::Now() + timeout;
  internal::MutexLock lock(&mutex_);
  for (;;) {
    if (output_.find(text.data(), from, text.size()) != std::string::npos) {
      return true;
    }
    const absl::Duration left = deadline - absl::Now();
    if (output_complete_ || left <= absl::ZeroDuration()) return false;
    output_changed_.WaitFor(&mutex_, absl::ToChronoNanoseconds(left));
  }
}

void ChildProcess::Signal(int signal) {
  // Until it is reaped its id cannot name another process.
  if (!reaped_) ::kill(pid_, signal);
}

absl::StatusOr<ExitResult> ChildProcess::AwaitExit(absl::Duration timeout) {
  if (reaped_) return result_;
  const absl::Time begin = absl::Now();
  const absl::Time deadline = begin + timeout;
  pollfd ended = {pid_fd_.get(), POLLIN, 0};
  int ready;
  do {
    ready = ::poll(&ended, 1, WaitMilliseconds(deadline));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    return absl::DeadlineExceededError(
        absl::StrCat("process ", pid_, " still runs"));
  }
  result_.duration = absl::Now() - begin;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) result_.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result_.signal = WTERMSIG(status);
  reaped_ = true;
  ReleaseOutput();
  internal::MutexLock lock(&mutex_);
  while (!output_drained_) output_changed_.Wait(&mutex_);
  return result_;
}

absl::StatusOr<ExitResult> ChildProcess::SignalAndAwaitExit(
    int signal, absl::Duration timeout) {
  Signal(signal);
  return AwaitExit(timeout);
}

}  // namespace test
}  // namespace udpgate
