// `host:port` as written in a setting or in a Redis key.
#ifndef UDPGATE_DNS_HOST_PORT_H_
#define UDPGATE_DNS_HOST_PORT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"

namespace udpgate {

// A host name or IP address that is not resolved yet, and a port.
//
//   absl::StatusOr<HostPort> backend = HostPort::Parse("lobby-3:19132");
//   backend->host;        // "lobby-3"
//   backend->ToString();  // "lobby-3:19132"
//
// Threads: as a std::string.
struct UDPGATE_EXPORT HostPort {
  // A name, an IPv4 address, or an IPv6 address without brackets.
  std::string host;
  // 1 to 65535.
  uint16_t port = 0;

  // `name:port`, `1.2.3.4:port`, `[v6]:port` or `[v6%interface]:port`; white
  // space around it is ignored. Errors: InvalidArgument, which says what is
  // wrong and quotes the beginning of `text`, escaped.
  static absl::StatusOr<HostPort> Parse(absl::string_view text);

  // As `Parse` takes it, brackets included.
  std::string ToString() const;
};

// OK if `host` is a valid host name: 1 to 253 bytes of labels (RFC 1035,
// section 2.3.4: 1 to 63 bytes each), letters, digits, hyphens not at an end of
// a label (RFC 1123, section 2.1), and underscores, which container networks
// use. One dot may end it. A last label of digits only is rejected, since it
// can only be a mistyped IPv4 address (RFC 3696, section 2). Errors:
// InvalidArgument.
UDPGATE_EXPORT absl::Status ValidateHostName(absl::string_view host);

}  // namespace udpgate

#endif  // UDPGATE_DNS_HOST_PORT_H_
