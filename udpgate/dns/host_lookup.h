// Looks up host names asynchronously. Unlike getaddrinfo(3), a lookup never
// blocks the caller, and it can be stopped while a DNS server hangs.
#ifndef UDPGATE_DNS_HOST_LOOKUP_H_
#define UDPGATE_DNS_HOST_LOOKUP_H_

#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {

//   auto lookup = udpgate::HostLookup::Create({});
//   (*lookup)->Lookup("lobby-3.internal", absl::Seconds(3),
//                     [](absl::StatusOr<std::vector<SocketAddress>> found) {
//                       if (found.ok()) Use(found->front().WithPort(19132));
//                     });
//
// Names are resolved as resolv.conf(5) and nsswitch.conf(5) say: in /etc/hosts,
// then through DNS, with the search list, for IPv4 and IPv6. A change of these
// files is noticed within `files_check_interval` while lookups are pending, or
// by `Reload`: the cache is cleared, and pending queries start again with the
// servers named now. Concurrent lookups of one name share one query.
//
// Both address families are queried at once. If one family has an address that
// there is a route to, the other one is awaited for `family_grace` only. If one
// family says that there is no such name, the other one gets that time too (if
// IPv6 says so, IPv4 gets one `attempt_timeout`, since some servers say so of
// IPv6 addresses alone: RFC 4074, section 4.2); then the next name of the
// search list is tried.
//
// Threads: `Lookup` may be called from any thread at any time. The HostLookup
// has one thread of its own, "udpgate-dns".
// The destructor returns within some 10 ms and completes pending lookups with
// Cancelled. It must not run inside a callback, so a callback must not own the
// last reference.
class UDPGATE_EXPORT HostLookup {
 public:
  using Callback =
      absl::AnyInvocable<void(absl::StatusOr<std::vector<SocketAddress>>)>;

  // Errors: InvalidArgument from `HostLookupOptions::Validate`,
  // ResourceExhausted if no thread or descriptor is left.
  static absl::StatusOr<std::shared_ptr<HostLookup>> Create(
      HostLookupOptions options);

  ~HostLookup();
  HostLookup(const HostLookup&) = delete;
  HostLookup& operator=(const HostLookup&) = delete;

  // Finds the addresses of `host`, with port 0: 1 to 8 of each family.
  // Addresses that this host has a route to come first, so that a name with
  // both families also serves a host that has one of them. Within each group
  // IPv4 comes first; otherwise the order of the response stays, which a DNS
  // server may change with each query to spread the load. If there is no route
  // to any, all are returned: the route may exist when they are used. The
  // result of an IP address is that address.
  //
  // Returns within microseconds. `done` is called exactly once: inline if the
  // result is known (an IP address, a cached result, a full queue), else on the
  // thread of the HostLookup, which it must not block. Errors:
  //   InvalidArgument    `host` is not a valid host name
  //   NotFound           there is no such name, or it has no address
  //   DeadlineExceeded   no result within `timeout`, or no server responded
  //   Unavailable        the DNS servers fail or refuse, or the resolver
  //                      rejects the name
  //   ResourceExhausted  too many lookups are pending
  //   Cancelled          the HostLookup was destroyed
  void Lookup(absl::string_view host, absl::Duration timeout, Callback done);

  // Clears the cache and reads the system's files again, changed or not.
  // Returns immediately. Threads: any.
  void Reload();

 private:
  class Impl;
  explicit HostLookup(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_DNS_HOST_LOOKUP_H_
