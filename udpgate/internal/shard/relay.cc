#include "udpgate/internal/shard/relay.h"

#include <errno.h>

#include "udpgate/flow_offload.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {

Relay::Relay(ShardContext* shard, UpstreamSockets* upstreams,
             ReplyBatch* replies, AddressValidation* validation,
             UpstreamRecovery* recovery)
    : shard_(shard),
      upstreams_(upstreams),
      replies_(replies),
      validation_(validation),
      recovery_(recovery),
      run_(shard->gate->options.batch_size) {}

// Client to backend.

size_t Relay::SendToBackend(absl::Span<const ClientDatagram> datagrams,
                            Session** session) {
  const size_t count = Gather(datagrams, *session);
  if (SendRun(session)) {
    shard_->offload.NoteHandled(**session, FlowDirection::kFromClient,
                                datagrams[count - 1].receive_time_nanoseconds);
  }
  return count;
}

// Fills `run_` with the first datagrams, those of the session's client.
size_t Relay::Gather(absl::Span<const ClientDatagram> datagrams,
                     Session* session) {
  size_t count = 0;
  run_.Clear();
  for (; count < datagrams.size() && !run_.is_full() &&
         datagrams[count].client == session->client &&
         datagrams[count].peer == datagrams[0].peer &&
         datagrams[count].origin == datagrams[0].origin &&
         (count == 0 || !datagrams[count].wants_answer);
       ++count) {
    run_.Add(datagrams[count].payload, datagrams[count].traffic_class,
             session->backend.family());
    session->has_traffic_class |= datagrams[count].traffic_class != 0;
  }
  session->listener = datagrams[count - 1].listener;
  session->local = datagrams[count - 1].local;
  if (session->hop != datagrams[0].peer) NoteHop(datagrams[0].peer, session);
  return count;
}

// The client's datagrams take another way now, and so do replies.
void Relay::NoteHop(uint16_t hop, Session* session) {
  session->hop = hop;
  // The flow would pass the other gateway by.
  if (hop != 0) shard_->offload.End(session);
}

void Relay::SendHeld(const HeldDatagrams& held, Session** session) {
  const size_t count = held.size_bytes.size();
  const char* payload = held.bytes.data();
  size_t i = 0;
  while (i < count) {
    run_.Clear();
    for (; i < count && !run_.is_full(); ++i) {
      run_.Add(absl::MakeConstSpan(payload, held.size_bytes[i]),
               held.traffic_classes[i], (*session)->backend.family());
      (*session)->has_traffic_class |= held.traffic_classes[i] != 0;
      payload += held.size_bytes[i];
    }
    if (!SendRun(session)) {
      shard_->counters->Drop(DropReason::kBackendRefused, count - i);
      return;
    }
  }
}

bool Relay::SendRun(Session** session) {
  (*session)->client_active_nanoseconds = shard_->now_nanoseconds;
  if ((*session)->state == SessionState::kUnconfirmed) {
    validation_->NoteClientActive(*session);
  }
  recovery_->CheckSource(*session);
  int sent = 0;
  int repeat_count = 0;
  bool is_counted = false;
  bool has_moved = false;
  while (sent < run_.size()) {
    const SysCallResult result =
        run_.Send(shard_->sys_calls, (*session)->upstream_fd, sent);
    if (result.ok()) {
      NoteForwarded(sent, result.value, *session);
      sent += result.value;
      repeat_count = 0;
      continue;
    }
    if (IsUnreachable(result.error)) {
      const UpstreamRecovery::Outcome outcome =
          recovery_->HandleSendError(result.error, is_counted, session);
      is_counted = true;
      if (outcome == UpstreamRecovery::Outcome::kSessionEnded) {
        shard_->counters->Drop(DropReason::kBackendRefused, run_.size() - sent);
        return false;
      }
      if (outcome == UpstreamRecovery::Outcome::kNewSocket && !has_moved) {
        has_moved = true;
        repeat_count = 0;  // the errors so far were the old socket's
        continue;
      }
    }
    if (result.error == EMSGSIZE) recovery_->NotePacketSize(**session);
    if (IsOfEarlierDatagram(result.error) && ++repeat_count == 1) continue;
    // This datagram's own error: the socket's buffer is full, the route is
    // gone, a firewall said no. The next one may pass.
    shard_->counters->Drop(
        result.error == ECONNREFUSED          ? DropReason::kBackendRefused
        : shard_->WouldFragment(result.error) ? DropReason::kWouldFragment
                                              : DropReason::kBackendSendFailed);
    ++sent;
    repeat_count = 0;
  }
  upstreams_->Resume(*session);
  return true;
}

