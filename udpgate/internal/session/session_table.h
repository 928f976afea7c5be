// The sessions of one shard, by client address and by slot.
#ifndef UDPGATE_INTERNAL_SESSION_SESSION_TABLE_H_
#define UDPGATE_INTERNAL_SESSION_SESSION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "udpgate/flow_offload.h"
#include "udpgate/internal/net/client_network.h"
#include "udpgate/internal/session/session_record.h"
#include "udpgate/internal/session/session_ref.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The buffered datagrams of a pending session, in order.
struct HeldDatagrams {
  std::string bytes;                 // concatenated
  std::vector<uint32_t> size_bytes;  // of each
  std::vector<uint8_t> traffic_classes;

  // The oldest one, empty if there is none.
  absl::Span<const char> first() const {
    if (size_bytes.empty()) return {};
    return absl::MakeConstSpan(bytes.data(), size_bytes.front());
  }
};

inline constexpr uint32_t kNoSlot = UINT32_MAX;

// One client's relay state: one client address with one upstream socket, from
// the client's first datagram to one end for one reason.
//
// What survives a takeover is in SessionRecord. These are the fields that a new
// process derives anew.
struct Session : SessionRecord {
  // Used for each datagram.
  uint32_t slot = 0;
  uint32_t hash = 0;           // ClientHash of `client`
  int upstream_fd = -1;        // -1 exactly while pending
  uint32_t network_epoch = 0;  // see GateContext
  // The gateway that the client's last datagram came by, and replies go to; see
  // forward::internal::Peers. 0: none.
  uint16_t hop = 0;
  // While there is no reply: when to check the route again; see
  // UpstreamRecovery::CheckSource.
  int64_t next_source_check_nanoseconds = 0;

  // Whether to expect more than one reply; see Relay::ReadReplies.
  bool expects_burst = true;
  uint32_t last_read_iteration = 0;

  // A datagram of either side had a traffic class; and how many replies were
  // read, up to a limit; see Relay::MustReadControl.
  bool has_traffic_class = false;
  uint8_t reply_reads = 0;

  // Replies are left in the socket, which is not watched meanwhile; and one of
  // them may pass despite the limit. See AddressValidation.
  bool is_paused = false;
  bool may_trickle = false;

  // The session on the flow offload; see SessionOffload.
  uint32_t flow_slot = kNoSlot;
  bool is_on_fast_path = false;  // the flow was seen installed
  SessionActivity counted;

  // Its neighbours in the list that it is in; see SessionList.
  uint32_t list_previous = kNoSlot;
  uint32_t list_next = kNoSlot;

  // ICMP errors of the client's host in a row, and the time of the last one;
  // see Endings::HandleClientRefused.
  int client_refusals = 0;
  int64_t client_refused_nanoseconds = 0;
  // Its neighbours in the NetworkIndex.
  uint32_t network_previous = kNoSlot;
  uint32_t network_next = kNoSlot;

  // When the last resolution was started.
  int64_t resolve_begin_nanoseconds = 0;

  // During a takeover: another session had its source port when it was
  // prepared.
  bool lacks_port = false;

  // While pending: whether the result of the resolution under way must be
  // discarded, the number of that resolution, and the buffered datagrams.
  bool must_resolve_again = false;
  uint32_t resolution = 0;
  std::unique_ptr<HeldDatagrams> held;

  SessionRef ref() const { return {slot, id}; }
};

// Threads: the owner of the shard only.
//
// Pointers to a session are valid from Insert to Erase: the table grows by
// chunks and moves no session. The index by client takes five bytes a session.
class SessionTable {
 public:
  // Ids count up from 1 and carry `shard` in their low byte, so that they are
  // unique in the whole gateway. `shard` is 0 to 255.
  explicit SessionTable(uint32_t shard);
  SessionTable(const SessionTable&) = delete;
  SessionTable& operator=(const SessionTable&) = delete;

  // The live session of this client, or null.
  Session* Find(const SocketAddress& client, uint32_t hash);
  // The session that `ref` names, or null if it has ended.
  Session* Find(const SessionRef& ref);
  // The live session in this slot, or null.
  Session* FindSlot(uint32_t slot);

  // A new pending session. The client must have none.
  Session* Insert(const SocketAddress& client, uint32_t hash,
                  int64_t now_nanoseconds);
  // A session of another process, with the id that it has there. No session
  // here may have that id, and the client must have no session.
  Session* Adopt(const SocketAddress& client, uint32_t hash, uint64_t id);
  void Erase(Session* session);

