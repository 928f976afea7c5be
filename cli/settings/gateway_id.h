// The name of this gateway among those of a fleet (GATEWAY_ID).
#ifndef UDPGATE_CLI_SETTINGS_GATEWAY_ID_H_
#define UDPGATE_CLI_SETTINGS_GATEWAY_ID_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace udpgate {
namespace cli {

inline constexpr size_t kGatewayIdBytesMax = 64;

// 1 to 64 printable ASCII characters without spaces.
bool IsGatewayId(absl::string_view text);

// The id of a gateway whose host has this name. The kernel allows any bytes in
// a host name (sethostname(2)): those that an id must not have become "-".
std::string GatewayIdOfHost(absl::string_view host_name);

// That of this host, by gethostname(2).
std::string DefaultGatewayId();

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_GATEWAY_ID_H_
