#include "udpgate/internal/session/relay_ports.h"

#include <sys/socket.h>

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

// include/net/ip.h of Linux: the default of net.ipv4.ip_local_port_range.
constexpr int kFirstPort = 32768;
constexpr int kLastPort = 60999;

constexpr size_t kPortCount = 65536;
constexpr size_t kWordBits = 64;

// How long a port of another program is not tried again while there are others.
constexpr int64_t kBusyNanoseconds = 10'000'000'000;
// Of one queue: all shards wait for the lock, and one port is enough.
constexpr int kUnblockedAtOnceMax = 32;
// Words of bits that are searched for a unique port, limited for the same
// reason. With up to four addresses these are all; with more, almost always
// enough.
constexpr int kWordsSearchedMax = 2048;

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<uint16_t> WithoutRepeats(const std::vector<uint16_t>& ports) {
  std::vector<bool> is_there(kPortCount, false);
  std::vector<uint16_t> result;
  result.reserve(ports.size());
  for (const uint16_t port : ports) {
    if (!is_there[port]) result.push_back(port);
    is_there[port] = true;
  }
  return result;
}

// One bit a port, all 0; unused bits of the last word are 1.
std::vector<uint64_t> UnavailableBits(size_t port_count) {
  std::vector<uint64_t> words((port_count + kWordBits - 1) / kWordBits, 0);
  const size_t remainder = port_count % kWordBits;
  if (remainder != 0) words.back() = ~uint64_t{0} << remainder;
  return words;
}

void SetBit(uint16_t bit, std::vector<uint64_t>* words) {
  (*words)[bit / kWordBits] |= uint64_t{1} << (bit % kWordBits);
}

void ClearBit(uint16_t bit, std::vector<uint64_t>* words) {
  (*words)[bit / kWordBits] &= ~(uint64_t{1} << (bit % kWordBits));
}

uint16_t FirstBit(size_t word, uint64_t bits) {
  return static_cast<uint16_t>(word * kWordBits + __builtin_ctzll(bits));
}

}  // namespace

std::vector<bool> ParseReservedPorts(absl::string_view text) {
  std::vector<bool> is_reserved(kPortCount, false);
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
  // In random order, so that a restarted gateway does not begin with the ports
  // that it used last, and nobody can guess the next port.
  std::random_device device;
  std::shuffle(ports.begin(), ports.end(), std::mt19937_64(device()));
  return ports;
}

RelayPorts::RelayPorts(const std::vector<uint16_t>& ports,
                       const RelayPortsOptions& options)
    : ports_(WithoutRepeats(ports)),
      quarantine_nanoseconds_(options.quarantine_nanoseconds),
      index_by_port_(kPortCount),
      use_counts_(ports_.size()),
      blocked_counts_(ports_.size()),
      is_used_somewhere_(UnavailableBits(ports_.size())) {
  for (size_t i = 0; i < ports_.size(); ++i) {
    index_by_port_[ports_[i]] = static_cast<uint16_t>(i);
  }
  MutexLock lock(&mutex_);
  for (const SocketAddress& address : options.bind_addresses) {
    const SocketAddress ip = address.WithPort(0);
    if (source_by_ip_.contains(ip)) continue;
    (ip.is_ipv4() ? ipv4_bind_sources_ : ipv6_bind_sources_)
        .push_back(sources_.size());
    AddSource(ip, /*is_bind_address=*/true);
  }
}

bool RelayPorts::HasBindAddress(int family) const {
  return !(family == AF_INET ? ipv4_bind_sources_ : ipv6_bind_sources_).empty();
}

size_t RelayPorts::SourceCount(int family) const {
  return std::max(
      (family == AF_INET ? ipv4_bind_sources_ : ipv6_bind_sources_).size(),
      size_t{1});
}

int64_t RelayPorts::capacity() const {
  return static_cast<int64_t>(
      std::max(SourceCount(AF_INET), SourceCount(AF_INET6)) * ports_.size());
}

