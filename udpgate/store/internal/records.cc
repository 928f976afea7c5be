#include "udpgate/store/internal/records.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

using Outcome = SessionStore::Outcome;

}  // namespace

Records::Records(KeeperContext* context, StoreCalls* calls,
                 DisconnectMemory* memory)
    : context_(context), calls_(calls), memory_(memory) {}

void Records::Confirm(StoredSession record, int64_t began_nanoseconds) {
  Entry* entry = FindEntry(record.client);
  // Continued or adopted already.
  if (entry != nullptr && entry->is_live &&
      entry->record.token == record.token) {
    return;
  }
  SetNeed(Insert(std::move(record), began_nanoseconds), kWrite);
}

void Records::Continue(StoredSession record, int64_t began_nanoseconds) {
  SetNeed(Insert(std::move(record), began_nanoseconds), kRefresh);
}

void Records::Adopt(StoredSession record, int64_t began_nanoseconds,
                    const SessionToken& from, std::string unless_lives) {
  Entry* const entry = Insert(std::move(record), began_nanoseconds);
  entry->from = from;
  entry->unless_lives = std::move(unless_lives);
  SetNeed(entry, kAdopt);
}

void Records::End(const SocketAddress& client, uint64_t session_id,
                  bool removes) {
  Entry* const entry = FindEntry(client);
  if (entry == nullptr || !entry->is_live ||
      entry->record.token.session != session_id) {
    return;
  }
  if (!removes) return Erase(client);
  entry->is_live = false;
  if (entry->need == kAdopt && entry->from != entry->record.token) {
    entry->other_token = entry->from;
  }
  SetNeed(entry, kRemove);
}

void Records::Rewrite(const SocketAddress& client, const SocketAddress& local,
                      const SocketAddress& relay) {
  Entry* const entry = FindEntry(client);
  if (entry == nullptr || !entry->is_live) return;
  entry->record.local = local;
  entry->record.relay = relay;
  // Written or adopted soon, with these.
  if (entry->need == kWrite || entry->need == kAdopt) return;
  entry->from = entry->record.token;
  entry->unless_lives.clear();
  SetNeed(entry, kAdopt);
}

void Records::RewriteAll() {
  for (const SocketAddress& client : order_) {
    const Entry* const entry = FindEntry(client);
    Rewrite(client, entry->record.local, entry->record.relay);
  }
}

void Records::RefreshSome(size_t count) {
  // `SetNeed` leaves the order as it is; a refreshed record moves to the end.
  // Half of the queue is for changes that cannot come later as well.
  const size_t depth_max =
      static_cast<size_t>(context_->options->queue_max) / 2;
  for (auto client = order_.begin(); client != order_.end() && count > 0;
       ++client) {
    Entry* const entry = FindEntry(*client);
    if (entry->need != kNone) continue;
    if (queue_depth() >= depth_max) return;
    SetNeed(entry, kRefresh);
    --count;
  }
}

void Records::BeginSweep() {
  for (auto& entry : entries_) entry.second->is_seen = false;
}

void Records::Seen(const StoredSession& record, int64_t began_nanoseconds,
                   bool is_continued) {
  Entry* entry = FindEntry(record.client);
  if (entry == nullptr || !entry->is_live ||
      entry->record.token != record.token) {
    if (is_continued) {
      Continue(record, began_nanoseconds);
    } else {
      Confirm(record, began_nanoseconds);
    }
    entry = FindEntry(record.client);
  } else if (entry->record.relay != record.relay ||
             entry->record.local != record.local) {
    Rewrite(record.client, record.local, record.relay);
  }
  entry->is_seen = true;
}

bool Records::EndSweep() {
  bool is_one_missing = false;
  for (const SocketAddress& client : order_) {
    Entry* const entry = FindEntry(client);
    if (entry->is_live && !entry->is_seen && entry->was_missed) {
      End(client, entry->record.token.session, /*removes=*/true);
      continue;
    }
    entry->was_missed = entry->is_live && !entry->is_seen;
    is_one_missing = is_one_missing || entry->was_missed;
    if (entry->need != kNone && entry->queued_in == kNone &&
        entry->flight == 0) {
      Enqueue(entry);
    }
  }
  return is_one_missing;
}

void Records::Clear() {
  ++epoch_;
  entries_.clear();
  order_.clear();
  for (Queue& queue : queues_) queue.clients.clear();
  unverified_.clear();
  in_flight_count_ = 0;
}

void Records::Tick() {
  if (std::exchange(must_refresh_all_, false)) RefreshSome(order_.size());
  if (!context_->is_fenced) {
    for (int need = 0; need < kNeedCount; ++need) {
      Flush(static_cast<Need>(need));
    }
    Verify();
  }
  context_->stats.sessions = entries_.size();
  context_->stats.changes_waiting = queue_depth();
}

