#include "cli/settings/gateway_id.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"

namespace udpgate {
namespace cli {

bool IsGatewayId(absl::string_view text) {
  return !text.empty() && text.size() <= kGatewayIdBytesMax &&
         std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

std::string GatewayIdOfHost(absl::string_view host_name) {
  if (host_name.empty()) return "udp-gate";
  std::string id(host_name.substr(0, kGatewayIdBytesMax));
  std::replace_if(
      id.begin(), id.end(),
      [](unsigned char character) { return !absl::ascii_isgraph(character); },
      '-');
  return id;
}

std::string DefaultGatewayId() {
  // HOST_NAME_MAX of Linux is 64; the last byte stays 0.
  char name[kGatewayIdBytesMax + 2] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) return GatewayIdOfHost("");
  return GatewayIdOfHost(name);
}

}  // namespace cli
}  // namespace udpgate
