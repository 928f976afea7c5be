// Resolves a backend that is written as `host:port`.
#ifndef UDPGATE_DNS_BACKEND_TEXT_H_
#define UDPGATE_DNS_BACKEND_TEXT_H_

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"

namespace udpgate {

// Parses `text` as a `HostPort`, looks its host up and calls `done` exactly
// once: inline if the host is an IP address or its name is cached, else on the
// thread of `lookup`.
//
// If there are several addresses, the backend is the first unicast address that
// `HostLookup` returns: one that this host has a route to if there is any, IPv4
// rather than IPv6. The others are the result's alternatives. All clients of
// the next few seconds (`HostLookupOptions::success_cache_time`) get the same
// ones. Whether anything listens there is not checked; if a client's backend
// cannot be reached, its next datagrams resolve again.
//
// The label of the result is `text` without the white space around it. Errors:
// those of `HostPort::Parse` and `HostLookup::Lookup`, and InvalidArgument if
// no address is a unicast address (0.0.0.0, ::, multicast, broadcast).
UDPGATE_EXPORT void ResolveBackendText(absl::string_view text,
                                       absl::Duration timeout,
                                       HostLookup* lookup,
                                       BackendResolver::Callback done);

}  // namespace udpgate

#endif  // UDPGATE_DNS_BACKEND_TEXT_H_
