// A child process whose output a test can wait for.
//
//   ChildProcessOptions options;
//   options.arguments = {"/usr/bin/redis-server", "--port", "0"};
//   auto child = ChildProcess::Start(options);
//   ASSERT_TRUE((*child)->AwaitOutput("Ready to accept"));
//
// It never outlives the test: it is killed with its object, and the kernel
// kills it where the thread that started it dies (PR_SET_PDEATHSIG, prctl(2)).
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_CHILD_PROCESS_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_CHILD_PROCESS_H_

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {

struct ChildProcessOptions {
  // The program first; searched for in this process's PATH where it holds no
  // slash.
  std::vector<std::string> arguments;
  // The whole environment: nothing is inherited.
  std::map<std::string, std::string> environment;
  // Empty: this process's.
  std::string working_directory;
  // Soft and hard limit of open files, where not 0; see setrlimit(2).
  size_t open_files_soft_max = 0;
  size_t open_files_hard_max = 0;
};

// How a process ended.
struct ExitResult {
  // The status of a process that exited by itself, else -1.
  int status = -1;
  // The signal that ended it, else 0.
  int signal = 0;
  // From the call that waited (or signalled) until it was gone.
  absl::Duration duration;

  bool exited_with(int expected) const { return status == expected; }
};

// Threads: one thread at a time, but `output` and `AwaitOutput` may be called
// from any thread at any time.
class ChildProcess {
 public:
  // Standard input is /dev/null; standard output and standard error are
  // captured together; no other descriptor is inherited. An error where there
  // is no such program.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const ChildProcessOptions& options);

  // Kills it where it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  bool running() const;

  // What it has written so far; at most the first 16 MiB.
  std::string output() const;

  // Waits until the output, from byte `from` on, holds `text`. False where it
  // does not within `timeout` or the process ended without it.
  bool AwaitOutput(absl::string_view text,
                   absl::Duration timeout = kAwaitTimeout, size_t from = 0);

  // Fills the pipe that the child writes to and reads no more from it, as a
  // terminal that is stopped: a child that waits for room there hangs.
  // `AwaitExit` reads on after the end.
  void HoldOutput();

  // kill(2). Harmless after the end.
  void Signal(int signal);

  // Waits until it has ended and all that it wrote is read. Does not wait for
  // processes that it has left behind. DeadlineExceeded where it still runs
  // after `timeout`.
  absl::StatusOr<ExitResult> AwaitExit(absl::Duration timeout = kAwaitTimeout);

  // `Signal` and `AwaitExit`.
  absl::StatusOr<ExitResult> SignalAndAwaitExit(
      int signal, absl::Duration timeout = kAwaitTimeout);

 private:
  ChildProcess(pid_t pid, internal::UniqueFd pid_fd,
               internal::UniqueFd output_fd);
  void ReadOutput();
  // False if nobody can write any more.
  bool ReadWhatIsThere();
  void ReleaseOutput();

  const pid_t pid_;
  const internal::UniqueFd pid_fd_;
  const internal::UniqueFd output_fd_;
  // An eventfd that ends the reader.
  const internal::UniqueFd stop_fd_;
  bool reaped_ = false;
  ExitResult result_;

  mutable internal::Mutex mutex_;
  internal::ConditionVariable output_changed_;
  std::string output_ ABSL_GUARDED_BY(mutex_);
  bool output_held_ ABSL_GUARDED_BY(mutex_) = false;
  bool reader_waits_ ABSL_GUARDED_BY(mutex_) = false;
  // The process has ended, and all that it wrote is in `output_`.
  bool output_drained_ ABSL_GUARDED_BY(mutex_) = false;
  // Nobody holds the pipe open any more.
  bool output_complete_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread reader_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_CHILD_PROCESS_H_
