#include "udpgate/http/internal/forwarded_for.h"

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

// `1.2.3.4`, `1.2.3.4:port`, `v6`, `[v6]` or `[v6]:port`. Invalid: anything
// else.
SocketAddress ParseEntry(absl::string_view entry) {
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(entry);
  if (!address.ok()) {
    if (absl::ConsumePrefix(&entry, "[") && !absl::ConsumeSuffix(&entry, "]")) {
      return SocketAddress();
    }
    address = SocketAddress::FromIpAndPort(entry, 0);
  }
  return address.ok() && address->is_unicast() ? *address : SocketAddress();
}

}  // namespace

SocketAddress ClientOf(const Request& request, const SocketAddress& sender,
                       const CidrList& trusted_proxies) {
  SocketAddress client = sender;
  for (auto it = request.headers.rbegin(); it != request.headers.rend(); ++it) {
    if (!absl::EqualsIgnoreCase(it->name, "x-forwarded-for")) continue;
    absl::string_view rest = it->value;
    while (true) {
      if (!trusted_proxies.Contains(client)) return client;
      const size_t comma = rest.rfind(',');
      const size_t start = comma == absl::string_view::npos ? 0 : comma + 1;
      const SocketAddress address =
          ParseEntry(absl::StripAsciiWhitespace(rest.substr(start)));
      if (!address.is_valid()) return client;
      client = address;
      if (start == 0) break;
      rest = rest.substr(0, comma);
    }
  }
  return client;
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
