// What the settings choose about the log.
#ifndef UDPGATE_CLI_LOG_LOG_OPTIONS_H_
#define UDPGATE_CLI_LOG_LOG_OPTIONS_H_

namespace udpgate {
namespace cli {

enum class LogFormat { kText, kJson };

// Which session events are logged.
enum class SessionLog { kOff, kEnd, kAll };

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_LOG_LOG_OPTIONS_H_
