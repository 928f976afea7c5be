#include "udpgate/internal/shard/forwarding.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/shard/hop.h"
#include "udpgate/logging.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {
namespace {

// Entries that one iteration ends.
constexpr int kEntriesPerIteration = 32;

// An owner is not given up before so many datagrams have wanted an answer.
constexpr int32_t kAsksOfHope = 3;

// As ReplyBatch: the error may be of another client's reply.
constexpr int kReplyAttemptsMax = 32;

}  // namespace

Forwarding::Forwarding(ShardContext* shard, Lifecycle* lifecycle,
                       HopSender* sender)
    : shard_(shard),
      lifecycle_(lifecycle),
      patience_nanoseconds_(
          absl::ToInt64Nanoseconds(shard->gate->options.forward_patience)),
      sender_(sender),
      replies_(sender->is_on() ? shard->gate->options.batch_size : 0) {}

bool Forwarding::Begin(const SocketAddress& owner, Session** pending) {
  if (!is_on()) return false;
  Hop* const hop = shard_->gate->hop.get();
  const uint16_t number = !hop->is_open() || owner == hop->address()
                              ? 0
                              : hop->peers().NumberOf(owner);
  if (number == 0) return false;
  Entry* const entry = Renew((*pending)->client, number);
  if (entry == nullptr) return false;
  SendHeld(entry, *pending);
  lifecycle_->End(EndReason::kForwarded, DropReason::kSessionEnded, pending);
  return true;
}

Forwarding::Entry* Forwarding::Renew(const SocketAddress& client,
                                     uint16_t owner) {
  Hop* const hop = shard_->gate->hop.get();
  const uint32_t epoch = hop->peers().epoch(owner);
  const auto found = by_client_.find(client);
  if (found != by_client_.end()) {
    Entry& old = *found->second;
    if (old.owner == owner && old.owner_epoch == epoch && !IsHopeless(old)) {
      old.refused_nanoseconds = 0;
      old.has_answered = false;
      old.resolved_nanoseconds = shard_->now_nanoseconds;
      NoteActive(found->second);
      return &old;
    }
    const bool is_hopeless = old.owner == owner && old.owner_epoch == epoch;
    if (is_hopeless && old.refused_nanoseconds == 0) ReportSilence(owner);
    Erase(found->second);
    if (is_hopeless) return nullptr;
  }
  if (!hop->TakeClient()) {
    shard_->counters->hop_clients_refused.Add();
    return nullptr;
  }
  Entry entry;
  entry.client = client;
  entry.owner = owner;
  entry.owner_epoch = epoch;
  entry.active_nanoseconds = shard_->now_nanoseconds;
  entry.resolved_nanoseconds = shard_->now_nanoseconds;
  entries_.push_back(entry);
  by_client_[client] = std::prev(entries_.end());
  shard_->counters->hop_clients.Add();
  return &entries_.back();
}

void Forwarding::ReportSilence(uint16_t owner) {
  shard_->counters->hop_silences.Add();
  Hop* const hop = shard_->gate->hop.get();
  int64_t more = 0;
  if (!hop->silence_log().Admit(&more)) return;
  shard_->gate->control.PostLog(
      LogSeverity::kWarning,
      absl::StrCat("forwarding between gateways: ",
                   hop->peers().address(owner).ToString(),
                   " does not answer, so that a client of it gets a session "
                   "here; do both have the same secret, and can they reach "
                   "each other?",
                   more > 0 ? absl::StrCat(" (and ", more,
                                           " more since the last such line)")
                            : ""));
}

void Forwarding::SendHeld(Entry* entry, Session* session) {
  const std::unique_ptr<HeldDatagrams> held =
      std::exchange(session->held, std::make_unique<HeldDatagrams>());
  shard_->counters->datagrams_held.Subtract(held->size_bytes.size());
  shard_->gate->admission.GiveBackHeldBytes(held->bytes.size());
  const char* payload = held->bytes.data();
  for (size_t i = 0; i < held->size_bytes.size(); ++i) {
    Send(entry, session->local, session->listener, held->traffic_classes[i],
         absl::MakeConstSpan(payload, held->size_bytes[i]));
    payload += held->size_bytes[i];
  }
  sender_->Flush();
}

void Forwarding::Send(Entry* entry, const SocketAddress& local,
                      uint16_t listener, uint8_t traffic_class,
                      absl::Span<const char> payload) {
  const SocketAddress& listen = shard_->gate->listeners[listener].address;
  sender_->AddToOwner(entry->owner, entry->client,
                      listen.is_any() ? local.WithPort(listen.port()) : listen,
                      traffic_class, Asks(entry), payload);
}

// A backend may be silent for long, so silence alone says nothing of the owner.
bool Forwarding::Asks(Entry* entry) const {
  const int64_t now = shard_->now_nanoseconds;
  if (entry->unanswered_nanoseconds == 0) entry->unanswered_nanoseconds = now;
  if (entry->has_answered &&
      now - entry->unanswered_nanoseconds < patience_nanoseconds_ / 2) {
    return false;
  }
  if (entry->asked_nanoseconds == 0) entry->asked_nanoseconds = now;
  if (entry->ask_count < kAsksOfHope) ++entry->ask_count;
  return true;
}

