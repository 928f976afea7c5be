#include "udpgate/fastpath/internal/attachments.h"

#include <net/if.h>
#include <net/if_arp.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "udpgate/fastpath/internal/device_features.h"
#include "udpgate/fastpath/internal/instance_lock.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

// True if the device needs the route of a packet, not only its next hop: lo,
// and tunnels, for which routes may say where they lead (ip-route(8), "encap").
bool NeedsRoute(const Link& link) {
  constexpr const char* kTunnels[] = {"vxlan",     "geneve", "gretap",
                                      "ip6gretap", "erspan", "ip6erspan"};
  return link.hardware != ARPHRD_ETHER ||
         std::find(std::begin(kTunnels), std::end(kTunnels), link.kind) !=
             std::end(kTunnels);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Attachments>> Attachments::Open(
    Options options, Program* program, uint32_t instance_number) {
  absl::StatusOr<Netlink> netlink = Netlink::Open();
  if (!netlink.ok()) return netlink.status();
  std::unique_ptr<Attachments> attachments(new Attachments(
      std::move(options), program, instance_number, *std::move(netlink)));
  absl::StatusOr<std::vector<Link>> links = attachments->netlink_.Links();
  if (!links.ok()) return links.status();
  for (Link& link : *links) {
    const int index = link.index;
    attachments->links_[index] = std::move(link);
  }
  return attachments;
}

absl::Status Attachments::AttachWanted() {
  const absl::StatusOr<std::set<int>> wanted = WantedInterfaces();
  if (!wanted.ok()) return wanted.status();
  for (const int index : *wanted) {
    absl::Status status = Attach(links_[index]);
    if (!status.ok()) return status;
  }
  AttachRouteInterfaces();
  return absl::OkStatus();
}

void Attachments::AttachRouteInterfaces() {
  int left_out = 0;
  for (const int index : RouteInterfaces()) {
    const auto link = links_.find(index);
    if (link == links_.end() || attached_.count(index) > 0) continue;
    if (attached_.size() >=
        static_cast<size_t>(options_.interfaces_at_start_max)) {
      ++left_out;
      continue;
    }
    const absl::Status status = Attach(link->second);
    if (!status.ok()) Log(LogSeverity::kWarning, status.message());
  }
  if (left_out == 0) return;
  Log(LogSeverity::kWarning,
      absl::StrCat("fast path: ", left_out,
                   " interfaces of routes get the program when a session needs "
                   "them, since there are more than ",
                   options_.interfaces_at_start_max));
}

void Attachments::RemoveLeftovers() {
  for (const auto& index_and_link : links_) {
    const Link& link = index_and_link.second;
    absl::StatusOr<std::vector<IngressFilter>> filters =
        netlink_.IngressFilters(link.index);
    if (!filters.ok()) {
      Log(LogSeverity::kWarning, filters.status().message());
      continue;
    }
    for (const IngressFilter& filter : *filters) {
      // No other process can have our own number.
      const bool is_leftover = filter.handle == instance_number_
                                   ? attached_.count(link.index) == 0
                                   : InstanceLock::IsFree(filter.handle);
      if (!IsOurs(filter) || filter.handle > kInstancesMax || !is_leftover) {
        continue;
      }
      absl::Status status = Program::RemoveFilter(link.index, filter.handle);
      Log(status.ok() ? LogSeverity::kInfo : LogSeverity::kWarning,
          status.ok()
              ? absl::StrCat(
                    "fast path: removed a filter of an earlier run from ",
                    link.name)
              : std::string(status.message()));
    }
  }
}

void Attachments::DetachAll() {
  for (const int index : attached_) {
    absl::Status status = program_->Detach(index, instance_number_);
    if (!status.ok()) Log(LogSeverity::kWarning, status.message());
  }
}

absl::StatusOr<std::map<int, udpgate::internal::UniqueFd>>
Attachments::CopyLinks() const {
  std::map<int, udpgate::internal::UniqueFd> links = program_->CopyLinks();
  for (const int index : attached_) {
    if (program_->HasTcxLink(index) && links.count(index) == 0) {
      return absl::ResourceExhaustedError("no descriptor is left for a link");
    }
  }
  return links;
}

void Attachments::Release() {
  program_->ForgetLinks();
  attached_.clear();
}

void Attachments::Adopt(int interface_index, udpgate::internal::UniqueFd link) {
  if (links_.count(interface_index) == 0) return;
  program_->AdoptLink(interface_index, std::move(link));
  attached_.insert(interface_index);
}

absl::Status Attachments::AdoptFilters() {
  for (const auto& [index, link] : links_) {
    if (attached_.count(index) > 0) continue;
    absl::StatusOr<std::vector<IngressFilter>> filters =
        netlink_.IngressFilters(index);
    if (!filters.ok()) return filters.status();
    const bool is_attached = std::any_of(
        filters->begin(), filters->end(), [this](const IngressFilter& filter) {
          return IsOurs(filter) && filter.handle == instance_number_;
        });
    if (is_attached) attached_.insert(index);
  }
  return absl::OkStatus();
}

absl::Status Attachments::CheckAdopted() {
  if (attached_.empty()) {
    return absl::FailedPreconditionError("it is attached to no interface");
  }
  const absl::StatusOr<std::set<int>> wanted = WantedInterfaces();
  if (!wanted.ok()) return wanted.status();
  if (!options_.interfaces.empty() && *wanted != attached_) {
    return absl::FailedPreconditionError("it is attached to other interfaces");
  }
  return absl::OkStatus();
}

void Attachments::FinishAdoption(std::set<int> exits) {
  std::set<int> wanted;
  if (options_.interfaces.empty()) {
    const absl::StatusOr<std::set<int>> at_start = WantedInterfaces();
    if (at_start.ok()) wanted = *at_start;
    wanted.merge(exits);
  }
  const std::set<int> adopted = attached_;
  for (const int index : adopted) {
    // Attach replaces a filter with the same handle, likewise without a gap.
    const absl::Status status =
        program_->HasTcxLink(index)
            ? program_->UpdateLink(links_[index])
            : program_->Attach(links_[index], instance_number_,
                               /*may_use_tcx=*/false);
    if (status.ok()) continue;
    // If it still exists, it continues with the program that it has.
    Log(LogSeverity::kWarning, status.message());
    if (!absl::IsNotFound(status)) continue;
    program_->Forget(index);
    attached_.erase(index);
  }
  for (const int index : wanted) {
    const auto link = links_.find(index);
    if (link == links_.end() || attached_.count(index) > 0) continue;
    const absl::Status status = Attach(link->second);
    if (!status.ok()) Log(LogSeverity::kWarning, status.message());
  }
  RemoveLeftovers();
}

absl::StatusOr<Exit> Attachments::FindExit(const SocketAddress& source,
                                           const SocketAddress& destination) {
  absl::StatusOr<Route> route = netlink_.FindRoute(source, destination);
  if (!route.ok()) return route.status();
  const auto found = links_.find(route->interface_index);
  if (found == links_.end()) {
    // It is new, and its message has not been read yet.
    return absl::FailedPreconditionError("the interface is not known yet");
  }
  const Link& link = found->second;
  Exit exit;
  exit.interface_index = static_cast<uint32_t>(link.index);
  exit.is_loopback = (link.flags & IFF_LOOPBACK) != 0;
  if (!NeedsRoute(link)) exit.next_hop = route->next_hop;
  // The path MTU learnt from ICMP is a property of the route. It is used if the
  // sockets use it; see udpgate::internal::SetTrafficOptions.
  const bool believes_route = !destination.is_ipv4() && !options_.dont_fragment;
  const int bytes = believes_route && route->mtu_bytes > 0
                        ? std::min(route->mtu_bytes, link.mtu_bytes)
                        : link.mtu_bytes;
  exit.packet_bytes_max = static_cast<uint32_t>(bytes);
  if (options_.interfaces.empty() && attached_.count(link.index) == 0) {
    absl::Status status = Attach(link);
    if (!status.ok()) return status;
  }
  return exit;
}

bool Attachments::Apply(const Link& link) {
  const auto found = links_.find(link.index);
  const bool is_new = found == links_.end();
  // The kernel also reports changes that do not matter here.
  if (!is_new && found->second == link) return false;
  links_[link.index] = link;
  const bool is_wanted =
      std::find(options_.interfaces.begin(), options_.interfaces.end(),
                link.name) != options_.interfaces.end();
  if (is_wanted && attached_.count(link.index) == 0) {
    absl::Status status = Attach(link);
    Log(status.ok() ? LogSeverity::kInfo : LogSeverity::kWarning,
        status.ok() ? absl::StrCat("fast path: attached to ", link.name)
                    : std::string(status.message()));
  }
  return !is_new;
}

void Attachments::Forget(int interface_index) {
  attached_.erase(interface_index);
  program_->Forget(interface_index);
  links_.erase(interface_index);
}

void Attachments::ReadAgain() {
  const absl::StatusOr<std::vector<Link>> links = netlink_.Links();
  if (!links.ok()) return Log(LogSeverity::kWarning, links.status().message());
  std::set<int> gone;
  for (const auto& [index, link] : links_) gone.insert(index);
  for (const Link& link : *links) gone.erase(link.index);
  for (const int index : gone) Forget(index);
  for (const Link& link : *links) Apply(link);
}

std::vector<std::string> Attachments::AttachedNames() const {
  std::vector<std::string> names;
  for (const int index : attached_) names.push_back(links_.at(index).name);
  return names;
}

absl::StatusOr<std::set<int>> Attachments::WantedInterfaces() {
  std::set<int> wanted;
  for (const std::string& name : options_.interfaces) {
    const auto found = std::find_if(
        links_.begin(), links_.end(),
        [&](const auto& entry) { return entry.second.name == name; });
    if (found == links_.end()) {
      std::vector<std::string> names;
      for (const auto& [index, link] : links_) names.push_back(link.name);
      return OptionError(absl::StatusCode::kNotFound, "interfaces",
                         absl::StrCat(": there is no ", name, "; allowed are ",
                                      absl::StrJoin(names, ", ")));
    }
    wanted.insert(found->first);
  }
  if (options_.interfaces.empty()) {
    absl::StatusOr<std::vector<InterfaceAddress>> addresses =
        netlink_.Addresses();
    if (!addresses.ok()) return addresses.status();
    for (const InterfaceAddress& address : *addresses) {
      for (const SocketAddress& listen : options_.listen_addresses) {
        // A wildcard IPv6 socket takes IPv4 as well.
        if (listen.WithPort(0) == address.address ||
            (listen.is_any() &&
             (listen.is_ipv6() || address.address.is_ipv4()))) {
          wanted.insert(address.interface_index);
        }
      }
    }
  }
  return wanted;
}

std::set<int> Attachments::RouteInterfaces() {
  std::set<int> found;
  if (!options_.interfaces.empty()) return found;
  for (const int family : {AF_INET, AF_INET6}) {
    const bool is_used = std::any_of(
        options_.listen_addresses.begin(), options_.listen_addresses.end(),
        [family](const SocketAddress& listen) {
          return listen.family() == family ||
                 (listen.is_ipv6() && listen.is_any());
        });
    if (!is_used) continue;
    absl::StatusOr<std::set<int>> interfaces = netlink_.RouteInterfaces(family);
    if (interfaces.ok()) {
      found.merge(*interfaces);
    } else {
      Log(LogSeverity::kWarning, interfaces.status().message());
    }
  }
  // Datagrams to addresses of this host pass through it.
  for (const auto& [index, link] : links_) {
    constexpr uint32_t kUsable = IFF_LOOPBACK | IFF_UP;
    if ((link.flags & kUsable) == kUsable) found.insert(index);
  }
  return found;
}

absl::Status Attachments::Attach(const Link& link) {
  absl::Status status = CheckDeviceFeatures(link.name);
  if (!status.ok()) return status;
  status = program_->Attach(link, instance_number_, options_.may_use_tcx);
  if (!status.ok()) return status;
  attached_.insert(link.index);
  LogFiltersBehind(link);
  return absl::OkStatus();
}

void Attachments::LogFiltersBehind(const Link& link) {
  absl::StatusOr<std::vector<IngressFilter>> filters =
      netlink_.IngressFilters(link.index);
  if (!filters.ok()) return;
  std::vector<std::string> names;
  for (const IngressFilter& filter : *filters) {
    const bool is_behind =
        program_->HasTcxLink(link.index) || filter.priority >= kFilterPriority;
    if (!is_behind || IsOurs(filter)) continue;
    names.push_back(filter.name.empty() ? filter.kind : filter.name);
  }
  if (names.empty()) return;
  Log(LogSeverity::kWarning,
      absl::StrCat("fast path: filters after ours on ", link.name,
                   " do not see the datagrams that are relayed: ",
                   absl::StrJoin(names, ", ")));
}

void Attachments::Log(LogSeverity severity, absl::string_view line) const {
  if (options_.log_sink) options_.log_sink(severity, line);
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
