#include "udpgate/admin/session_history.h"

#include <algorithm>
#include <string>
#include <utility>

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
}

SessionHistory::Backend* SessionHistory::Find(const SocketAddress& address,
                                              absl::Time now) {
  auto found = places_.find(address);
  if (found == places_.end() && places_.size() >= options_.backends_max &&
      now >= next_look_) {
    // Of many backends each new session would look through all places.
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
  for (const auto& [text, backend] : named) result.push_back(backend);
  if (has_others_) result.push_back(others_);
  return result;
}

}  // namespace admin
}  // namespace udpgate
