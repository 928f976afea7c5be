// The text of `udp-gate --help`, generated from the table of settings.
#ifndef UDPGATE_CLI_SETTINGS_HELP_H_
#define UDPGATE_CLI_SETTINGS_HELP_H_

#include <string>

namespace udpgate {
namespace cli {

// Lines of at most 80 columns.
std::string HelpText();

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_HELP_H_
