// How a `HostLookup` resolves host names.
#ifndef UDPGATE_DNS_HOST_LOOKUP_OPTIONS_H_
#define UDPGATE_DNS_HOST_LOOKUP_OPTIONS_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// Threads: as a std::string.
struct UDPGATE_EXPORT HostLookupOptions {
  // How long a result, and how long a failure, is served from the cache. Short,
  // since a name may move to another server at any moment; long enough that
  // many new clients at once cost few queries. 0 disables. Up to 1 hour.
  absl::Duration success_cache_time = absl::Seconds(5);
  absl::Duration failure_cache_time = absl::Seconds(1);

  // Maximum number of names in the cache. 1 to 1,000,000.
  int cache_entries_max = 256;

  // Maximum number of pending lookups and DNS queries. 1 to 1,000,000.
  int lookups_waiting_max = 4096;

  // Time limit of the first attempt at each DNS server, and the number of
  // attempts; the time doubles with each round. 1 ms to 1 minute; 1 to 10.
  // `options timeout:` and `options attempts:` of resolv.conf(5) take
  // precedence if its servers are used.
  absl::Duration attempt_timeout = absl::Seconds(1);
  int attempts_max = 3;

  // If one address family has a result, and there is a route to one of its
  // addresses, the result of the other family is awaited for this long (RFC
  // 8305, section 3). 0 to 1 minute.
  absl::Duration family_grace = absl::Milliseconds(50);

  // DNS servers, `ip:port` separated by commas. Empty: those of resolv.conf(5).
  std::string dns_servers;

  // The file of resolv.conf(5), and the port of the servers that it names. 1 to
  // 65535.
  std::string resolv_conf_path = "/etc/resolv.conf";
  int dns_port = 53;

  // How often the system's files are checked for changes while lookups are
  // pending. 1 ms to 1 hour.
  absl::Duration files_check_interval = absl::Seconds(1);

  // Receives a line, on the thread of the HostLookup, if the files have
  // changed. Must not block. Null: nothing is logged.
  LogSink log_sink;

  // Returns true if this host could send a datagram to an address (its port is
  // ignored); called on the thread of the HostLookup if a name has several
  // addresses. Must not block. Null: asks the kernel for a route, by connect(2)
  // of a UDP socket, which sends nothing.
  std::function<bool(const SocketAddress&)> has_route;

  // Determines the age of cached results; the time limits of lookups always run
  // in real time. Null: `Clock::Monotonic()`. Must outlive the HostLookup.
  const Clock* clock = nullptr;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

}  // namespace udpgate

#endif  // UDPGATE_DNS_HOST_LOOKUP_OPTIONS_H_
