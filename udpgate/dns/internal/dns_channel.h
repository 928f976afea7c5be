// The c-ares channel that sends DNS queries, and its event loop.
#ifndef UDPGATE_DNS_INTERNAL_DNS_CHANNEL_H_
#define UDPGATE_DNS_INTERNAL_DNS_CHANNEL_H_

#include <ares.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/dns/host_lookup_options.h"
#include "udpgate/dns/internal/ares_library.h"
#include "udpgate/dns/internal/resolver_settings.h"

namespace udpgate {
namespace dns {
namespace internal {

// Threads: one at a time. Callbacks run inside `Ask`, `WaitAndProcess`, `Open`,
// `Close` and the destructor.
class DnsChannel {
 public:
  // `options` must outlive the channel.
  explicit DnsChannel(const HostLookupOptions* options) : options_(options) {}
  DnsChannel(const DnsChannel&) = delete;
  DnsChannel& operator=(const DnsChannel&) = delete;
  ~DnsChannel() { Close(); }

  // Opens a channel as the system's files say now, and closes the previous one,
  // as `Close` does. If that fails, the previous one stays open.
  // ResourceExhausted if there is no memory or descriptor left; InvalidArgument
  // for bad `dns_servers`.
  absl::Status Open(const ResolverFiles& files);

  // Ends all queries with ARES_EDESTRUCTION, while `is_closing` is true.
  void Close() { Replace(nullptr); }
  bool is_closing() const { return is_closing_; }

  // Asks for the addresses of `name` of one family. c-ares calls `callback`
  // exactly once, inline if it cannot send.
  void Ask(const std::string& name, int family, ares_addrinfo_callback callback,
           void* argument);

  // Waits until `wakeup_fd` is readable, a socket is ready, or a time-out is
  // due: of c-ares, or `deadline_nanoseconds` of `RealNowNanoseconds`. Then
  // processes what c-ares has to do. Returns whether `wakeup_fd` is readable.
  bool WaitAndProcess(int wakeup_fd, int64_t deadline_nanoseconds);

  // The sources of nsswitch.conf(5), in order: 'f' stands for the hosts file
  // and 'b' for DNS, as in c-ares.
  const std::string& sources() const { return rules_.sources; }

  // See `SearchNames` in resolver_settings.h.
  std::vector<std::string> SearchNamesOf(absl::string_view host) const;

  // As the options or resolv.conf(5) say.
  absl::Duration attempt_timeout() const { return rules_.attempt_timeout; }

  // `10.0.0.1, fd00::1`.
  std::string ServersText() const;

 private:
  // What the system's files say that c-ares does not do here.
  struct Rules {
    std::vector<std::string> search_domains;
    int ndots = 1;
    std::string sources;
    absl::Duration attempt_timeout;
    int attempts = 0;
  };

  Rules ReadRules(const ResolverFiles& files) const;
  void Replace(UniqueAresChannel channel);
  int PollTimeoutMilliseconds(int64_t deadline_nanoseconds) const;

  const HostLookupOptions* const options_;
  UniqueAresChannel channel_;
  bool is_closing_ = false;
  Rules rules_;
};

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_DNS_CHANNEL_H_