absl::optional<SocketAddress> RelayPorts::Take(
    const SocketAddress& route_source, const RelayOwner& owner,
    int64_t now_nanoseconds, absl::Span<const SocketAddress> avoided,
    bool is_ours_first, bool takes_busy) {
  MutexLock lock(&mutex_);
  Advance(now_nanoseconds);
  FindCandidates(route_source, avoided);
  if (candidates_.empty()) return absl::nullopt;
  UnblockDue();
  const absl::optional<Choice> choice = Choose(is_ours_first, takes_busy);
  if (!choice.has_value()) return absl::nullopt;
  NoteUse(choice->source, choice->port_index,
          {owner, choice->quarantined_until_nanoseconds});
  if (choice->quarantined_until_nanoseconds > latest_nanoseconds_) {
    quarantined_ports_taken_.store(quarantined_ports_taken() + 1,
                                   std::memory_order_relaxed);
  }
  return sources_[choice->source].ip.WithPort(ports_[choice->port_index]);
}

bool RelayPorts::TakeExactly(const SocketAddress& relay,
                             const SocketAddress& route_source,
                             const RelayOwner& owner, int64_t now_nanoseconds) {
  MutexLock lock(&mutex_);
  Advance(now_nanoseconds);
  UnblockDue();
  const SocketAddress ip = relay.WithPort(0);
  if (!IsSource(ip, route_source)) return false;
  const absl::optional<uint16_t> known = IndexOfKnown(relay.port());
  if (!known.has_value()) return false;
  const uint16_t port_index = *known;
  const size_t index = FindOrAddSource(ip);
  if (uses_.contains(Key(index, port_index))) return false;
  Source& source = sources_[index];
  Use use{owner, 0};
  const uint64_t word = source.is_unavailable[port_index / kWordBits];
  if ((word >> (port_index % kWordBits) & 1) != 0) {
    const absl::optional<BlockedPort> blocked =
        TakeOut(port_index, &source.quarantined);
    if (!blocked.has_value()) return false;  // another program's
    --blocked_counts_[port_index];
    use.quarantined_until_nanoseconds =
        blocked->since_nanoseconds + quarantine_nanoseconds_;
  } else if (IsFree(port_index) &&
             !TakeOut(port_index, &released_).has_value()) {
    TakeOut(port_index, &unblocked_);
  }
  NoteUse(index, port_index, use);
  return true;
}

// Whether `Take` could choose the address.
bool RelayPorts::IsSource(const SocketAddress& ip,
                          const SocketAddress& route_source) const {
  if (ip.family() != route_source.family()) return false;
  if (!HasBindAddress(ip.family())) return ip == route_source.WithPort(0);
  const auto found = source_by_ip_.find(ip);
  return found != source_by_ip_.end() &&
         sources_[found->second].is_bind_address;
}

// Some 20 microseconds for a queue of 30,000 ports: a session gets back its
// port seldom.
absl::optional<RelayPorts::BlockedPort> RelayPorts::TakeOut(
    uint16_t port_index, BlockedQueue* queue) {
  const auto found = std::find_if(queue->begin(), queue->end(),
                                  [port_index](const BlockedPort& blocked) {
                                    return blocked.port_index == port_index;
                                  });
  if (found == queue->end()) return absl::nullopt;
  const BlockedPort blocked = *found;
  queue->erase(found);
  return blocked;
}

void RelayPorts::NoteUse(size_t source, uint16_t port_index, const Use& use) {
  uses_[Key(source, port_index)] = use;
  SetBit(port_index, &sources_[source].is_unavailable);
  SetBit(port_index, &is_used_somewhere_);
  ++sources_[source].use_count;
  ++use_counts_[port_index];
  in_use_.store(in_use() + 1, std::memory_order_relaxed);
}

bool RelayPorts::AdoptUse(const SocketAddress& relay, const RelayOwner& owner) {
  MutexLock lock(&mutex_);
  const absl::optional<uint16_t> port_index = IndexOfKnown(relay.port());
  if (!port_index.has_value()) return true;
  const size_t source = FindOrAddSource(relay.WithPort(0));
  if (uses_.contains(Key(source, *port_index))) return false;
  NoteUse(source, *port_index, {owner, 0});
  return true;
}

