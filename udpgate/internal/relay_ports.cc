#include "udpgate/internal/relay_ports.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace udpgate {
namespace internal {
namespace {

// include/net/ip.h of Linux: what net.ipv4.ip_local_port_range starts as.
constexpr int kFirstPort = 32768;
constexpr int kLastPort = 60999;

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

std::vector<bool> ParseReservedPorts(absl::string_view text) {
  std::vector<bool> is_reserved(65536, false);
  for (const absl::string_view range :
       absl::StrSplit(absl::StripAsciiWhitespace(text), ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(range, absl::MaxSplits('-', 1));
    int first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) continue;
    last = first;
    if (!ends.second.empty() && !absl::SimpleAtoi(ends.second, &last)) continue;
    for (int port = std::max(first, 0); port <= std::min(last, 65535); ++port) {
      is_reserved[port] = true;
    }
  }
  return is_reserved;
}

std::vector<uint16_t> LocalPortRange() {
  int first = kFirstPort, last = kLastPort;
  std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
  if (!(range >> first >> last) || first < 1 || last > 65535 || first > last) {
    first = kFirstPort;
    last = kLastPort;
  }
  const std::vector<bool> is_reserved = ParseReservedPorts(
      ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports"));
  std::vector<uint16_t> ports;
  for (int port = first; port <= last; ++port) {
    if (!is_reserved[port]) ports.push_back(static_cast<uint16_t>(port));
  }
  // After a restart the old gate's last ports should not be the new one's
  // first, and a stranger should not guess the next one.
  std::random_device device;
  std::shuffle(ports.begin(), ports.end(), std::mt19937_64(device()));
  return ports;
}

RelayPorts::RelayPorts(std::vector<uint16_t> ports)
    : ports_(std::move(ports)), free_(ports_.begin(), ports_.end()) {}

absl::optional<uint16_t> RelayPorts::Take(const SocketAddress& source,
                                          const RelayOwner& owner) {
  const SocketAddress ip = source.WithPort(0);
  MutexLock lock(&mutex_);
  size_t& count = count_by_source_[ip];
  if (count >= ports_.size()) return absl::nullopt;
  uint16_t port;
  if (!free_.empty()) {
    port = free_.front();
    free_.pop_front();
  } else {
    // Ends: this source has fewer uses than there are ports.
    do {
      shared_cursor_ = (shared_cursor_ + 1) % ports_.size();
      port = ports_[shared_cursor_];
    } while (IsUsedBy(port, ip));
  }
  uses_[port].push_back({ip, owner});
  ++count;
  ++in_use_;
  return port;
}

void RelayPorts::GiveBack(const SocketAddress& source, uint16_t port) {
  const SocketAddress ip = source.WithPort(0);
  MutexLock lock(&mutex_);
  const auto found = uses_.find(port);
  if (found == uses_.end()) return;
  std::vector<Use>& uses = found->second;
  const auto use = std::find_if(uses.begin(), uses.end(),
                                [&](const Use& u) { return u.source == ip; });
  if (use == uses.end()) return;
  uses.erase(use);
  if (--count_by_source_[ip] == 0) count_by_source_.erase(ip);
  --in_use_;
  if (!uses.empty()) return;
  uses_.erase(found);
  free_.push_back(port);
}

std::vector<RelayOwner> RelayPorts::Find(uint16_t port) const {
  MutexLock lock(&mutex_);
  std::vector<RelayOwner> owners;
  const auto found = uses_.find(port);
  if (found == uses_.end()) return owners;
  for (const Use& use : found->second) owners.push_back(use.owner);
  return owners;
}

int64_t RelayPorts::in_use() const {
  MutexLock lock(&mutex_);
  return in_use_;
}

bool RelayPorts::IsUsedBy(uint16_t port, const SocketAddress& source) const {
  const auto found = uses_.find(port);
  if (found == uses_.end()) return false;
  return std::any_of(found->second.begin(), found->second.end(),
                     [&](const Use& use) { return use.source == source; });
}

}  // namespace internal
}  // namespace udpgate
