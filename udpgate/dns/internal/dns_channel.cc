#include "udpgate/dns/internal/dns_channel.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "udpgate/dns/internal/real_time.h"
#include "udpgate/dns/internal/resolver_settings.h"

namespace udpgate {
namespace dns {
namespace internal {

absl::Status DnsChannel::Open(const ResolverFiles& files) {
  Rules rules = ReadRules(files);
  std::string path = options_->resolv_conf_path;
  char lookups[] = "b";
  ares_options options{};
  options.resolvconf_path = path.data();
  options.timeout =
      static_cast<int>(absl::ToInt64Milliseconds(rules.attempt_timeout));
  options.tries = rules.attempts;
  options.udp_port = options.tcp_port =
      static_cast<unsigned short>(options_->dns_port);
  options.ndomains = 0;  // `SearchNamesOf` does the search
  options.lookups = lookups;
  UniqueAresChannel channel;
  if (absl::Status status = OpenAresChannel(
          &options,
          ARES_OPT_RESOLVCONF | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
              ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS | ARES_OPT_UDP_PORT |
              ARES_OPT_TCP_PORT,
          &channel);
      !status.ok()) {
    return status;
  }
  if (!options_->dns_servers.empty()) {
    const int result = ares_set_servers_ports_csv(
        channel.get(), options_->dns_servers.c_str());
    if (result != ARES_SUCCESS) {
      return absl::InvalidArgumentError(
          absl::StrCat("HostLookupOptions::dns_servers must be ip:port,..., "
                       "not \"",
                       options_->dns_servers, "\": ", ares_strerror(result)));
    }
  }
  rules_ = std::move(rules);
  Replace(std::move(channel));
  return absl::OkStatus();
}

DnsChannel::Rules DnsChannel::ReadRules(const ResolverFiles& files) const {
  const char* const local_domain = std::getenv("LOCALDOMAIN");
  const char* const res_options = std::getenv("RES_OPTIONS");
  const ResolvConfOptions read = ReadResolvConfOptions(
      files.resolv_conf, absl::NullSafeStringView(res_options));
  char host_name[HOST_NAME_MAX + 1] = {};
  gethostname(host_name, HOST_NAME_MAX);
  Rules rules;
  rules.search_domains = ReadSearchDomains(
      files.resolv_conf,
      local_domain == nullptr ? absl::nullopt
                              : absl::optional<std::string>(local_domain),
      host_name);
  rules.ndots = read.ndots.value_or(rules.ndots);
  rules.sources = ReadSources(files.nsswitch_conf);
  rules.attempt_timeout = options_->attempt_timeout;
  rules.attempts = options_->attempts_max;
  if (options_->dns_servers.empty()) {
    rules.attempt_timeout =
        read.attempt_timeout.value_or(rules.attempt_timeout);
    rules.attempts = read.attempts.value_or(rules.attempts);
  }
  return rules;
}

void DnsChannel::Replace(UniqueAresChannel channel) {
  is_closing_ = true;
  channel_.reset();
  is_closing_ = false;
  channel_ = std::move(channel);
}

void DnsChannel::Ask(const std::string& name, int family,
                     ares_addrinfo_callback callback, void* argument) {
  ares_addrinfo_hints hints{};
  // The order of the response stays: sorting it (RFC 6724) would open sockets.
  hints.ai_flags = ARES_AI_NOSORT;
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;  // else each address comes several times
  ares_getaddrinfo(channel_.get(), name.c_str(), nullptr, &hints, callback,
                   argument);
}

std::vector<std::string> DnsChannel::SearchNamesOf(
    absl::string_view host) const {
  return SearchNames(host, rules_.search_domains, rules_.ndots);
}

std::string DnsChannel::ServersText() const {
  ares_addr_port_node* servers = nullptr;
  if (ares_get_servers_ports(channel_.get(), &servers) != ARES_SUCCESS) {
    return "";
  }
  std::vector<std::string> texts;
  for (const ares_addr_port_node* server = servers; server != nullptr;
       server = server->next) {
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(server->family, &server->addr, text, sizeof(text)) !=
        nullptr) {
      texts.push_back(text);
    }
  }
  ares_free_data(servers);
  return absl::StrJoin(texts, ", ");
}

int DnsChannel::PollTimeoutMilliseconds(int64_t deadline_nanoseconds) const {
  int64_t milliseconds = -1;
  if (deadline_nanoseconds != kNever) {
    // Rounded up: a wait that ends early would only be repeated.
    milliseconds = std::clamp<int64_t>(
        (deadline_nanoseconds - RealNowNanoseconds()) / 1'000'000 + 1, 0,
        INT_MAX);
  }
  timeval buffer;
  if (const timeval* ares = ares_timeout(channel_.get(), nullptr, &buffer);
      ares != nullptr) {
    const int64_t ares_milliseconds =
        int64_t{ares->tv_sec} * 1000 + ares->tv_usec / 1000 + 1;
    milliseconds = milliseconds < 0 ? ares_milliseconds
                                    : std::min(milliseconds, ares_milliseconds);
  }
  return static_cast<int>(std::min<int64_t>(milliseconds, INT_MAX));
}

bool DnsChannel::WaitAndProcess(int wakeup_fd, int64_t deadline_nanoseconds) {
  std::array<pollfd, ARES_GETSOCK_MAXNUM + 1> polled{};
  std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets;
  const int wanted =
      ares_getsock(channel_.get(), sockets.data(), sockets.size());
  polled[0] = {wakeup_fd, POLLIN, 0};
  nfds_t count = 1;
  for (size_t i = 0; i < sockets.size(); ++i) {
    short events = 0;
    if (ARES_GETSOCK_READABLE(wanted, i)) events |= POLLIN;
    if (ARES_GETSOCK_WRITABLE(wanted, i)) events |= POLLOUT;
    if (events != 0) polled[count++] = {sockets[i], events, 0};
  }
  if (poll(polled.data(), count,
           PollTimeoutMilliseconds(deadline_nanoseconds)) < 0) {
    return false;
  }
  // Time-outs may be due although no socket is ready.
  ares_process_fd(channel_.get(), ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  constexpr short kReadable = POLLIN | POLLERR | POLLHUP;
  constexpr short kWritable = POLLOUT | POLLERR | POLLHUP;
  for (nfds_t i = 1; i < count; ++i) {
    const pollfd& ready = polled[i];
    if (ready.revents == 0) continue;
    ares_process_fd(channel_.get(),
                    ready.revents & kReadable ? ready.fd : ARES_SOCKET_BAD,
                    ready.revents & kWritable ? ready.fd : ARES_SOCKET_BAD);
  }
  return polled[0].revents != 0;
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