void Relay::NoteForwarded(int begin, int count, Session* session) {
  uint64_t bytes = 0;
  for (int i = begin; i < begin + count; ++i) bytes += run_.payload_bytes(i);
  // Here and not for what cannot be sent: a socket whose source address has
  // left the host would otherwise be kept for ever by a client that tries.
  session->last_active_nanoseconds = shard_->now_nanoseconds;
  session->client_datagrams_forwarded += count;
  session->client_bytes_forwarded += bytes;
  shard_->counters->client_datagrams_forwarded.Add(count);
  shard_->counters->client_bytes_forwarded.Add(bytes);
}

// Backend to client.

void Relay::HandleReadySocket(bool has_errors, Session** session) {
  if (!(*session)->is_paused && !ReadReplies(session)) return;
  // If a call has met the error already the queue is empty.
  if (!has_errors) return;
  // A full receive buffer has no room for the error in its queue
  // (sock_queue_err_skb in net/core/skbuff.c of Linux), and nobody reads the
  // socket of a paused session: the kernel would report it for ever.
  const int error =
      (*session)->is_paused
          ? TakeSocketError(shard_->sys_calls, (*session)->upstream_fd)
          : 0;
  recovery_->HandleReceiveError(error, session);
}

// Whether to read more than the payload of replies: their receive time, for the
// flow offload, and their traffic class. This costs a fiftieth of what a reply
// costs. So it is done for the first replies of a session, for one in eight,
// and for all once either side has set a traffic class: a router marks
// congestion only if the sender has marked its datagrams (RFC 3168).
bool Relay::MustReadControl(Session* session) const {
  if (shard_->offload.is_on()) return true;
  if (!shard_->traffic.copies_traffic_class) return false;
  if (session->has_traffic_class) return true;
  constexpr uint8_t kFirstReads = 16;
  constexpr uint8_t kReadsPerLook = 8;
  if (session->reply_reads < kFirstReads) {
    ++session->reply_reads;
    return true;
  }
  if (++session->reply_reads < kFirstReads + kReadsPerLook) return false;
  session->reply_reads = kFirstReads;
  return true;
}

bool Relay::ReadReplies(Session** session) {
  replies_->Prepare((*session)->listener);
  // Near the limit on replies they are read one by one.
  bool is_limited = false;
  do {
    const int room = replies_->room();
    if (room == 0) return true;
    int count_max = (*session)->expects_burst ? room : 1;
    is_limited = !validation_->HasRoomFor(count_max, **session);
    if (is_limited) count_max = 1;
    if (is_limited && !validation_->MayRead(*session)) return true;
    const bool reads_control = count_max > 1 || MustReadControl(*session);
    const SysCallResult received =
        replies_->Receive((*session)->upstream_fd, count_max, reads_control);
    if (!received.ok()) {
      // Reading has taken the error from the socket, so this cannot spin.
      recovery_->HandleReceiveError(received.error, session);
      return *session != nullptr;
    }
    TakeReplies(received.value, reads_control, *session);
  } while (is_limited && (*session)->expects_burst);
  return true;
}

// A backend that replies is not to be avoided, whichever session it replies to:
// else a stranger whose datagrams it ignores could divert all new clients. Of
// replies that tell nothing new about their own session a sample is enough,
// since `Clear` takes a lock while any backend is held off.
void Relay::EndHoldoff(const Session& session) {
  constexpr int64_t kIntervalNanoseconds = 1'000'000;
  if (session.has_answered && session.refusals == 0) {
    if (shard_->now_nanoseconds < next_holdoff_end_nanoseconds_) return;
    next_holdoff_end_nanoseconds_ =
        shard_->now_nanoseconds + kIntervalNanoseconds;
  }
  shard_->gate->backend_holdoff.Clear(session.backend);
}

// The `count` replies that were read last.
void Relay::TakeReplies(int count, bool reads_control, Session* session) {
  session->last_active_nanoseconds = shard_->now_nanoseconds;
  EndHoldoff(*session);
  session->unanswered_since_nanoseconds = 0;
  session->refusals = 0;
  session->has_answered = true;
  if (validation_->HasRoomFor(count, *session)) {
    session->expects_burst =
        session->expects_burst
            ? count > 1
            : session->last_read_iteration + 1 == shard_->iteration;
  }
  session->last_read_iteration = shard_->iteration;
  const int end = replies_->received_count();
  for (int i = end - count; i < end; ++i) {
    const size_t bytes = replies_->payload(i).size();
    const ReceiveBatch::Control control =
        reads_control ? replies_->control(i) : ReceiveBatch::Control();
    session->has_traffic_class |= control.traffic_class != 0;
    shard_->counters->backend_datagrams_received.Add();
    shard_->counters->backend_bytes_received.Add(bytes);
    if (replies_->is_truncated(i)) {
      shard_->counters->Drop(DropReason::kReplyTruncated);
    } else if (!validation_->TakeReplyBytes(bytes, session)) {
      shard_->counters->Drop(DropReason::kUnconfirmedReplyLimit);
    } else {
      replies_->Add(i, control, session);
    }
  }
}

}  // namespace internal
}  // namespace udpgate
