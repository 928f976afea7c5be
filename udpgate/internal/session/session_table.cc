#include "udpgate/internal/session/session_table.h"

namespace udpgate {
namespace internal {

SessionTable::SessionTable(uint32_t shard)
    : shard_(shard), index_(0, SlotHash{this}, SlotEqual{this}) {}

Session* SessionTable::Find(const SocketAddress& client, uint32_t hash) {
  const auto found = index_.find(ClientKey{client, hash});
  return found == index_.end() ? nullptr : &at(*found);
}

Session* SessionTable::Find(const SessionRef& ref) {
  Session* session = FindSlot(ref.slot);
  return session != nullptr && session->id == ref.id ? session : nullptr;
}

Session* SessionTable::FindSlot(uint32_t slot) {
  if (slot >= slot_count_) return nullptr;
  Session& session = at(slot);
  return session.id == 0 ? nullptr : &session;
}

Session* SessionTable::Insert(const SocketAddress& client, uint32_t hash,
                              int64_t now_nanoseconds) {
  newest_id_ = (++session_number_ << 8) | shard_;
  Session* session = Place(client, hash, newest_id_);
  session->last_active_nanoseconds = now_nanoseconds;
  session->created_nanoseconds = now_nanoseconds;
  return session;
}

Session* SessionTable::Adopt(const SocketAddress& client, uint32_t hash,
                             uint64_t id) {
  return Place(client, hash, id);
}

void SessionTable::SetSessionNumber(uint64_t number) {
  session_number_ = number;
  newest_id_ = (number << 8) | 0xff;
}

Session* SessionTable::Place(const SocketAddress& client, uint32_t hash,
                             uint64_t id) {
  uint32_t slot;
  if (free_slots_.empty()) {
    slot = slot_count_++;
    if (slot / kSessionsPerChunk == chunks_.size()) {
      chunks_.push_back(std::make_unique<Session[]>(kSessionsPerChunk));
    }
  } else {
    slot = free_slots_.front();
    free_slots_.pop_front();
  }
  Session& session = at(slot);
  session.slot = slot;
  session.id = id;
  session.hash = hash;
  session.client = client;
  index_.insert(slot);
  return &session;
}

void SessionTable::Erase(Session* session) {
  const uint32_t slot = session->slot;
  index_.erase(index_.find(ClientKey{session->client, session->hash}));
  *session = Session();
  free_slots_.push_back(slot);
}

void SessionList::Append(Session* session) {
  session->list_previous = last_;
  session->list_next = kNoSlot;
  *LinkOf(last_, &Session::list_next, &first_) = session->slot;
  last_ = session->slot;
}

void SessionList::Remove(Session* session) {
  *LinkOf(session->list_previous, &Session::list_next, &first_) =
      session->list_next;
  *LinkOf(session->list_next, &Session::list_previous, &last_) =
      session->list_previous;
}

void NetworkIndex::SetOn(bool is_on) {
  if (is_on == is_on_) return;
  is_on_ = is_on;
  ends_.clear();
  if (!is_on) return;
  for (uint32_t slot = 0; slot < table_->slot_count(); ++slot) {
    Session* session = table_->FindSlot(slot);
    if (session != nullptr) Add(session);
  }
}

void NetworkIndex::Add(Session* session) {
  if (!is_on_) return;
  Ends& ends = ends_[ClientNetwork(session->client)];
  session->network_previous = ends.last;
  session->network_next = kNoSlot;
  if (ends.last == kNoSlot) {
    ends.first = session->slot;
  } else {
    table_->FindSlot(ends.last)->network_next = session->slot;
  }
  ends.last = session->slot;
}

void NetworkIndex::Remove(Session* session) {
  if (!is_on_) return;
  const auto found = ends_.find(ClientNetwork(session->client));
  const uint32_t previous = session->network_previous;
  const uint32_t next = session->network_next;
  if (previous == kNoSlot) {
    found->second.first = next;
  } else {
    table_->FindSlot(previous)->network_next = next;
  }
  if (next == kNoSlot) {
    found->second.last = previous;
  } else {
    table_->FindSlot(next)->network_previous = previous;
  }
  if (found->second.first == kNoSlot) ends_.erase(found);
}

void NetworkIndex::ForEach(const SocketAddress& client, int count_max,
                           absl::FunctionRef<void(Session*)> visit) const {
  const auto found = ends_.find(ClientNetwork(client));
  if (found == ends_.end()) return;
  uint32_t slot = found->second.first;
  for (int i = 0; slot != kNoSlot && i < count_max; ++i) {
    Session* session = table_->FindSlot(slot);
    slot = session->network_next;
    visit(session);
  }
}

}  // namespace internal
}  // namespace udpgate
