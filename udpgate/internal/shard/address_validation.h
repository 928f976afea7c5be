// Confirms sessions, and limits the replies to clients whose address may be
// forged.
#ifndef UDPGATE_INTERNAL_SHARD_ADDRESS_VALIDATION_H_
#define UDPGATE_INTERNAL_SHARD_ADDRESS_VALIDATION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {

// A client that keeps sending after replies probably receives them, so its
// address is its own. This is a heuristic: nothing below the game's protocol
// proves an address. Until a session is confirmed its client gets a limited
// number of bytes, as with the anti-amplification limit of QUIC (RFC 9000,
// section 8). Replies beyond the limit wait in the upstream socket.
//
// Threads: the owner of the shard only.
class AddressValidation {
 public:
  // An unconfirmed client may get so much, whatever it has sent; and so much
  // once it has sent after a reply: what a sender with a large window has in
  // flight in one round trip (100 ms at 1 Gbit/s are 12.5 MB).
  static constexpr uint64_t kUnconfirmedReplyBytes = 2048;
  static constexpr uint64_t kAnsweringReplyBytes = 16 << 20;

  // The steps of address validation must spread over so much time.
  static constexpr int64_t kProofNanoseconds = 1'000'000'000;

  // A younger client may still answer what it has got.
  static constexpr int64_t kOneReplyAgeNanoseconds = 2'000'000'000;

  // All must outlive it.
  AddressValidation(ShardContext* shard, UpstreamSockets* upstreams,
                    Lifecycle* lifecycle)
      : shard_(shard), upstreams_(upstreams), lifecycle_(lifecycle) {}
  AddressValidation(const AddressValidation&) = delete;
  AddressValidation& operator=(const AddressValidation&) = delete;

  // The client of an unconfirmed session has sent: the session may become
  // confirmed.
  void NoteClientActive(Session* session);

  // Whether the client may get `count` more datagrams of any size.
  bool HasRoomFor(int count, const Session& session) const {
    return ReplyBytesLeft(session) /
               static_cast<int64_t>(kDatagramBufferBytes) >=
           count;
  }
  // Whether the client may get a reply of `bytes` now. It counts if so.
  bool TakeReplyBytes(size_t bytes, Session* session);

  // Whether the next reply in the session's socket is to be read: its client
  // may get it, or the session cannot be paused. False also if there is none.
  // May pause the session.
  bool MayRead(Session* session);
  // Called in each idle sweep. Lets one reply pass whatever the limit says: a
  // client that waits for one before it sends again must not wait for ever.
  void AllowOneReply(Session* session);

 private:
  // What the client may still get; INT64_MAX if there is no limit.
  int64_t ReplyBytesLeft(const Session& session) const {
    if (session.state == SessionState::kConfirmed ||
        session.proof_count == Lifecycle::kProofCount ||
        shard_->limits.unconfirmed_reply_factor == 0) {
      return INT64_MAX;
    }
    const uint64_t bytes_max = std::max(
        session.proof_count > 0 ? kAnsweringReplyBytes : kUnconfirmedReplyBytes,
        session.client_bytes_forwarded *
            static_cast<uint64_t>(shard_->limits.unconfirmed_reply_factor));
    return static_cast<int64_t>(bytes_max - session.reply_bytes);
  }

  ShardContext* const shard_;
  UpstreamSockets* const upstreams_;
  Lifecycle* const lifecycle_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_ADDRESS_VALIDATION_H_
