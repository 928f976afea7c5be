// The log of `udp-gate`: lines to stderr that never block the program.
//
// If the output is blocked (a stopped terminal, a full pipe or disk), the line
// is dropped and counted, and the next line that is written reports how many
// are missing.
#ifndef UDPGATE_CLI_LOG_LOGGER_H_
#define UDPGATE_CLI_LOG_LOGGER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "cli/log/log_options.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace cli {

// Structured data beside the message.
struct LogField {
  std::string name;
  std::variant<std::string, uint64_t, double> value;
};

//   Logger logger(LogSeverity::kInfo, LogFormat::kText, STDERR_FILENO);
//   logger.Log(LogSeverity::kInfo, "listening on 0.0.0.0:19132");
//
// writes `2026-01-02T03:04:05.678Z info listening on 0.0.0.0:19132`, or
// `{"time":"2026-01-02T03:04:05.678Z","severity":"info","message":"listening on
// 0.0.0.0:19132"}` in one line. Fields follow the message, as `name=value` or
// as members. Control characters are escaped, and a message that is longer than
// a pipe takes in one piece (pipe(7), PIPE_BUF) is cut.
//
// Threads: any number at once. The host ignores SIGPIPE.
class Logger {
 public:
  // Lines less severe than `least` are not written. `fd` is not owned.
  Logger(LogSeverity least, LogFormat format, int fd);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  // The fields together must be short, about 1000 bytes: they are not cut.
  void Log(LogSeverity severity, absl::string_view message,
           const std::vector<LogField>& fields = {});

  // From now on less severe lines are not written.
  void SetLevel(LogSeverity least);

  // For `ProxyOptions::log_sink` and the like. It may outlive the logger.
  LogSink Sink() const;

  // Lines that could not be written so far.
  int64_t dropped_lines() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

// Holds lines back until startup has succeeded, so that a program that cannot
// start reports the reason in one line.
//
//   HeldLog held(logger.Sink());
//   options.log_sink = held.Sink();
//   ...                             // may fail
//   held.Release();
//
// Threads: any number at once.
class HeldLog {
 public:
  // Further lines that are held back are dropped.
  static constexpr size_t kLinesMax = 100;

  explicit HeldLog(LogSink sink);
  ~HeldLog();
  HeldLog(const HeldLog&) = delete;
  HeldLog& operator=(const HeldLog&) = delete;

  // May outlive the object; lines that were never released are lost.
  LogSink Sink() const;

  // Writes the lines held back; later lines are written immediately.
  void Release();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_LOG_LOGGER_H_