size_t Forwarding::Forward(absl::Span<const ClientDatagram> datagrams) {
  if (entries_.empty()) return 0;
  const auto found = by_client_.find(datagrams[0].client);
  if (found == by_client_.end()) return 0;
  Entry& entry = *found->second;
  // It stays: the owner may still send replies.
  if (MustResolveAgain(entry)) return 0;
  NoteActive(found->second);
  size_t count = 0;
  for (; count < datagrams.size() && datagrams[count].client == entry.client &&
         datagrams[count].origin == ClientDatagram::Origin::kClient;
       ++count) {
    const ClientDatagram& datagram = datagrams[count];
    Send(&entry, datagram.local, datagram.listener, datagram.traffic_class,
         datagram.payload);
  }
  return count;
}

bool Forwarding::MustResolveAgain(const Entry& entry) const {
  const int64_t now = shard_->now_nanoseconds;
  return entry.refused_nanoseconds != 0 ||
         entry.owner_epoch != shard_->gate->hop->peers().epoch(entry.owner) ||
         (entry.asked_nanoseconds != 0 &&
          now - entry.asked_nanoseconds >= patience_nanoseconds_ / 2 &&
          now - entry.resolved_nanoseconds >= patience_nanoseconds_ / 4);
}

bool Forwarding::IsHopeless(const Entry& entry) const {
  const int64_t now = shard_->now_nanoseconds;
  if (entry.refused_nanoseconds != 0) {
    return now - entry.refused_nanoseconds < patience_nanoseconds_;
  }
  return entry.asked_nanoseconds != 0 && entry.ask_count >= kAsksOfHope &&
         now - entry.asked_nanoseconds >= patience_nanoseconds_ * 3 / 2;
}

void Forwarding::PassReply(const ClientDatagram& reply) {
  const auto found = by_client_.find(reply.client);
  if (found == by_client_.end() || found->second->owner != reply.peer) {
    shard_->counters->Drop(DropReason::kHopNoSession);
    return;
  }
  NoteAnswer(&*found->second);
  NoteActive(found->second);
  const std::vector<ListenSocket>& listeners = shard_->gate->listeners;
  const auto listener = static_cast<uint16_t>(reply.hash % listeners.size());
  if (replies_.is_full() || listener != listener_) Flush();
  listener_ = listener;
  if (!replies_.AddTo(
          reply.payload, listeners[listener].family, reply.client,
          listeners[listener].address.is_any() ? reply.local : SocketAddress(),
          reply.traffic_class)) {
    shard_->counters->Drop(DropReason::kReplySendFailed);
  }
}

void Forwarding::HandleAnswer(const ClientDatagram& answer) {
  const auto found = by_client_.find(answer.client);
  if (found == by_client_.end() || found->second->owner != answer.peer) return;
  Entry& entry = *found->second;
  NoteAnswer(&entry);
  if (answer.origin == ClientDatagram::Origin::kHopSession) return;
  // Never 0, which is none.
  entry.refused_nanoseconds = std::max<int64_t>(shard_->now_nanoseconds, 1);
  shard_->counters->hop_refusals.Add();
}

void Forwarding::NoteAnswer(Entry* entry) {
  entry->unanswered_nanoseconds = 0;
  entry->asked_nanoseconds = 0;
  entry->ask_count = 0;
  entry->has_answered = true;
}

void Forwarding::Forget(const SocketAddress& client) {
  if (entries_.empty()) return;
  const auto found = by_client_.find(client);
  if (found != by_client_.end()) Erase(found->second);
}

void Forwarding::Flush() {
  const ListenSocket* const listener =
      replies_.size() == 0 ? nullptr : &shard_->gate->listeners[listener_];
  int attempt_count = 0;
  for (int sent = 0; sent < replies_.size();) {
    const SysCallResult result =
        replies_.Send(shard_->sys_calls, listener->fd.get(), sent);
    if (result.ok()) {
      uint64_t bytes = 0;
      for (int i = sent; i < sent + result.value; ++i) {
        bytes += replies_.payload_bytes(i);
      }
      shard_->counters->backend_datagrams_forwarded.Add(result.value);
      shard_->counters->backend_bytes_forwarded.Add(bytes);
      sent += result.value;
      attempt_count = 0;
      continue;
    }
    if (IsOfEarlierDatagram(result.error) && result.error != EMSGSIZE) {
      shard_->gate->has_listen_errors[listener_].store(
          true, std::memory_order_relaxed);
      if (++attempt_count < kReplyAttemptsMax) continue;
    }
    shard_->counters->Drop(shard_->WouldFragment(result.error)
                               ? DropReason::kWouldFragment
                               : DropReason::kReplySendFailed);
    attempt_count = 0;
    ++sent;
  }
  replies_.Clear();
}

void Forwarding::NoteActive(Entries::iterator entry) {
  entry->active_nanoseconds = shard_->now_nanoseconds;
  entries_.splice(entries_.end(), entries_, entry);
}

void Forwarding::Erase(Entries::iterator entry) {
  by_client_.erase(entry->client);
  entries_.erase(entry);
  shard_->gate->hop->GiveBackClient();
  shard_->counters->hop_clients.Subtract();
}

void Forwarding::Expire() {
  for (int i = 0;
       i < kEntriesPerIteration && NextDeadline() <= shard_->now_nanoseconds;
       ++i) {
    Erase(entries_.begin());
  }
}

void Forwarding::Clear() {
  while (!entries_.empty()) Erase(entries_.begin());
}

int64_t Forwarding::NextDeadline() const {
  if (entries_.empty()) return INT64_MAX;
  return entries_.front().active_nanoseconds +
         absl::ToInt64Nanoseconds(shard_->limits.session_idle_timeout);
}

}  // namespace internal
}  // namespace udpgate
