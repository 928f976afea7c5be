// Clients whose sessions other gateways have: their datagrams go there, and the
// replies come from there.
#ifndef UDPGATE_INTERNAL_SHARD_FORWARDING_H_
#define UDPGATE_INTERNAL_SHARD_FORWARDING_H_

#include <cstddef>
#include <cstdint>
#include <list>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/hop_sender.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// An entry is a client and its owner, the gateway that has the session. It
// spares the resolver a question for each datagram. It ends if neither side
// sends anything, or the client gets a session here. What another gateway sends
// is never forwarded again.
//
// The client's next datagram is resolved again, as that of a new client, if the
// owner says that it has no session, or is forgotten (Proxy::ForgetOwner), or
// is silent although it was asked. If it is the owner again, it is believed
// only if there is hope: not right after it has said that it has no session,
// nor after it was silent for long. Otherwise a client would be lost as long as
// a store is wrong, the secrets differ, or the gateways cannot reach each
// other.
//
// Threads: the owner of the shard only.
class Forwarding {
 public:
  // All must outlive it.
  Forwarding(ShardContext* shard, Lifecycle* lifecycle, HopSender* sender);
  ~Forwarding() { Clear(); }
  Forwarding(const Forwarding&) = delete;
  Forwarding& operator=(const Forwarding&) = delete;

  bool is_on() const { return sender_->is_on(); }

  // A pending session turns out to be that of the gateway at `owner`: what it
  // holds goes there, and it ends here. False, and it still waits, if there is
  // no room, or no hope, or if that is this gateway itself.
  bool Begin(const SocketAddress& owner, Session** session);

  // Forwards the first of `datagrams`, and those of the same client that follow
  // it at once. Returns how many these are; 0 if the client is not forwarded.
  size_t Forward(absl::Span<const ClientDatagram> datagrams);
  // A reply that its owner has sent here.
  void PassReply(const ClientDatagram& reply);
  // Its owner says whether it has a session.
  void HandleAnswer(const ClientDatagram& answer);
  // The client gets a session here.
  void Forget(const SocketAddress& client);

  // Sends replies that were passed: their payloads are about to be gone.
  void Flush();

  // Ends entries that were not used for long, a bounded number; all of them.
  void Expire();
  void Clear();
  // When the next one may end; INT64_MAX if there is none.
  int64_t NextDeadline() const;

 private:
  struct Entry {
    SocketAddress client;
    uint16_t owner = 0;        // see Peers
    uint32_t owner_epoch = 0;  // likewise
    int64_t active_nanoseconds = 0;
    int64_t resolved_nanoseconds = 0;  // when the resolver has named the owner
    // The first datagram, and the first that wants an answer, since the owner
    // has sent anything; 0 if there was none. How many have wanted one.
    int64_t unanswered_nanoseconds = 0;
    int64_t asked_nanoseconds = 0;
    int32_t ask_count = 0;
    bool has_answered = false;  // since it was resolved
    // When the owner has said that it has no session; 0 if it has not.
    int64_t refused_nanoseconds = 0;
  };
  using Entries = std::list<Entry>;

  // The entry of a client whose owner is named; null if there can be none.
  Entry* Renew(const SocketAddress& client, uint16_t owner);
  void ReportSilence(uint16_t owner);
  void NoteActive(Entries::iterator entry);
  void NoteAnswer(Entry* entry);
  void Erase(Entries::iterator entry);
  bool MustResolveAgain(const Entry& entry) const;
  bool IsHopeless(const Entry& entry) const;
  // Whether a datagram that is sent now wants an answer.
  bool Asks(Entry* entry) const;
  void Send(Entry* entry, const SocketAddress& local, uint16_t listener,
            uint8_t traffic_class, absl::Span<const char> payload);
  void SendHeld(Entry* entry, Session* session);

  ShardContext* const shard_;
  Lifecycle* const lifecycle_;
  const int64_t patience_nanoseconds_;
  HopSender* const sender_;
  Entries entries_;  // the one that is not used for longest is first
  absl::flat_hash_map<SocketAddress, Entries::iterator> by_client_;
  SendBatch replies_;
  uint16_t listener_ = 0;  // of `replies_`
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_FORWARDING_H_
