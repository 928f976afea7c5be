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
// the thread of `lookup`.
//
// Of several addresses it takes the first that `HostLookup` reports and that a
// datagram can be sent to: one that this host has a route to where there is
// any, IPv4 rather than IPv6. The others are the result's alternatives. All
// clients of the next few seconds (of `HostLookupOptions::success_cache_time`)
// get the same ones. It is not found out whether anything listens there; a
// client whose backend cannot be reached asks again with its next datagrams.
//
// The label of the result is `text` without the white space around it. Errors:
// those of `HostPort::Parse` and `HostLookup::Lookup`, and InvalidArgument
// where no address is one that a datagram can be sent to (0.0.0.0, ::,
// multicast, broadcast).
void ResolveBackendText(absl::string_view text, absl::Duration timeout,
                        HostLookup* lookup, BackendResolver::Callback done);

}  // namespace udpgate

#endif  // UDPGATE_DNS_BACKEND_TEXT_H_