void RelayPorts::AdoptQuarantined(absl::Span<const HandedPort> ports) {
  MutexLock lock(&mutex_);
  for (const HandedPort& port : ports) {
    const absl::optional<uint16_t> port_index = IndexOfKnown(port.relay.port());
    if (!port_index.has_value()) continue;
    Source& source = sources_[FindOrAddSource(port.relay.WithPort(0))];
    const uint64_t word = source.is_unavailable[*port_index / kWordBits];
    if ((word >> (*port_index % kWordBits) & 1) != 0) continue;
    // Queues are in the order of time.
    Advance(port.since_nanoseconds);
    SetBit(*port_index, &source.is_unavailable);
    Block(&source, &Source::quarantined, *port_index);
  }
}

std::vector<HandedPort> RelayPorts::Quarantined() const {
  std::vector<HandedPort> ports;
  MutexLock lock(&mutex_);
  for (const Source& source : sources_) {
    for (const BlockedPort& blocked : source.quarantined) {
      ports.push_back({source.ip.WithPort(ports_[blocked.port_index]),
                       blocked.since_nanoseconds});
    }
  }
  // Each queue is in order.
  if (sources_.size() == 1) return ports;
  std::stable_sort(ports.begin(), ports.end(),
                   [](const HandedPort& a, const HandedPort& b) {
                     return a.since_nanoseconds < b.since_nanoseconds;
                   });
  return ports;
}

// The index of the port in `ports_`, which is moved below `never_taken_`.
absl::optional<uint16_t> RelayPorts::IndexOfKnown(uint16_t port) {
  const uint16_t index = index_by_port_[port];
  if (index >= ports_.size() || ports_[index] != port) return absl::nullopt;
  if (index < never_taken_) return index;
  // Neither has any state yet.
  const auto first = static_cast<uint16_t>(never_taken_++);
  std::swap(ports_[index], ports_[first]);
  std::swap(index_by_port_[ports_[index]], index_by_port_[port]);
  return first;
}

void RelayPorts::GiveBack(const SocketAddress& relay, PortFate fate,
                          int64_t now_nanoseconds) {
  MutexLock lock(&mutex_);
  Advance(now_nanoseconds);
  const auto found_source = source_by_ip_.find(relay.WithPort(0));
  if (found_source == source_by_ip_.end()) return;
  const uint16_t port_index = index_by_port_[relay.port()];
  const auto use = uses_.find(Key(found_source->second, port_index));
  if (use == uses_.end() || ports_[port_index] != relay.port()) return;
  const bool was_quarantined =
      use->second.quarantined_until_nanoseconds > latest_nanoseconds_;
  uses_.erase(use);
  Source& source = sources_[found_source->second];
  --source.use_count;
  if (--use_counts_[port_index] == 0) ClearBit(port_index, &is_used_somewhere_);
  in_use_.store(in_use() - 1, std::memory_order_relaxed);
  if (fate == PortFate::kBusy) {
    Block(&source, &Source::busy, port_index);
  } else if ((fate == PortFate::kAnswered || was_quarantined) &&
             quarantine_nanoseconds_ > 0) {
    Block(&source, &Source::quarantined, port_index);
  } else {
    ClearBit(port_index, &source.is_unavailable);
    if (IsFree(port_index)) {
      released_.push_back({latest_nanoseconds_, port_index});
    }
  }
}

std::vector<RelayOwner> RelayPorts::Find(uint16_t port) const {
  std::vector<RelayOwner> owners;
  MutexLock lock(&mutex_);
  const uint16_t port_index = index_by_port_[port];
  if (port_index >= ports_.size() || ports_[port_index] != port) return owners;
  if (use_counts_[port_index] == 0) return owners;
  for (size_t source = 0; source < sources_.size(); ++source) {
    const auto use = uses_.find(Key(source, port_index));
    if (use != uses_.end()) owners.push_back(use->second.owner);
  }
  return owners;
}

int64_t RelayPorts::quarantined(int64_t now_nanoseconds) const {
  const auto is_over = [&](const BlockedPort& blocked) {
    return blocked.since_nanoseconds + quarantine_nanoseconds_ <=
           now_nanoseconds;
  };
  int64_t count = 0;
  MutexLock lock(&mutex_);
  for (const Source& source : sources_) {
    const BlockedQueue& row = source.quarantined;
    count += row.end() - std::partition_point(row.begin(), row.end(), is_over);
  }
  return count;
}