  // The id of the newest session, 0 if there was none.
  uint64_t newest_id() const { return newest_id_; }

  // The part of the newest id that counts up. SetSessionNumber: new ids follow
  // `number`, since other shards may have used all up to it.
  uint64_t session_number() const { return session_number_; }
  void SetSessionNumber(uint64_t number);
  static uint64_t NumberOf(uint64_t id) { return id >> 8; }

  size_t size() const { return index_.size(); }
  // Slots in use lie below this.
  uint32_t slot_count() const { return slot_count_; }

 private:
  static constexpr uint32_t kSessionsPerChunk = 64;

  struct ClientKey {
    const SocketAddress& client;
    uint32_t hash;
  };
  struct SlotHash {
    using is_transparent = void;
    const SessionTable* table;
    size_t operator()(uint32_t slot) const {
      return Spread(table->at(slot).hash);
    }
    size_t operator()(const ClientKey& key) const { return Spread(key.hash); }
  };
  struct SlotEqual {
    using is_transparent = void;
    const SessionTable* table;
    bool operator()(uint32_t a, uint32_t b) const { return a == b; }
    bool operator()(uint32_t slot, const ClientKey& key) const {
      return table->at(slot).client == key.client;
    }
    bool operator()(const ClientKey& key, uint32_t slot) const {
      return table->at(slot).client == key.client;
    }
  };

  // All sessions of a shard share the bits of the hash that chose the shard,
  // but the set needs different low bits.
  static size_t Spread(uint32_t hash) {
    const uint64_t product = hash * uint64_t{0x9e3779b97f4a7c15};
    return product ^ (product >> 32);
  }

  Session& at(uint32_t slot) const {
    return chunks_[slot / kSessionsPerChunk][slot % kSessionsPerChunk];
  }

  const uint32_t shard_;
  Session* Place(const SocketAddress& client, uint32_t hash, uint64_t id);

  uint64_t session_number_ = 0;
  uint64_t newest_id_ = 0;
  uint32_t slot_count_ = 0;
  std::vector<std::unique_ptr<Session[]>> chunks_;
  // Freed slots; the one freed first is used first.
  std::deque<uint32_t> free_slots_;
  absl::flat_hash_set<uint32_t, SlotHash, SlotEqual> index_;
};

// A linked list of sessions; a session is in one list at most.
// Threads: the owner of the shard only.
class SessionList {
 public:
  // The table must outlive the list.
  explicit SessionList(SessionTable* table) : table_(table) {}

  // The one that was appended first, or null.
  Session* first() const {
    return first_ == kNoSlot ? nullptr : table_->FindSlot(first_);
  }
  // The one that was appended next after `session`, or null.
  Session* next(const Session& session) const {
    return session.list_next == kNoSlot ? nullptr
                                        : table_->FindSlot(session.list_next);
  }
  void Append(Session* session);
  void Remove(Session* session);

 private:
  // The link of the session in `slot`, or `end` if there is none.
  uint32_t* LinkOf(uint32_t slot, uint32_t Session::*link, uint32_t* end) {
    return slot == kNoSlot ? end : &(table_->FindSlot(slot)->*link);
  }

  SessionTable* table_;
  uint32_t first_ = kNoSlot;
  uint32_t last_ = kNoSlot;
};

// The sessions of a shard by their clients' networks, those of one network in
// the order in which they were added. Only used if MAX_SESSIONS_PER_IP is set:
// it costs each session two lookups, and some 30 bytes an address. Threads: the
// owner of the shard only.
class NetworkIndex {
 public:
  // The table must outlive the index.
  explicit NetworkIndex(SessionTable* table) : table_(table) {}

  // Off at first. If it is turned on, all sessions of the table are added.
  void SetOn(bool is_on);

  // A session must be removed before it is erased. No effect if it is off.
  void Add(Session* session);
  void Remove(Session* session);

  // Visits the sessions of `client`'s network, those added first, `count_max`
  // at most. `visit` must not change the index.
  void ForEach(const SocketAddress& client, int count_max,
               absl::FunctionRef<void(Session*)> visit) const;

 private:
  struct Ends {
    uint32_t first = kNoSlot;
    uint32_t last = kNoSlot;
  };

  SessionTable* table_;
  bool is_on_ = false;
  absl::flat_hash_map<ClientNetwork, Ends> ends_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_SESSION_TABLE_H_
