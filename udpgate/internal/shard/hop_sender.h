// Envelopes of one shard on their way to other gateways.
#ifndef UDPGATE_INTERNAL_SHARD_HOP_SENDER_H_
#define UDPGATE_INTERNAL_SHARD_HOP_SENDER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "udpgate/forward/envelope_keys.h"
#include "udpgate/forward/internal/envelope.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Datagrams are sealed as they are added, and sent with few system calls by
// `Flush`, each counted as forwarded or dropped. It keeps pointers to the
// sessions of replies: `Flush` must be called before one of them ends.
//
// All memory is allocated by the constructor, and none without a hop. Threads:
// the owner of the shard only.
class HopSender {
 public:
  // What an envelope takes beside its payload, at most.
  static constexpr size_t kOverheadBytesMax =
      forward::internal::EnvelopeOverhead(/*is_ipv6=*/true);

  // `shard` must outlive it.
  explicit HopSender(ShardContext* shard);
  HopSender(const HopSender&) = delete;
  HopSender& operator=(const HopSender&) = delete;

  bool is_on() const { return hop_ != nullptr; }

  // A client's datagram to the gateway that has its session. `local` is the
  // address that it was sent to, with the port. `wants_answer`: whether that
  // gateway is to say that it has the session.
  void AddToOwner(uint16_t peer, const SocketAddress& client,
                  const SocketAddress& local, uint8_t traffic_class,
                  bool wants_answer, absl::Span<const char> payload);
  // A reply to the gateway that the client's last datagram came by.
  void AddReply(absl::Span<const char> payload, uint8_t traffic_class,
                Session* session);
  // Answers a datagram: whether there is a session for it.
  void AddAnswer(bool has_session, uint16_t peer, const SocketAddress& client,
                 const SocketAddress& local);

  // Sends what was added.
  void Flush();

 private:
  using EnvelopeKind = forward::internal::EnvelopeKind;

  struct Sent {
    EnvelopeKind kind;
    Session* session;
    size_t payload_bytes;
  };

  void Add(uint16_t peer, const forward::internal::Envelope& envelope,
           Session* session);
  void NoteSent(const Sent& sent, size_t envelope_bytes, int family);
  void Drop(DropReason reason, EnvelopeKind kind);

  ShardContext* const shard_;
  Hop* const hop_;
  const uint64_t sender_id_;
  const std::unique_ptr<forward::EnvelopeCipher> cipher_;
  uint64_t counter_ = 0;
  uint32_t sent_seconds_ = 0;
  const std::unique_ptr<char[]> buffers_;
  SendBatch batch_;
  std::vector<Sent> sents_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_HOP_SENDER_H_
