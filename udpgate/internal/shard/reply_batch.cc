#include "udpgate/internal/shard/reply_batch.h"

#include <errno.h>

#include <atomic>

#include "udpgate/flow_offload.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {
namespace {

// A send of a reply may fail with the ICMP error of another client's reply. It
// is repeated so often, since each repetition takes one such error.
constexpr int kReplyAttemptsMax = 32;

}  // namespace

ReplyBatch::ReplyBatch(ShardContext* shard, HopSender* hop_sender)
    : shard_(shard),
      hop_sender_(hop_sender),
      received_(shard->gate->options.batch_size,
                !shard->offload.is_on() && !shard->traffic.copies_traffic_class
                    ? ReceiveBatch::Extent::kPayload
                    : ReceiveBatch::Extent::kControl),
      sends_(shard->gate->options.batch_size) {
  sessions_.reserve(shard->gate->options.batch_size);
  times_nanoseconds_.reserve(shard->gate->options.batch_size);
  send_shares_.reserve(shard->gate->listeners.size());
  for (const ListenSocket& listener : shard->gate->listeners) {
    send_shares_.emplace_back(shard->sys_calls, listener.fd.get());
  }
}

void ReplyBatch::Prepare(uint16_t listener) {
  if (room() > 0 && listener == listener_) return;
  Flush();
  listener_ = listener;
}

SysCallResult ReplyBatch::Receive(int fd, int count_max, bool reads_control) {
  const SysCallResult received =
      received_.Receive(shard_->sys_calls, fd, received_count_, count_max,
                        MSG_DONTWAIT, reads_control);
  if (received.ok()) received_count_ += received.value;
  return received;
}

void ReplyBatch::Add(int i, const ReceiveBatch::Control& control,
                     Session* session) {
  if (session->hop != 0) {
    session->has_unanswered_reply = true;
    hop_sender_->AddReply(received_.payload(i), control.traffic_class, session);
    return;
  }
  if (!send_shares_[listener_].MaySend(session->id, shard_->now_nanoseconds)) {
    shard_->counters->Drop(DropReason::kSendBufferShare);
    return;
  }
  const int family = shard_->gate->listeners[listener_].family;
  if (!sends_.AddTo(received_.payload(i), family, session->client,
                    session->local, control.traffic_class)) {
    shard_->counters->Drop(DropReason::kReplySendFailed);
    return;
  }
  session->has_unanswered_reply = true;
  sessions_.push_back(session);
  if (shard_->offload.is_on()) {
    times_nanoseconds_.push_back(control.receive_time_nanoseconds);
  }
}

void ReplyBatch::Flush() {
  int sent = 0;
  int attempt_count = 0;
  while (sent < sends_.size()) {
    const SysCallResult result = sends_.Send(
        shard_->sys_calls, shard_->gate->listeners[listener_].fd.get(), sent);
    if (result.ok()) {
      attempt_count = 0;
      NoteSent(sent, result.value);
      sent += result.value;
      continue;
    }
    // The error may be of another client's reply (IP_RECVERR).
    if (IsOfEarlierDatagram(result.error) && result.error != EMSGSIZE) {
      shard_->gate->has_listen_errors[listener_].store(
          true, std::memory_order_relaxed);
      if (++attempt_count < kReplyAttemptsMax) continue;
    }
    // One client cannot be reached: the others' replies still go out.
    if (result.error == EAGAIN) send_shares_[listener_].NoteFull();
    shard_->counters->Drop(shard_->WouldFragment(result.error)
                               ? DropReason::kWouldFragment
                               : DropReason::kReplySendFailed);
    attempt_count = 0;
    ++sent;
  }
  for (size_t i = 0; i < times_nanoseconds_.size(); ++i) {
    shard_->offload.NoteHandled(*sessions_[i], FlowDirection::kFromBackend,
                                times_nanoseconds_[i]);
  }
  hop_sender_->Flush();
  times_nanoseconds_.clear();
  sends_.Clear();
  sessions_.clear();
  received_count_ = 0;
}

void ReplyBatch::NoteSent(int begin, int count) {
  uint64_t bytes = 0;
  for (int i = begin; i < begin + count; ++i) {
    sessions_[i]->backend_datagrams_forwarded += 1;
    sessions_[i]->backend_bytes_forwarded += sends_.payload_bytes(i);
    bytes += sends_.payload_bytes(i);
  }
  shard_->counters->backend_datagrams_forwarded.Add(count);
  shard_->counters->backend_bytes_forwarded.Add(bytes);
  SendShare& share = send_shares_[listener_];
  if (!share.NoteSent(count, bytes)) return;
  for (int i = begin; i < begin + count; ++i) {
    if (!share.NoteSender(sessions_[i]->id,
                          static_cast<uint32_t>(sends_.payload_bytes(i)))) {
      shard_->counters->send_buffer_unwatched.Add();
    }
  }
  share.Measure(shard_->now_nanoseconds);
}

}  // namespace internal
}  // namespace udpgate