int64_t Records::next_nanoseconds() const {
  if (context_->is_fenced) return kNever;
  int64_t next = kNever;
  for (const Queue& queue : queues_) {
    if (queue.clients.empty()) continue;
    next = std::min(
        next, queue.since_nanoseconds +
                  absl::ToInt64Nanoseconds(context_->options->write_delay));
  }
  // A queue that is due waits for a result or for the rate.
  return next > context_->now_nanoseconds ? next : kNever;
}

const StoredSession* Records::Find(const SocketAddress& client) const {
  const auto found = entries_.find(client);
  if (found == entries_.end() || !found->second->is_live) return nullptr;
  return &found->second->record;
}

size_t Records::queue_depth() const {
  size_t depth = 0;
  for (const Queue& queue : queues_) depth += queue.clients.size();
  return depth;
}

bool Records::IsIdle() const {
  return queue_depth() == 0 && in_flight_count_ == 0 && unverified_.empty();
}

bool Records::TakeDropped() { return std::exchange(has_dropped_, false); }

Records::Entry* Records::FindEntry(const SocketAddress& client) {
  const auto found = entries_.find(client);
  return found == entries_.end() ? nullptr : found->second.get();
}

Records::Entry* Records::Insert(StoredSession record,
                                int64_t began_nanoseconds) {
  std::unique_ptr<Entry>& entry = entries_[record.client];
  if (entry == nullptr) {
    entry = std::make_unique<Entry>();
    entry->place = order_.insert(order_.end(), record.client);
  }
  entry->record = std::move(record);
  entry->began_nanoseconds = began_nanoseconds;
  entry->is_live = true;
  entry->is_seen = true;
  entry->was_missed = false;
  entry->other_token = absl::nullopt;
  order_.splice(order_.end(), order_, entry->place);
  return entry.get();
}

void Records::Erase(const SocketAddress& client) {
  const auto found = entries_.find(client);
  order_.erase(found->second->place);
  entries_.erase(found);
}

void Records::SetNeed(Entry* entry, Need need) {
  entry->need = need;
  if (entry->flight == 0 && entry->queued_in != need) Enqueue(entry);
}

void Records::Enqueue(Entry* entry) {
  if (queue_depth() >= static_cast<size_t>(context_->options->queue_max)) {
    // What is in another queue is skipped there.
    entry->queued_in = kNone;
    has_dropped_ = true;
    ++context_->stats.changes_dropped;
    context_->Log(LogSeverity::kWarning, LogTopic::kQueue,
                  "session store: too many changes wait; further ones are "
                  "repeated later");
    return;
  }
  Queue& queue = queues_[entry->need];
  if (queue.clients.empty()) {
    queue.since_nanoseconds = context_->now_nanoseconds;
  }
  queue.clients.push_back(entry->record.client);
  entry->queued_in = entry->need;
}

void Records::Stored(Entry* entry) {
  entry->need = kNone;
  order_.splice(order_.end(), order_, entry->place);
}

void Records::Lose(Entry* entry, absl::string_view why) {
  const SocketAddress client = entry->record.client;
  const uint64_t session = entry->record.token.session;
  ++context_->stats.lost;
  context_->Log(LogSeverity::kInfo, LogTopic::kLost,
                absl::StrCat("session store: the session of ",
                             client.ToString(), " ends here: ", why));
  Erase(client);
  context_->gateway->Supersede({session});
}

absl::Time Records::SinceOf(const Entry& entry) const {
  return memory_->SinceAfter(entry.record,
                             context_->WallAt(entry.began_nanoseconds));
}

void Records::Flush(Need need) {
  Queue& queue = queues_[need];
  while (!queue.clients.empty()) {
    const bool is_ripe =
        queue.clients.size() >= kBatchMax ||
        context_->now_nanoseconds >=
            queue.since_nanoseconds +
                absl::ToInt64Nanoseconds(context_->options->write_delay);
    if (!is_ripe || !calls_->Admit(StoreCalls::Kind::kChange)) return;
    Changes changes = TakeBatch(need);
    if (!changes.empty()) Send(need, std::move(changes));
  }
}

Records::Changes Records::TakeBatch(Need need) {
  std::deque<SocketAddress>& clients = queues_[need].clients;
  Changes changes;
  while (!clients.empty() && changes.size() < kBatchMax) {
    const SocketAddress client = clients.front();
    clients.pop_front();
    Entry* const entry = FindEntry(client);
    // The need has changed since.
    if (entry == nullptr || entry->queued_in != need) continue;
    entry->queued_in = kNone;
    if (entry->need != need || entry->flight != 0) continue;
    entry->flight = ++last_flight_;
    changes.push_back(
        {client, entry->record.token.session, need, entry->flight});
  }
  return changes;
}

