// Names in the hosts file.
#ifndef UDPGATE_DNS_INTERNAL_HOSTS_FILE_H_
#define UDPGATE_DNS_INTERNAL_HOSTS_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "udpgate/dns/internal/addresses.h"
#include "udpgate/dns/internal/ares_library.h"

namespace udpgate {
namespace dns {
namespace internal {

// Reads /etc/hosts through c-ares, anew for each name. Threads: one at a time.
class HostsFile {
 public:
  // Call once, before `Find`. ResourceExhausted if there is no memory or
  // descriptor left.
  absl::Status Open();

  // The addresses of `host`, IPv4 first; empty if the file does not name it.
  Addresses Find(const std::string& host);

 private:
  UniqueAresChannel channel_;
};

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_HOSTS_FILE_H_
