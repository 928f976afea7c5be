#include "udpgate/internal/shard/evictions.h"

#include <atomic>
#include <utility>

#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {
namespace {

// Sessions of one address that are looked at for that in one shard, the oldest.
constexpr int kSilentLooksMax = 1024;

// Unconfirmed sessions that are looked at for one whose source port is of use.
constexpr int kEvictLooksMax = 64;

}  // namespace

void Evictions::HandleMessage(ShardMessage* message) {
  if (message->kind == ShardMessage::Kind::kFindSilent) {
    FindSilent(message);
    PassOn(std::move(*message));
    return;
  }
  if (message->kind == ShardMessage::Kind::kEvict) {
    EvictOne();
  } else {
    EndSilent(*message);
  }
  shard_->gate->evictions_under_way.fetch_sub(1, std::memory_order_relaxed);
}

// Among the unconfirmed sessions of this shard that fit, the one longest silent
// of those with the fewest steps of address validation. Null if there is none.
// If even that one has had less than `kFirstChanceNanoseconds` since its last
// datagram, one with more steps that is silent for `kLongSilentNanoseconds`
// goes first: else clients with forged addresses that send a few datagrams each
// would fill the table and leave new clients to replace each other.
Session* Evictions::LeastValidated(
    absl::FunctionRef<bool(const Session& session)> fits) const {
  Session* least = nullptr;
  int look_count = 0;
  for (const SessionList& list : lifecycle_->unconfirmed()) {
    Session* first = list.first();
    while (first != nullptr && !fits(*first)) {
      if (++look_count == kEvictLooksMax) return least;
      first = list.next(*first);
    }
    if (first == nullptr) continue;
    const int64_t silent =
        shard_->now_nanoseconds - first->client_active_nanoseconds;
    if (least == nullptr) {
      least = first;
      if (silent >= kFirstChanceNanoseconds) break;
    } else if (silent >= kLongSilentNanoseconds) {
      return first;
    }
  }
  return least;
}

bool Evictions::EvictOne() {
  return Evict(LeastValidated([](const Session& /*session*/) { return true; }));
}

bool Evictions::EvictForUpstream(const UpstreamOpener::Result& failed,
                                 const SocketAddress& source) {
  if (!failed.is_without_port) return EvictOne();
  const UpstreamOpener& upstream = upstreams_->opener();
  return Evict(LeastValidated([&upstream, &source](const Session& session) {
    return upstream.IsOfUse(session.relay, source);
  }));
}

bool Evictions::Evict(Session* session) {
  if (session == nullptr) return false;
  lifecycle_->End(EndReason::kEvicted, DropReason::kSessionEnded, &session);
  return true;
}

// Whether one more message may be under way that ends a session for another
// shard's client.
bool Evictions::MayAskOthers() {
  constexpr int kUnderWayMax = 64;
  if (shard_->gate->inboxes.size() < 2) return false;
  if (shard_->gate->evictions_under_way.fetch_add(
          1, std::memory_order_relaxed) < kUnderWayMax) {
    return true;
  }
  shard_->gate->evictions_under_way.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void Evictions::AskOtherShards() {
  const size_t shard_count = shard_->gate->inboxes.size();
  if (!MayAskOthers()) return;
  next_shard_ = (next_shard_ + 1) % shard_count;
  if (next_shard_ == shard_->number) {
    next_shard_ = (next_shard_ + 1) % shard_count;
  }
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEvict;
  shard_->gate->inboxes[next_shard_]->Post(std::move(message));
}

// With several shards all of them are asked, one after the other.
bool Evictions::ReplaceSilent(const SocketAddress& client) {
  if (!shard_->gate->admission.MayLookForSilent(client,
                                                shard_->now_nanoseconds)) {
    return false;
  }
  ShardMessage message;
  message.kind = ShardMessage::Kind::kFindSilent;
  message.client = client;
  message.shards_left = shard_->gate->inboxes.size();
  if (message.shards_left < 2) {
    FindSilent(&message);
    return EndSilent(message);
  }
  if (!MayAskOthers()) return false;
  FindSilent(&message);
  PassOn(std::move(message));
  return false;
}

// Notes the session of this shard that may be replaced, if it is a better
// choice than what other shards have found: unconfirmed ones come first, then
// those silent longest.
void Evictions::FindSilent(ShardMessage* message) {
  lifecycle_->networks().ForEach(
      message->client, kSilentLooksMax, [&](Session* session) {
        if (!IsSilent(*session)) return;
        // The fast path may have relayed since; then it is not silent.
        shard_->offload.Update(session);
        if (!IsSilent(*session)) return;
        const bool is_confirmed = session->state == SessionState::kConfirmed;
        const int64_t since_nanoseconds = session->client_active_nanoseconds;
        if (message->session.id != 0 &&
            (is_confirmed != message->is_silent_confirmed
                 ? is_confirmed
                 : since_nanoseconds >= message->silent_since_nanoseconds)) {
          return;
        }
        message->session = session->ref();
        message->silent_shard = shard_->number;
        message->is_silent_confirmed = is_confirmed;
        message->silent_since_nanoseconds = since_nanoseconds;
      });
}

bool Evictions::IsSilent(const Session& session) const {
  if (session.state == SessionState::kPending) return false;
  return shard_->now_nanoseconds - session.client_active_nanoseconds >=
         (session.state == SessionState::kConfirmed
              ? kSilentNanoseconds
              : kUnconfirmedSilentNanoseconds);
}

// To the next shard that is to look, or, once all have looked, to the shard of
// the session that is replaced.
void Evictions::PassOn(ShardMessage message) {
  size_t next = (shard_->number + 1) % shard_->gate->inboxes.size();
  if (--message.shards_left == 0) {
    if (message.session.id == 0) {
      shard_->gate->evictions_under_way.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
    message.kind = ShardMessage::Kind::kEndSilent;
    next = message.silent_shard;
  }
  shard_->gate->inboxes[next]->Post(std::move(message));
}

// Whether the session that was found has ended for it: it may have ended
// before, or its client may have sent.
bool Evictions::EndSilent(const ShardMessage& message) {
  Session* session = shard_->sessions.Find(message.session);
  if (session == nullptr || !IsSilent(*session)) return false;
  lifecycle_->End(EndReason::kReplaced, DropReason::kSessionEnded, &session);
  return true;
}

}  // namespace internal
}  // namespace udpgate
