#include "udpgate/http/internal/connection_table.h"

#include <algorithm>

namespace udpgate {
namespace http {
namespace internal {
namespace {

using ::udpgate::internal::ClientNetwork;
using ::udpgate::internal::MutexLock;

// Deadlines are met this late at most, and many at once are met together.
constexpr std::chrono::milliseconds kCheckIntervalMin(10);

constexpr size_t kNoPhase = kPhaseCount;

}  // namespace

ConnectionTable::ConnectionTable(const Limits& limits)
    : limits_(limits),
      shortest_timeout_(
          *std::min_element(limits.timeouts.begin(), limits.timeouts.end())) {}

void ConnectionTable::MoveTo(Entry* entry, size_t list) {
  lists_[list].splice(lists_[list].end(), lists_[entry->list], entry->place);
  entry->list = list;
}

bool ConnectionTable::CountNetwork(Entry* entry, const SocketAddress& client) {
  if (limits_.connections_per_network_max == 0) return true;
  const ClientNetwork network(client);
  size_t& count = per_network_[network];
  if (count >= limits_.connections_per_network_max) return false;
  ++count;
  entry->network = network;
  return true;
}

void ConnectionTable::Uncount(Entry* entry) {
  if (entry->is_counted) --counted_;
  if (entry->is_refused) --refused_;
  entry->is_counted = entry->is_refused = false;
  if (!entry->network.has_value()) return;
  const auto it = per_network_.find(*entry->network);
  if (--it->second == 0) per_network_.erase(it);
  entry->network.reset();
}

ConnectionTable::Verdict ConnectionTable::Add(
    Entry* entry, const SocketAddress* client,
    std::shared_ptr<Connection>* evicted) {
  MutexLock lock(&mutex_);
  bool has_room = client == nullptr || CountNetwork(entry, *client);
  if (has_room && counted_ >= limits_.connections_max) {
    *evicted = limits_.evicts_oldest
                   ? EvictFrom({Phase::kIdle, Phase::kPreface, Phase::kReading})
                   : EvictFrom({Phase::kIdle});
    has_room = *evicted != nullptr;
    if (!has_room) Uncount(entry);
  }
  if (has_room) {
    ++counted_;
    entry->is_counted = true;
  } else {
    if (refused_ >= kRefusedMax) return Verdict::kClose;
    ++refused_;
    entry->is_refused = true;
  }
  entry->is_added = true;
  entry->list = static_cast<size_t>(entry->phase);
  entry->deadline =
      std::chrono::steady_clock::now() + limits_.timeouts[entry->list];
  lists_[entry->list].push_back(entry);
  entry->place = std::prev(lists_[entry->list].end());
  return has_room ? Verdict::kAdmitted : Verdict::kRefuse;
}

bool ConnectionTable::SetClient(Entry* entry, const SocketAddress& client) {
  MutexLock lock(&mutex_);
  return entry->network.has_value() || CountNetwork(entry, client);
}

void ConnectionTable::Move(Entry* entry, Phase phase) {
  const size_t list = static_cast<size_t>(phase);
  // Not under the lock: only one thread moves a connection.
  const TimePoint deadline =
      std::chrono::steady_clock::now() + limits_.timeouts[list];
  MutexLock lock(&mutex_);
  if (!entry->is_added) return;
  entry->phase = phase;
  entry->deadline = deadline;
  ++entry->moves;
  MoveTo(entry, list);
}

void ConnectionTable::Remove(Entry* entry) {
  MutexLock lock(&mutex_);
  if (!entry->is_added) return;
  Uncount(entry);
  lists_[entry->list].erase(entry->place);
  entry->is_added = false;
}

std::shared_ptr<Connection> ConnectionTable::EvictFrom(
    absl::Span<const Phase> phases) {
  for (const Phase phase : phases) {
    std::list<Entry*>& list = lists_[static_cast<size_t>(phase)];
    while (!list.empty()) {
      Entry* const entry = list.front();
      MoveTo(entry, kNoPhase);
      std::shared_ptr<Connection> connection = entry->connection.lock();
      if (connection == nullptr) continue;
      Uncount(entry);
      return connection;
    }
  }
  return nullptr;
}

std::shared_ptr<Connection> ConnectionTable::Evict() {
  MutexLock lock(&mutex_);
  return limits_.evicts_oldest
             ? EvictFrom({Phase::kIdle, Phase::kPreface, Phase::kReading})
             : EvictFrom({Phase::kIdle});
}

std::vector<ConnectionTable::Overdue> ConnectionTable::TakeOverdue(
    TimePoint now) {
  std::vector<Overdue> overdue;
  MutexLock lock(&mutex_);
  for (size_t list = 0; list < kPhaseCount; ++list) {
    while (!lists_[list].empty() && lists_[list].front()->deadline <= now) {
      Entry* const entry = lists_[list].front();
      MoveTo(entry, kNoPhase);
      std::shared_ptr<Connection> connection = entry->connection.lock();
      if (connection == nullptr) continue;
      overdue.push_back({std::move(connection), entry->moves});
    }
  }
  return overdue;
}

ConnectionTable::TimePoint ConnectionTable::NextCheck(TimePoint now) const {
  TimePoint next = TimePoint::max();
  MutexLock lock(&mutex_);
  for (size_t list = 0; list < kPhaseCount; ++list) {
    if (lists_[list].empty()) continue;
    next = std::min(next, lists_[list].front()->deadline);
  }
  if (next == TimePoint::max()) return next;
  return std::max(std::min(next, now + shortest_timeout_),
                  now + kCheckIntervalMin);
}

std::vector<std::shared_ptr<Connection>> ConnectionTable::All() const {
  std::vector<std::shared_ptr<Connection>> all;
  MutexLock lock(&mutex_);
  for (const std::list<Entry*>& list : lists_) {
    for (const Entry* const entry : list) {
      if (std::shared_ptr<Connection> connection = entry->connection.lock()) {
        all.push_back(std::move(connection));
      }
    }
  }
  return all;
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
