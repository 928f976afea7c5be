// What c-ares does not read of the system's resolver files, or does not tell:
// the version of Debian 12 (1.18) ignores `options timeout:` and `options
// attempts:`, rejects `search .`, and reads resolv.conf(5) once. That of Debian
// 13 (1.34) no longer tells the search list, `ndots` and the order of the
// sources that it read.
#ifndef UDPGATE_DNS_INTERNAL_RESOLVER_SETTINGS_H_
#define UDPGATE_DNS_INTERNAL_RESOLVER_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace udpgate {
namespace dns {
namespace internal {

// `options timeout:`, `attempts:` and `ndots:`; not set if absent.
struct ResolvConfOptions {
  absl::optional<absl::Duration> attempt_timeout;
  absl::optional<int> attempts;
  absl::optional<int> ndots;
};

// Reads them from the text of a resolv.conf(5), and from the value of the
// environment variable RES_OPTIONS, which takes precedence. Limits are those of
// glibc: 1 to 30 seconds, 1 to 5 attempts, 0 to 15 dots.
ResolvConfOptions ReadResolvConfOptions(absl::string_view resolv_conf,
                                        absl::string_view res_options);

// The search list of the last line `search` or `domain` of a resolv.conf(5), or
// of the environment variable LOCALDOMAIN, which takes precedence if it is
// there. Without either it is the domain of this host's name, if that has one.
std::vector<std::string> ReadSearchDomains(
    absl::string_view resolv_conf,
    const absl::optional<std::string>& local_domain,
    absl::string_view host_name);

// The sources of the line `hosts:` of an nsswitch.conf(5), in order, each once:
// 'f' for `files`, and 'b' for `dns` and `resolve`. "fb" if it names none of
// these.
std::string ReadSources(absl::string_view nsswitch_conf);

// The names to query DNS for, in order, to resolve `host`: glibc's rules
// (res_search(3)). `domains` is the search list; "." in it stands for the name
// itself. A name that ends in a dot is used as it is. At most 33 names, of at
// most 253 bytes each.
std::vector<std::string> SearchNames(absl::string_view host,
                                     absl::Span<const std::string> domains,
                                     int ndots);

// The content of resolv.conf and nsswitch.conf, and the state of the hosts
// file. Two are equal if no file was changed or replaced between them.
struct ResolverFiles {
  std::string resolv_conf;
  std::string nsswitch_conf;
  // Device, inode, size, and times of the last change in nanoseconds; empty
  // if there is no file.
  std::vector<int64_t> hosts;

  friend bool operator==(const ResolverFiles& a, const ResolverFiles& b) {
    return a.resolv_conf == b.resolv_conf &&
           a.nsswitch_conf == b.nsswitch_conf && a.hosts == b.hosts;
  }
};

// Reads at most 64 KiB of each file. A file that cannot be read counts as
// empty.
ResolverFiles ReadResolverFiles(const std::string& resolv_conf_path);

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_RESOLVER_SETTINGS_H_
