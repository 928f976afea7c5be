// From what an operator wrote as a backend to the answer of a
// `BackendResolver`.
#ifndef UDPGATE_DNS_BACKEND_TEXT_H_
#define UDPGATE_DNS_BACKEND_TEXT_H_

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/dns/host_lookup.h"

namespace udpgate {

// Reads `text` as a `HostPort`, looks its host up and calls `done` exactly
// once: inline where the host is an IP address or its name is cached, else on
// the thread of `lookup`. Of several addresses it takes the first that
// `HostLookup` reports. The label of the result is `text` without the white
// space around it. Errors: those of `HostPort::Parse` and `HostLookup::Lookup`,
// and InvalidArgument for an address that no datagram can be sent to (0.0.0.0,
// ::, multicast, broadcast).
void ResolveBackendText(absl::string_view text, absl::Duration timeout,
                        HostLookup* lookup, BackendResolver::Callback done);

}  // namespace udpgate

#endif  // UDPGATE_DNS_BACKEND_TEXT_H_
