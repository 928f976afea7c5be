#include "udpgate/admin/session_history.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "udpgate/backend_resolver.h"

namespace udpgate {
namespace admin {

using ::udpgate::internal::MutexLock;

SessionHistory::SessionHistory(SessionHistoryOptions options)
    : options_(std::move(options)) {}

void SessionHistory::Observe(const SessionEvent& event) {
  const absl::Time now = options_.now();
  MutexLock lock(&mutex_);
  if (event.kind == SessionEvent::Kind::kConfirmed) return;
  if (event.backend.is_valid()) {
    Backend* backend = Find(event.backend, now);
    if (event.kind == SessionEvent::Kind::kOpened) {
      ++backend->opened;
    } else {
      ++backend->ended[static_cast<size_t>(event.end_reason)];
    }
  }
  if (event.kind != SessionEvent::Kind::kEnded || options_.ends_max == 0) {
    return;
  }
  if (ends_.size() == options_.ends_max) ends_.pop_front();
  ends_.push_back({event, now - event.delay});
  // The resolver's own tag may hold more than its text.
  if (event.tag != nullptr) {
    ends_.back().event.tag =
        std::make_shared<SessionTag>("", event.tag->text());
  }
}

SessionHistory::Backend* SessionHistory::Find(const SocketAddress& address,
                                              absl::Time now) {
  auto found = places_.find(address);
  if (found == places_.end() && places_.size() >= options_.backends_max &&
      now >= next_look_) {
    // `next_look_` avoids a search for each session of many backends.
    const auto oldest = std::min_element(
        places_.begin(), places_.end(), [](const auto& a, const auto& b) {
          return a.second.last_event < b.second.last_event;
        });
    if (oldest != places_.end()) {
      next_look_ = oldest->second.last_event + options_.backend_idle_min;
      if (now >= next_look_) places_.erase(oldest);
    }
  }
  if (found == places_.end() && places_.size() < options_.backends_max) {
    found = places_.try_emplace(address).first;
    found->second.backend.address = address;
  }
  if (found == places_.end()) {
    has_others_ = true;
    return &others_;
  }
  found->second.last_event = now;
  return &found->second.backend;
}

SessionHistory::Record SessionHistory::Save() const {
  Record record;
  MutexLock lock(&mutex_);
  record.ends.assign(ends_.begin(), ends_.end());
  for (const auto& [address, place] : places_) {
    record.backends.push_back({place.backend, place.last_event});
  }
  if (has_others_) record.backends.push_back({others_, absl::UnixEpoch()});
  return record;
}

void SessionHistory::AddTo(const Backend& counted, Backend* sum) {
  sum->opened += counted.opened;
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    sum->ended[i] += counted.ended[i];
  }
}

void SessionHistory::Restore(const Record& record) {
  MutexLock lock(&mutex_);
  ends_.insert(ends_.begin(), record.ends.begin(), record.ends.end());
  while (ends_.size() > options_.ends_max) ends_.pop_front();
  // A backend that /metrics has shown by name must stay: these go first.
  absl::flat_hash_map<SocketAddress, Place> newer;
  newer.swap(places_);
  next_look_ = absl::InfinitePast();
  // The thread safety analysis does not see that the lock is held here.
  const auto add = [&](const Backend& backend,
                       absl::Time last_event) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    auto found = places_.find(backend.address);
    if (backend.address.is_valid() && found == places_.end() &&
        places_.size() < options_.backends_max) {
      found = places_.try_emplace(backend.address).first;
      found->second.backend.address = backend.address;
      found->second.last_event = last_event;
    }
    if (found == places_.end()) {
      has_others_ = true;
      AddTo(backend, &others_);
      return;
    }
    found->second.last_event = std::max(found->second.last_event, last_event);
    AddTo(backend, &found->second.backend);
  };
  for (const RecordedBackend& recorded : record.backends) {
    add(recorded.backend, recorded.last_event);
  }
  for (const auto& [address, place] : newer) {
    add(place.backend, place.last_event);
  }
}

void SessionHistory::ForEachEnd(
    const std::function<bool(const End& end)>& visit) const {
  MutexLock lock(&mutex_);
  for (auto end = ends_.rbegin(); end != ends_.rend(); ++end) {
    if (!visit(*end)) return;
  }
}

std::vector<SessionHistory::Backend> SessionHistory::Backends() const {
  std::vector<std::pair<std::string, Backend>> named;
  std::vector<Backend> result;
  MutexLock lock(&mutex_);
  for (const auto& [address, place] : places_) {
    named.emplace_back(address.ToString(), place.backend);
  }
  std::sort(named.begin(), named.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  result.reserve(named.size() + 1);
  for (const auto& [text, backend] : named) result.push_back(backend);
  if (has_others_) result.push_back(others_);
  return result;
}

}  // namespace admin
}  // namespace udpgate
