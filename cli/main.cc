// The program `udp-gate`: parses its arguments, prints what they ask for, and
// runs a `Gateway` until SIGTERM or SIGINT.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/gateway.h"
#include "cli/log/logger.h"
#include "cli/settings/command_line.h"
#include "cli/settings/help.h"
#include "cli/system/signal_calls.h"
#include "cli/system/stop_signal.h"
#include "cli/system/system.h"
#include "udpgate/logging.h"
#include "udpgate/version.h"

namespace udpgate {
namespace cli {
namespace {

constexpr int kExitCannotStart = 1;
constexpr int kExitBadSetting = 2;

// SIGTERM and SIGINT end the process within a second; this leaves room for the
// end itself.
constexpr absl::Duration kStopGrace = absl::Milliseconds(900);

// Writes `text` to standard output.
int Print(const std::string& text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
      std::fflush(stdout) == 0;
  return written ? 0 : kExitCannotStart;
}

int BadSetting(const absl::Status& status) {
  std::fputs(absl::StrCat("udp-gate: ", status.message(), "\n").c_str(),
             stderr);
  return kExitBadSetting;
}

// The log format, for LogOverdue, which exists before the settings.
std::atomic<LogFormat> overdue_format{LogFormat::kText};

// Uses a logger of its own: whatever hangs may hold the other one.
void LogOverdue() {
  Logger(LogSeverity::kWarning, overdue_format, STDERR_FILENO)
      .Log(LogSeverity::kWarning, "shutdown timed out; exiting");
}

int Run(GatewayOptions options, StopSignal* stop_signal, Logger* logger) {
  Gateway gateway(std::move(options), stop_signal, logger);
  const absl::Status status = gateway.Start();
  if (absl::IsCancelled(status)) {
    logger->Log(LogSeverity::kInfo, status.message());
    return 0;
  }
  if (!status.ok()) {
    logger->Log(LogSeverity::kError,
                absl::StrCat("cannot start: ", status.message()));
    return kExitCannotStart;
  }
  gateway.Wait();
  gateway.Stop();
  return 0;
}

int Main(int argc, const char* const* argv) {
  OpenStandardDescriptors();
  // First of all, so that an early signal is obeyed too.
  StopSignal stop_signal(kStopGrace, LogOverdue);
  // A log that nobody reads any more must not end the gateway.
  std::signal(SIGPIPE, SIG_IGN);
  BlockCalledSignals();
  SettingSources sources = SettingSources::OfProcess(argc, argv);
  absl::StatusOr<CommandLine> command_line = ParseCommandLine(sources);
  if (!command_line.ok()) return BadSetting(command_line.status());
  if (command_line->action == CommandLine::Action::kHelp) {
    return Print(HelpText());
  }
  if (command_line->action == CommandLine::Action::kVersion) {
    return Print("udp-gate " UDPGATE_VERSION_STRING "\n");
  }
  if (absl::Status status = ValidateSettings(command_line->settings);
      !status.ok()) {
    return BadSetting(status);
  }
  overdue_format = command_line->settings.log_format;
  Logger logger(command_line->settings.log_level,
                command_line->settings.log_format, STDERR_FILENO);
  for (const std::string& warning : command_line->warnings) {
    logger.Log(LogSeverity::kWarning, warning);
  }
  if (command_line->action == CommandLine::Action::kCheck) {
    if (absl::Status status = CheckFiles(command_line->settings);
        !status.ok()) {
      return BadSetting(status);
    }
    return Print("udp-gate: the settings are valid\n");
  }
  return Run({argv[0], std::move(sources), *std::move(command_line)},
             &stop_signal, &logger);
}

}  // namespace
}  // namespace cli
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::cli::Main(argc, argv); }
