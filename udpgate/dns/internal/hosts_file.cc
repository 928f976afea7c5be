#include "udpgate/dns/internal/hosts_file.h"

#include <sys/socket.h>

namespace udpgate {
namespace dns {
namespace internal {

absl::Status HostsFile::Open() {
  char lookups[] = "f";
  char no_file[] = "/dev/null";
  ares_options options{};
  options.lookups = lookups;
  options.resolvconf_path = no_file;
  return OpenAresChannel(&options, ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF,
                         &channel_);
}

Addresses HostsFile::Find(const std::string& host) {
  ares_addrinfo_hints hints{};
  hints.ai_flags = ARES_AI_NOSORT;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  Addresses addresses;
  // c-ares calls back inline, since there is nothing to wait for.
  ares_getaddrinfo(
      channel_.get(), host.c_str(), nullptr, &hints,
      [](void* found, int /*result*/, int /*timeouts*/, ares_addrinfo* info) {
        if (info == nullptr) return;
        *static_cast<Addresses*>(found) = ToAddresses(*info);
        ares_freeaddrinfo(info);
      },
      &addresses);
  return addresses;
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
