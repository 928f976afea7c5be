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
#include "udpgate/logging.h"
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
  // to 10. `options timeout:` and `options attempts:` of resolv.conf(5) take
  // precedence where its servers are asked.
  absl::Duration attempt_timeout = absl::Seconds(1);
  int attempts_max = 3;

  // Where a name's addresses of one family have come, and there is a route to
  // one of them, the other family's answer is waited for so long (RFC 8305,
  // section 3). 0 to 1 minute.
  absl::Duration family_grace = absl::Milliseconds(50);

  // DNS servers to ask, `ip:port` separated by commas. Empty: those of
  // resolv.conf(5).
  std::string dns_servers;

  // The file of resolv.conf(5), and the port of the servers that it names. 1 to
  // 65535.
  std::string resolv_conf_path = "/etc/resolv.conf";
  int dns_port = 53;

  // How often the files are looked at while names are looked up. 1 ms to 1
  // hour.
  absl::Duration files_check_interval = absl::Seconds(1);

  // Is told, on the thread of the HostLookup, that the files have changed. Must
  // not block. Null: nobody.
  LogSink log_sink;

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
// Names are looked up as resolv.conf(5) and nsswitch.conf(5) say: in
// /etc/hosts, then through DNS, with the search list, for IPv4 and IPv6. A
// change of these files is noticed within `files_check_interval` while names
// are looked up, or by `Reload`: what is cached is forgotten, and queries that
// run begin anew with the servers named now. Look-ups of one name that run at
// the same time share one query.
//
// Both families are asked for at once. Whichever answers first with an address
// that there is a route to is enough after `family_grace`. Where a family says
// that there is no such name, the other one gets that time too (for IPv4 one
// `attempt_timeout`, since some servers say so of IPv6 addresses alone: RFC
// 4074, section 4.2), and then the next name of the search list is asked for.
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
  //   Unavailable        the DNS servers fail or refuse, or the resolver
  //                      refuses the name
  //   ResourceExhausted  too many look-ups wait already
  //   Cancelled          the HostLookup was destroyed
  void Lookup(absl::string_view host, absl::Duration timeout, Callback done);

  // Forgets what is cached and reads the system's files again, changed or not.
  // Returns at once. Threads: any.
  void Reload();

 private:
  class Impl;
  explicit HostLookup(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_DNS_HOST_LOOKUP_H_
