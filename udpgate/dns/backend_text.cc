#include "udpgate/dns/backend_text.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace {

// `ips` is not empty.
absl::StatusOr<ResolveResult> MakeResult(const std::vector<SocketAddress>& ips,
                                         uint16_t port, std::string label) {
  ResolveResult result;
  for (const SocketAddress& ip : ips) {
    if (!ip.is_unicast()) continue;
    if (!result.backend.is_valid()) {
      result.backend = ip.WithPort(port);
    } else {
      result.alternatives.push_back(ip.WithPort(port));
    }
  }
  if (!result.backend.is_valid()) {
    return absl::InvalidArgumentError(
        absl::StrCat("backend ", label, ": ", ips.front().IpToString(),
                     " is not a unicast address"));
  }
  result.label = std::move(label);
  return result;
}

}  // namespace

void ResolveBackendText(absl::string_view text, absl::Duration timeout,
                        HostLookup* lookup, BackendResolver::Callback done) {
  absl::StatusOr<HostPort> backend = HostPort::Parse(text);
  if (!backend.ok()) {
    done(backend.status());
    return;
  }
  lookup->Lookup(
      backend->host, timeout,
      [label = std::string(absl::StripAsciiWhitespace(text)),
       port = backend->port, done = std::move(done)](
          absl::StatusOr<std::vector<SocketAddress>> addresses) mutable {
        if (addresses.ok()) {
          done(MakeResult(*addresses, port, std::move(label)));
        } else {
          done(addresses.status());
        }
      });
}

}  // namespace udpgate