// Queues are in order only if time never goes back, whichever thread calls.
void RelayPorts::Advance(int64_t now_nanoseconds) {
  latest_nanoseconds_ = std::max(latest_nanoseconds_, now_nanoseconds);
}

void RelayPorts::AddSource(const SocketAddress& ip, bool is_bind_address) {
  Source source;
  source.ip = ip;
  source.is_bind_address = is_bind_address;
  source.is_unavailable = UnavailableBits(ports_.size());
  source_by_ip_[ip] = sources_.size();
  sources_.push_back(std::move(source));
}

size_t RelayPorts::FindOrAddSource(const SocketAddress& ip) {
  const auto found = source_by_ip_.find(ip);
  if (found != source_by_ip_.end()) return found->second;
  // A host's addresses change (RFC 8981): an entry without any state is reused.
  const auto idle =
      std::find_if(sources_.begin(), sources_.end(), [](const Source& source) {
        return !source.is_bind_address && source.use_count == 0 &&
               source.quarantined.empty() && source.busy.empty();
      });
  if (idle == sources_.end()) {
    AddSource(ip, /*is_bind_address=*/false);
    return sources_.size() - 1;
  }
  source_by_ip_.erase(idle->ip);
  idle->ip = ip;
  const size_t index = idle - sources_.begin();
  source_by_ip_[ip] = index;
  return index;
}

void RelayPorts::FindCandidates(const SocketAddress& route_source,
                                absl::Span<const SocketAddress> avoided) {
  const auto is_avoided = [&](const SocketAddress& ip) {
    return std::find(avoided.begin(), avoided.end(), ip) != avoided.end();
  };
  candidates_.clear();
  const std::vector<size_t>& bind_sources =
      route_source.is_ipv4() ? ipv4_bind_sources_ : ipv6_bind_sources_;
  if (bind_sources.empty()) {
    const SocketAddress ip = route_source.WithPort(0);
    if (!is_avoided(ip)) candidates_.push_back(FindOrAddSource(ip));
    return;
  }
  size_t& next_source = route_source.is_ipv4() ? ipv4_next_ : ipv6_next_;
  for (size_t i = 0, next = next_source; i < bind_sources.size(); ++i) {
    const size_t source = bind_sources[next];
    if (!is_avoided(sources_[source].ip)) candidates_.push_back(source);
    if (++next == bind_sources.size()) next = 0;
  }
  if (++next_source == bind_sources.size()) next_source = 0;
}

int64_t RelayPorts::BlockNanoseconds(BlockedQueue Source::*row) const {
  return row == &Source::quarantined ? quarantine_nanoseconds_
                                     : kBusyNanoseconds;
}

bool RelayPorts::IsFree(uint16_t port_index) const {
  return use_counts_[port_index] == 0 && blocked_counts_[port_index] == 0;
}

void RelayPorts::Block(Source* source, BlockedQueue Source::*row,
                       uint16_t port_index) {
  (source->*row).push_back({latest_nanoseconds_, port_index});
  ++blocked_counts_[port_index];
  next_unblock_nanoseconds_ = std::min(
      next_unblock_nanoseconds_, latest_nanoseconds_ + BlockNanoseconds(row));
}

void RelayPorts::UnblockDue() {
  if (latest_nanoseconds_ < next_unblock_nanoseconds_) return;
  next_unblock_nanoseconds_ = INT64_MAX;
  for (Source& source : sources_) {
    UnblockOf(&source, &Source::quarantined);
    UnblockOf(&source, &Source::busy);
  }
}

void RelayPorts::UnblockOf(Source* source, BlockedQueue Source::*row) {
  BlockedQueue& blocked_ports = source->*row;
  for (int i = 0; !blocked_ports.empty(); ++i) {
    const BlockedPort blocked = blocked_ports.front();
    const int64_t end_nanoseconds =
        blocked.since_nanoseconds + BlockNanoseconds(row);
    if (end_nanoseconds > latest_nanoseconds_ || i == kUnblockedAtOnceMax) {
      next_unblock_nanoseconds_ =
          std::min(next_unblock_nanoseconds_, end_nanoseconds);
      return;
    }
    blocked_ports.pop_front();
    ClearBit(blocked.port_index, &source->is_unavailable);
    --blocked_counts_[blocked.port_index];
    if (!IsFree(blocked.port_index)) continue;
    if (row == &Source::quarantined) {
      unblocked_.push_back(blocked);
    } else {  // its other user may have released it just now
      released_.push_back({latest_nanoseconds_, blocked.port_index});
    }
  }
}

