// The resolution of one host name.
#ifndef UDPGATE_DNS_INTERNAL_HOST_QUERY_H_
#define UDPGATE_DNS_INTERNAL_HOST_QUERY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "udpgate/dns/host_lookup_options.h"
#include "udpgate/dns/internal/addresses.h"
#include "udpgate/dns/internal/dns_channel.h"
#include "udpgate/dns/internal/hosts_file.h"
#include "udpgate/dns/internal/real_time.h"

namespace udpgate {
namespace dns {
namespace internal {

// Tries the sources of nsswitch.conf(5) in order: the hosts file, and the names
// of the search list in DNS. Each name is asked for with one DNS query per
// address family. `HostLookup` describes how long one family waits for the
// other.
//
// Threads: one at a time, that of the `DnsChannel`.
class HostQuery {
 public:
  // What the queries of one `HostLookup` share. Must outlive the queries and
  // the channel's callbacks.
  struct Context {
    const HostLookupOptions* options = nullptr;  // `has_route` is set
    DnsChannel* dns = nullptr;
    HostsFile* hosts_file = nullptr;
    // Called with the result of a query. May destroy the query, which does
    // nothing more.
    std::function<void(const std::string& host,
                       const absl::StatusOr<Addresses>& result)>
        on_result;
    // No query's grace ends earlier.
    int64_t next_grace_end_nanoseconds = kNever;
    // DNS queries that c-ares still runs though nobody awaits them. Any thread
    // may read it.
    std::atomic<int> abandoned_parts{0};
  };

  // `host` in lower case.
  HostQuery(std::string host, Context* context);
  ~HostQuery();
  HostQuery(const HostQuery&) = delete;
  HostQuery& operator=(const HostQuery&) = delete;

  // Begins with the first source; called again after the channel was opened
  // anew, which ends the DNS queries. The query may be gone when this returns.
  void Start();

  // When the other address family is no longer awaited, in
  // `RealNowNanoseconds`.
  int64_t grace_end_nanoseconds() const { return grace_end_nanoseconds_; }
  // Uses what has come so far. The query may be gone when this returns.
  void EndGrace() { Conclude(); }

 private:
  // What c-ares holds while it asks for the addresses of one family. c-ares
  // cannot cancel a single one, so it may outlive its query.
  struct Part {
    Context* context;
    HostQuery* query;  // null: abandoned
    size_t family;
  };

  void Proceed();
  void Ask(const std::string& name);
  static void OnPart(void* part, int result, int timeouts, ares_addrinfo* info);
  void OnPartDone();
  int64_t GraceNanoseconds() const;
  void Conclude();
  void AbandonParts();
  void SortByRoute(Addresses* addresses) const;
  void Finish(const absl::StatusOr<Addresses>& result);

  const std::string host_;
  Context* const context_;
  size_t next_source_ = 0;
  std::vector<std::string> names_;  // of the search list
  size_t next_name_ = 0;
  // Of the current name, by family: the running DNS query, null if it has
  // ended; how it ended; what it found.
  std::array<Part*, 2> parts_{};
  std::array<int, 2> results_{};
  std::array<Addresses, 2> found_;
  bool is_asking_ = false;
  int64_t grace_end_nanoseconds_ = kNever;
  int error_;  // of the names so far
};

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_HOST_QUERY_H_