void Records::Send(Need need, Changes changes) {
  std::vector<StoredSession> written;
  std::vector<SessionStore::SessionKey> keys;
  std::vector<SessionStore::Adoption> adoptions;
  for (const Change& change : changes) {
    Entry* const entry = FindEntry(change.client);
    entry->record.since = SinceOf(*entry);
    if (need == kWrite) written.push_back(entry->record);
    if (need == kAdopt) {
      adoptions.push_back({entry->record, entry->from, entry->unless_lives});
    }
    if (need == kRefresh || need == kRemove) {
      keys.push_back({change.client, entry->record.token});
    }
  }
  in_flight_count_ += changes.size();
  auto result = [this, epoch = epoch_, changes = std::move(changes)](
                    const absl::StatusOr<StoreCalls::Outcomes>& outcomes) {
    if (epoch == epoch_) Finish(changes, outcomes);
  };
  switch (need) {
    case kWrite:
      return calls_->Write(std::move(written), std::move(result));
    case kAdopt:
      return calls_->Adopt(std::move(adoptions), std::move(result));
    case kRefresh:
      return calls_->Refresh(std::move(keys), std::move(result));
    default:
      return calls_->Remove(std::move(keys), std::move(result));
  }
}

void Records::Finish(const Changes& changes,
                     const absl::StatusOr<StoreCalls::Outcomes>& outcomes) {
  in_flight_count_ -= changes.size();
  for (size_t i = 0; i < changes.size(); ++i) {
    Entry* const entry = FindEntry(changes[i].client);
    // It was forgotten, and maybe began anew.
    if (entry == nullptr || entry->flight != changes[i].flight) continue;
    entry->flight = 0;
    const bool is_same = entry->need == changes[i].need &&
                         entry->record.token.session == changes[i].session;
    if (outcomes.ok() && is_same) {
      FinishOne(entry, changes[i], (*outcomes)[i]);
    } else if (entry->need != kNone) {
      Enqueue(entry);
    }
  }
}

void Records::FinishOne(Entry* entry, const Change& change, Outcome outcome) {
  SessionKeeperStats& stats = context_->stats;
  if (change.need == kRemove) {
    if (outcome == Outcome::kOtherOwner && entry->other_token.has_value()) {
      entry->record.token = *entry->other_token;
      entry->other_token = absl::nullopt;
      return SetNeed(entry, kRemove);
    }
    if (outcome == Outcome::kDone) ++stats.removed;
    return Erase(change.client);
  }
  switch (outcome) {
    case Outcome::kDone:
      if (change.need == kWrite) ++stats.written;
      if (change.need == kRefresh) ++stats.refreshed;
      if (change.need == kAdopt) ++stats.adopted;
      return Stored(entry);
    case Outcome::kAbsent:
      // An adopted session whose record was removed meanwhile has ended
      // elsewhere, or a disconnect event names it.
      if (change.need == kAdopt && entry->from != entry->record.token) {
        return Lose(entry, "its record was removed");
      }
      ++stats.rewritten;
      return SetNeed(entry, kWrite);
    case Outcome::kOwnerLives:
      return Lose(entry, "its gateway lives");
    case Outcome::kOtherOwner:
      unverified_.push_back(change);
      return;
  }
}

void Records::Verify() {
  while (!unverified_.empty() && calls_->Admit(StoreCalls::Kind::kChange)) {
    Changes changes;
    std::vector<SocketAddress> clients;
    while (!unverified_.empty() && changes.size() < kBatchMax) {
      clients.push_back(unverified_.front().client);
      changes.push_back(unverified_.front());
      unverified_.pop_front();
    }
    in_flight_count_ += changes.size();
    calls_->Find(
        std::move(clients),
        [this, epoch = epoch_, changes = std::move(changes)](
            const absl::StatusOr<std::vector<SessionStore::Found>>& found) {
          if (epoch == epoch_) FinishVerify(changes, found);
        },
        StoreCalls::Kind::kChange);
  }
}

void Records::FinishVerify(
    const Changes& changes,
    const absl::StatusOr<std::vector<SessionStore::Found>>& found) {
  in_flight_count_ -= changes.size();
  for (size_t i = 0; i < changes.size(); ++i) {
    Entry* const entry = FindEntry(changes[i].client);
    // It has ended, or is another one, or needs something else now.
    if (entry == nullptr || !entry->is_live || entry->flight != 0 ||
        entry->record.token.session != changes[i].session ||
        entry->need != changes[i].need) {
      continue;
    }
    if (found.ok()) {
      FinishVerifyOne(entry, changes[i], (*found)[i]);
    } else {
      unverified_.push_back(changes[i]);
    }
  }
}

void Records::FinishVerifyOne(Entry* entry, const Change& change,
                              const SessionStore::Found& found) {
  if (!found.session.has_value()) {
    return FinishOne(entry, change, Outcome::kAbsent);
  }
  const SessionToken& token = found.session->token;
  if (token == entry->record.token) return Stored(entry);
  // A former session's, or the claim of this one.
  if (token.run == context_->run) return SetNeed(entry, kWrite);
  const bool is_adoption = change.need == kAdopt;
  const StoredSession other = *found.session;
  Lose(entry, absl::StrCat("gateway ", other.gateway_id, " has it"));
  // It is hardly the only one.
  RefreshAll();
  if (is_adoption && on_replaced != nullptr) on_replaced(other);
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
