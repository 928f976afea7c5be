#include "udpgate/redis/internal/key_sets.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {

void MoveDue(int64_t Request::*time, int64_t until, Requests* from,
             Requests* to, int64_t* next) {
  const auto is_not_due = [&](const Request& request) {
    return request.*time > until;
  };
  const auto first_due =
      std::stable_partition(from->begin(), from->end(), is_not_due);
  to->insert(to->end(), std::make_move_iterator(first_due),
             std::make_move_iterator(from->end()));
  from->erase(first_due, from->end());
  for (const Request& request : *from) {
    *next = std::min(*next, request.*time);
  }
}

SharedKeySet KeySetTable::Find(std::vector<std::string> keys,
                               int64_t now_nanoseconds) {
  std::string id;
  for (const std::string& key : keys)
    absl::StrAppend(&id, key.size(), ":", key);
  const auto found = by_id_.find(id);
  if (found != by_id_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->keys;
  }
  if (entries_.size() >= sets_max_) {
    const ResultLog& log = *entries_.back().keys->log;
    if (log.FindFailure(now_nanoseconds).has_value() ||
        log.FindStale(now_nanoseconds).has_value()) {
      forgotten_.fetch_add(1, std::memory_order_relaxed);
    }
    by_id_.erase(entries_.back().id);
    entries_.pop_back();
  }
  entries_.push_front(
      {std::move(id),
       std::make_shared<KeySet>(
           std::move(keys),
           std::make_shared<ResultLog>(failure_pause_, stale_age_max_))});
  by_id_.emplace(entries_.front().id, entries_.begin());
  size_.store(entries_.size(), std::memory_order_relaxed);
  return entries_.front().keys;
}

void WaitingSets::Insert(const SharedKeySet& keys, int64_t now_nanoseconds) {
  if (keys->is_listed) return;
  const auto failure = keys->log->FindFailure(now_nanoseconds);
  keys->place = sets_.emplace(
      failure.has_value() ? failure->until_nanoseconds : INT64_MIN, keys);
  keys->is_listed = true;
}

void WaitingSets::Prune(KeySet* keys) {
  if (!keys->is_listed || !keys->waiting.empty()) return;
  keys->is_listed = false;
  // This may be the last reference.
  sets_.erase(keys->place);
  if (sets_.empty()) next_deadline_nanoseconds_ = INT64_MAX;
}

void WaitingSets::Add(const SharedKeySet& keys, Request request,
                      int64_t now_nanoseconds) {
  next_deadline_nanoseconds_ =
      std::min(next_deadline_nanoseconds_, request.deadline_nanoseconds);
  keys->waiting.push_back(std::move(request));
  Insert(keys, now_nanoseconds);
}

void WaitingSets::AddInFront(const SharedKeySet& keys, Requests requests,
                             int64_t now_nanoseconds) {
  if (requests.empty()) return;
  for (const Request& request : requests) {
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, request.deadline_nanoseconds);
  }
  keys->waiting.insert(keys->waiting.begin(),
                       std::make_move_iterator(requests.begin()),
                       std::make_move_iterator(requests.end()));
  Insert(keys, now_nanoseconds);
}

SharedKeySet WaitingSets::TakeFirst(int64_t now_nanoseconds,
                                    Requests* requests) {
  SharedKeySet keys = std::move(sets_.begin()->second);
  sets_.erase(sets_.begin());
  keys->is_listed = false;
  // It may have failed since it was inserted.
  if (keys->log->FindFailure(now_nanoseconds).has_value()) {
    Insert(keys, now_nanoseconds);
    return nullptr;
  }
  *requests = std::exchange(keys->waiting, {});
  if (sets_.empty()) next_deadline_nanoseconds_ = INT64_MAX;
  return keys;
}

Requests WaitingSets::TakeExpired(int64_t until_nanoseconds) {
  Requests expired;
  if (until_nanoseconds < next_deadline_nanoseconds_) return expired;
  int64_t next_nanoseconds = INT64_MAX;
  ForEach([&](KeySet* keys) {
    MoveDue(&Request::deadline_nanoseconds, until_nanoseconds, &keys->waiting,
            &expired, &next_nanoseconds);
  });
  next_deadline_nanoseconds_ = next_nanoseconds;
  return expired;
}

Requests WaitingSets::TakeAll() {
  Requests all;
  ForEach([&](KeySet* keys) {
    std::move(keys->waiting.begin(), keys->waiting.end(),
              std::back_inserter(all));
    keys->waiting.clear();
  });
  return all;
}

void WaitingSets::ForEach(absl::FunctionRef<void(KeySet*)> visit) {
  for (auto entry = sets_.begin(); entry != sets_.end();) {
    KeySet* const keys = (entry++)->second.get();
    visit(keys);
    Prune(keys);
  }
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
