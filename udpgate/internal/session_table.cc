#include "udpgate/internal/session_table.h"

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

}  // namespace internal
}  // namespace udpgate
