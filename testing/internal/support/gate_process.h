// The real gate as a child process, with an environment and a working
// directory of its own.
//
//   udpgate::test::GateProcessOptions options;
//   options.environment = {{"REDIS_ADDR", redis.tcp_address()}};
//   udpgate::test::GateProcess gate(path_of_udp_gate, options);
//   ASSERT_TRUE(gate.Start().ok());
//   client.Ask(gate.address(), "hello");
//   absl::StatusOr<ExitResult> end = gate.Terminate();
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_GATE_PROCESS_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_GATE_PROCESS_H_

#include <signal.h>
#include <sys/types.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

struct GateProcessOptions {
  // Settings as environment variables, and all of the environment.
  // PROXY_ADDR is `127.0.0.1:0` where neither it nor the flag is given.
  std::map<std::string, std::string> environment;
  // {"--worker-count=4"}.
  std::vector<std::string> flags;
  // The content of `.env` in the working directory; none where empty.
  std::string dot_env;
  // See ChildProcessOptions.
  size_t open_files_soft_max = 0;
  size_t open_files_hard_max = 0;
};

// Threads: as ChildProcess.
class GateProcess {
 public:
  GateProcess(std::string path, GateProcessOptions options);

  // Runs the program, without waiting for anything: for what ends by itself.
  absl::Status Launch();
  // `Launch`, and waits until it listens.
  absl::Status Start();

  // Where it listens, as its log says. Valid after `Start`.
  const SocketAddress& address() const { return address_; }
  // Where its endpoint for operators listens, as its log said last; invalid if
  // there is none.
  SocketAddress AdminAddress() const;
  pid_t pid() const { return process_->pid(); }
  bool running() const { return process_->running(); }

  // What it has logged (and written to standard output) so far.
  std::string log() const { return process_->output(); }
  // Waits until the log, from byte `from` on, holds `text`.
  bool AwaitLog(absl::string_view text, absl::Duration timeout = kAwaitTimeout,
                size_t from = 0);

  // See ChildProcess.
  void HoldLog() { process_->HoldOutput(); }

  void Signal(int signal) { process_->Signal(signal); }
  absl::StatusOr<ExitResult> AwaitExit(absl::Duration timeout = kAwaitTimeout);
  // Sends the signal and waits; `ExitResult::duration` is how long it took.
  absl::StatusOr<ExitResult> Terminate(int signal = SIGTERM);

  // To put files in. It is the gateway's working directory.
  TemporaryDirectory& directory() { return directory_; }

 private:
  const std::string path_;
  const GateProcessOptions options_;
  TemporaryDirectory directory_;
  SocketAddress address_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_GATE_PROCESS_H_