absl::optional<RelayPorts::Choice> RelayPorts::Choose(bool is_ours_first,
                                                      bool takes_busy) {
  if (is_ours_first) {
    const absl::optional<Choice> choice = TakeOldest(&Source::quarantined);
    if (choice.has_value()) return choice;
  }
  if (const absl::optional<uint16_t> port_index = TakeFree()) {
    return Choice{candidates_.front(), *port_index};
  }
  if (const absl::optional<Choice> choice = FindUnique()) return choice;
  if (const absl::optional<Choice> choice = FindShared()) return choice;
  if (const absl::optional<Choice> choice = TakeOldest(&Source::quarantined)) {
    return choice;
  }
  if (!takes_busy) return absl::nullopt;
  return TakeOldest(&Source::busy);
}

absl::optional<uint16_t> RelayPorts::TakeFree() {
  if (never_taken_ < ports_.size()) {
    return static_cast<uint16_t>(never_taken_++);
  }
  if (released_.empty() && unblocked_.empty()) return absl::nullopt;
  const bool takes_unblocked =
      released_.empty() ||
      (!unblocked_.empty() && unblocked_.front().since_nanoseconds <=
                                  released_.front().since_nanoseconds);
  BlockedQueue& row = takes_unblocked ? unblocked_ : released_;
  const uint16_t port_index = row.front().port_index;
  row.pop_front();
  return port_index;
}

absl::optional<RelayPorts::Choice> RelayPorts::FindUnique() {
  // If there is only one address, a port that is not blocked is free.
  if (sources_.size() == 1) return absl::nullopt;
  int searched_count = 0;
  for (size_t i = 0; i < is_used_somewhere_.size(); ++i) {
    const size_t word = NextSearchWord();
    const uint64_t unused = ~is_used_somewhere_[word];
    if (unused == 0) continue;
    for (const size_t source : candidates_) {
      if (++searched_count > kWordsSearchedMax) return absl::nullopt;
      const uint64_t found = unused & ~sources_[source].is_unavailable[word];
      if (found != 0) return Choice{source, FirstBit(word, found)};
    }
  }
  return absl::nullopt;
}

absl::optional<RelayPorts::Choice> RelayPorts::FindShared() {
  for (const size_t index : candidates_) {
    const Source& source = sources_[index];
    const auto unavailable_count = static_cast<size_t>(source.use_count) +
                                   source.quarantined.size() +
                                   source.busy.size();
    if (unavailable_count == ports_.size()) continue;
    for (size_t i = 0; i < source.is_unavailable.size(); ++i) {
      const size_t word = NextSearchWord();
      const uint64_t found = ~source.is_unavailable[word];
      if (found != 0) return Choice{index, FirstBit(word, found)};
    }
  }
  return absl::nullopt;
}

size_t RelayPorts::NextSearchWord() {
  if (++search_word_ >= is_used_somewhere_.size()) search_word_ = 0;
  return search_word_;
}

absl::optional<RelayPorts::Choice> RelayPorts::TakeOldest(
    BlockedQueue Source::*row) {
  absl::optional<size_t> oldest;
  for (const size_t source : candidates_) {
    const BlockedQueue& blocked_ports = sources_[source].*row;
    if (blocked_ports.empty()) continue;
    if (!oldest.has_value() ||
        blocked_ports.front().since_nanoseconds <
            (sources_[*oldest].*row).front().since_nanoseconds) {
      oldest = source;
    }
  }
  if (!oldest.has_value()) return absl::nullopt;
  BlockedQueue& blocked_ports = sources_[*oldest].*row;
  const BlockedPort blocked = blocked_ports.front();
  blocked_ports.pop_front();
  --blocked_counts_[blocked.port_index];
  Choice choice{*oldest, blocked.port_index};
  if (row == &Source::quarantined) {
    choice.quarantined_until_nanoseconds =
        blocked.since_nanoseconds + quarantine_nanoseconds_;
  }
  return choice;
}

}  // namespace internal
}  // namespace udpgate
