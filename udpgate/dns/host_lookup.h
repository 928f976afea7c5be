// Looks up host names without ever making the caller wait, and stops at once
// when it is told to, also while a DNS server hangs; getaddrinfo(3) can
// neither.
#ifndef UDPGATE_DNS_HOST_LOOKUP_H_
#define UDPGATE_DNS_HOST_LOOKUP_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/socket_address.h"

namespace udpgate {

struct HostLookupOptions {
  // How long an answer is used again, and how long a failure. Short, since a
  // name may move to another server at any moment; long enough that a crowd of
  // new clients costs a few queries. 0: not at all. Up to 1 hour.
  absl::Duration success_cache_time = absl::Seconds(5);
  absl::Duration failure_cache_time = absl::Seconds(1);

  // Names in the cache at most. 1 to 1,000,000.
  int cache_entries_max = 256;

  // Look-ups without an answer yet, and names being asked for, at most. 1 to
  // 1,000,000.
  int lookups_waiting_max = 4096;

  // How long one DNS server may take to answer the first question, and how
  // often each is asked; the time doubles with each round. 1 ms to 1 minute; 1
  // to 10.
  absl::Duration attempt_timeout = absl::Seconds(1);
  int attempts_max = 3;

  // DNS servers to ask, `ip:port` separated by commas. Empty: those of
  // resolv.conf(5).
  std::string dns_servers;

  // Tells whether this host could send a datagram to an address (its port means
  // nothing); called on the thread of the HostLookup where a name has several
  // addresses. Must not block. Null: asks the kernel for a route, by connect(2)
  // of a UDP socket, which sends nothing.
  std::function<bool(const SocketAddress&)> has_route;

  // Tells the age of cached answers; the time-outs of look-ups run in real
  // time whatever it says. Null: `Clock::Monotonic()`. Must outlive the
  // HostLookup.
  const Clock* clock = nullptr;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

//   auto lookup = udpgate::HostLookup::Create({});
//   (*lookup)->Lookup("lobby-3.internal", absl::Seconds(3),
//                     [](absl::StatusOr<std::vector<SocketAddress>> found) {
//                       if (found.ok()) Use(found->front().WithPort(19132));
//                     });
//
// Names are looked up as resolv.conf(5) says (search domains too): in
// /etc/hosts, then through DNS, for IPv4 and IPv6. resolv.conf is read once, by
// `Create`, /etc/hosts for each query. Look-ups of one name that run at the
// same time share one query.
//
// Threads: `Lookup` may be called from any thread at any time. It has one
// thread of its own, "udpgate-dns".
// The destructor returns within some 10 ms and answers what still waits with
// Cancelled. It must not run inside a callback, so a callback must not own the
// last reference.
class HostLookup {
 public:
  using Callback =
      absl::AnyInvocable<void(absl::StatusOr<std::vector<SocketAddress>>)>;

  // Errors: InvalidArgument from `HostLookupOptions::Validate`,
  // ResourceExhausted where there is no thread or descriptor left.
  static absl::StatusOr<std::shared_ptr<HostLookup>> Create(
      HostLookupOptions options);

  ~HostLookup();
  HostLookup(const HostLookup&) = delete;
  HostLookup& operator=(const HostLookup&) = delete;

  // Finds the addresses of `host`, with port 0: 1 to 8 of a family. Those that
  // this host has a route to come first, so that a name with both families also
  // serves a host that has one of them; among them, and among the others, the
  // IPv4 ones come first; what remains is the order of the answer, which a DNS
  // server may change with each query to spread the load. Where there is no
  // route to any, all are reported: what is missing may be there when they are
  // used. An IP address is its own answer.
  //
  // Returns within microseconds. `done` is called exactly once: inline where
  // the answer is at hand (an IP address, a cached answer, a full queue), else
  // on the thread of the HostLookup, which it must not block. Errors:
  //   InvalidArgument    `host` cannot be a host name
  //   NotFound           there is no such name, or it has no address
  //   DeadlineExceeded   no answer within `timeout`, or no server answered
  //   Unavailable        the DNS servers fail or refuse
  //   ResourceExhausted  too many look-ups wait already
  //   Cancelled          the HostLookup was destroyed
  void Lookup(absl::string_view host, absl::Duration timeout, Callback done);

 private:
  class Impl;
  explicit HostLookup(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_DNS_HOST_LOOKUP_H_
