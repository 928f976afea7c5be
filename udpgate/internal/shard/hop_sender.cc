#include "udpgate/internal/shard/hop_sender.h"

#include <new>

#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/shard/hop.h"

namespace udpgate {
namespace internal {
namespace {

using forward::internal::Envelope;

constexpr size_t kBufferBytes =
    kDatagramBufferBytes + HopSender::kOverheadBytesMax;

// What fits into one packet of Ethernet.
constexpr size_t kPacketBytes = 1500;
constexpr size_t HeaderBytes(int family) { return family == AF_INET ? 28 : 48; }

}  // namespace

HopSender::HopSender(ShardContext* shard)
    : shard_(shard),
      hop_(shard->gate->hop.get()),
      sender_id_(hop_ == nullptr ? 0 : hop_->new_sender_id()),
      cipher_(hop_ == nullptr ? nullptr : hop_->keys()->CipherOf(sender_id_)),
      // Without an initializer, so that no page is touched before its use.
      buffers_(
          hop_ == nullptr
              ? nullptr
              : new (std::nothrow) char[static_cast<size_t>(
                                            shard->gate->options.batch_size) *
                                        kBufferBytes]),
      batch_(hop_ == nullptr ? 0 : shard->gate->options.batch_size) {
  if (hop_ != nullptr) sents_.reserve(shard->gate->options.batch_size);
}

void HopSender::AddToOwner(uint16_t peer, const SocketAddress& client,
                           const SocketAddress& local, uint8_t traffic_class,
                           bool wants_answer, absl::Span<const char> payload) {
  Add(peer,
      {EnvelopeKind::kToOwner, traffic_class, wants_answer, client, local,
       payload},
      nullptr);
}

void HopSender::AddReply(absl::Span<const char> payload, uint8_t traffic_class,
                         Session* session) {
  Add(session->hop,
      {EnvelopeKind::kToClient, traffic_class, /*wants_answer=*/false,
       session->client, session->local, payload},
      session);
}

void HopSender::AddAnswer(bool has_session, uint16_t peer,
                          const SocketAddress& client,
                          const SocketAddress& local) {
  Add(peer,
      {has_session ? EnvelopeKind::kSession : EnvelopeKind::kNoSession,
       /*traffic_class=*/0,
       /*wants_answer=*/false,
       client,
       local,
       {}},
      nullptr);
}

void HopSender::Add(uint16_t peer, const Envelope& envelope, Session* session) {
  if (!hop_->is_open()) return Drop(DropReason::kHopSendFailed, envelope.kind);
  if (batch_.is_full()) Flush();
  if (batch_.size() == 0) {
    sent_seconds_ = static_cast<uint32_t>(hop_->unix_seconds());
  }
  const SocketAddress& to = hop_->peers().address(peer);
  const absl::Span<char> buffer =
      cipher_ == nullptr || buffers_ == nullptr
          ? absl::Span<char>()
          : absl::MakeSpan(buffers_.get() + batch_.size() * kBufferBytes,
                           kBufferBytes);
  const size_t bytes = forward::internal::SealEnvelope(
      envelope, sent_seconds_, sender_id_, counter_++, cipher_.get(), buffer);
  if (bytes == 0 || !batch_.AddTo(buffer.first(bytes), hop_->address().family(),
                                  to, SocketAddress())) {
    return Drop(DropReason::kHopSendFailed, envelope.kind);
  }
  sents_.push_back({envelope.kind, session, envelope.payload.size()});
}

void HopSender::Flush() {
  if (hop_ == nullptr || batch_.size() == 0) return;
  int sent = 0;
  int repeat_count = 0;
  while (sent < batch_.size()) {
    const SysCallResult result =
        batch_.Send(shard_->sys_calls, hop_->fd(), sent);
    if (result.ok()) {
      for (int i = sent; i < sent + result.value; ++i) {
        NoteSent(sents_[i], batch_.payload_bytes(i), hop_->address().family());
      }
      sent += result.value;
      repeat_count = 0;
      continue;
    }
    if (IsOfEarlierDatagram(result.error) && ++repeat_count == 1) continue;
    Drop(shard_->WouldFragment(result.error) ? DropReason::kWouldFragment
                                             : DropReason::kHopSendFailed,
         sents_[sent].kind);
    ++sent;
    repeat_count = 0;
  }
  batch_.Clear();
  sents_.clear();
}

void HopSender::NoteSent(const Sent& sent, size_t envelope_bytes, int family) {
  Counters* const counters = shard_->counters;
  if (envelope_bytes + HeaderBytes(family) > kPacketBytes) {
    counters->hop_envelopes_large.Add();
  }
  switch (sent.kind) {
    case EnvelopeKind::kToOwner:
      counters->client_datagrams_forwarded.Add();
      counters->client_bytes_forwarded.Add(sent.payload_bytes);
      counters->hop_client_datagrams_sent.Add();
      return;
    case EnvelopeKind::kToClient:
      sent.session->backend_datagrams_forwarded += 1;
      sent.session->backend_bytes_forwarded += sent.payload_bytes;
      counters->backend_datagrams_forwarded.Add();
      counters->backend_bytes_forwarded.Add(sent.payload_bytes);
      counters->hop_replies_sent.Add();
      return;
    case EnvelopeKind::kNoSession:
    case EnvelopeKind::kSession:
      return;  // no datagram of anybody
  }
}

void HopSender::Drop(DropReason reason, EnvelopeKind kind) {
  if (kind == EnvelopeKind::kToOwner || kind == EnvelopeKind::kToClient) {
    shard_->counters->Drop(reason);
  }
}

}  // namespace internal
}  // namespace udpgate
