#include "udpgate/internal/shard/endings.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/socket_options.h"
#include "udpgate/internal/session/tag_replies.h"

namespace udpgate {
namespace internal {
namespace {

// The idle sweep looks at this many slots at a time.
constexpr uint32_t kSlotsPerSweep = 64;
// An iteration that comes late makes up for so many slices at most.
constexpr int kSweepsPerIteration = 4;

// Slots that an iteration looks at for a disconnect of many sessions.
constexpr uint32_t kSlotsPerDisconnect = 256;

}  // namespace

void Endings::ApplyLimits() {
  // By the old timeouts the next look could be far away.
  next_sweep_nanoseconds_ =
      std::min(next_sweep_nanoseconds_, shard_->now_nanoseconds);
}

void Endings::UpdatePacing() {
  if (ends_nanoseconds_ <= 0) return;
  shard_->now_nanoseconds = shard_->gate->clock->NowNanoseconds();
  break_end_nanoseconds_ =
      shard_->now_nanoseconds +
      std::min(kBreakFactor * ends_nanoseconds_, kBreakNanosecondsMax);
  ends_nanoseconds_ = 0;
}

int64_t Endings::NextDeadline() const {
  // There may be disconnects that wait for the end of the break, too.
  if (is_pacing()) return break_end_nanoseconds_;
  if (superseded_id_max_ != 0) return shard_->now_nanoseconds;
  int64_t deadline_nanoseconds = INT64_MAX;
  if (shard_->sessions.size() > 0) {
    deadline_nanoseconds = next_sweep_nanoseconds_;
  }
  for (const SessionList& list : lifecycle_->unconfirmed()) {
    if (const Session* session = list.first(); session != nullptr) {
      deadline_nanoseconds =
          std::min(deadline_nanoseconds, UnconfirmedDeadline(*session));
    }
  }
  return deadline_nanoseconds;
}

void Endings::EndPaced(EndReason end, Session** session, DropReason held_drop) {
  const int64_t begin_nanoseconds = shard_->gate->clock->NowNanoseconds();
  lifecycle_->End(end, held_drop, session);
  ends_nanoseconds_ +=
      shard_->gate->clock->NowNanoseconds() - begin_nanoseconds;
}

void Endings::HandleDisconnect(ShardMessage* message) {
  switch (message->kind) {
    case ShardMessage::Kind::kEndClientIp:
    case ShardMessage::Kind::kEndBackend:
    case ShardMessage::Kind::kEndBackendText:
    case ShardMessage::Kind::kSupersede:
      DisconnectMany(message);
      break;
    default:
      DisconnectOne(message);
      break;
  }
}

void Endings::DisconnectOne(ShardMessage* message) {
  Session* session =
      message->kind == ShardMessage::Kind::kEndSession
          ? shard_->sessions.Find(message->session)
          : shard_->sessions.Find(message->client,
                                  shard_->gate->hash(message->client));
  // The port may be another session's on another source address.
  if (session != nullptr && message->address.is_valid() &&
      session->relay != message->address) {
    session = nullptr;
  }
  if (session != nullptr &&
      session->created_nanoseconds > message->came_nanoseconds) {
    session = nullptr;
  }
  const bool is_matched = session != nullptr;
  if (!message->is_part) {
    (is_matched ? shard_->counters->disconnects_matched
                : shard_->counters->disconnects_unmatched)
        .Add();
  }
  if (!is_matched ||
      session->resolve_begin_nanoseconds > message->came_nanoseconds) {
    // Nothing to end: it is not there, or resolved its backend again since.
  } else if (session->state == SessionState::kPending) {
    // It has nothing to be disconnected from, see ConcernsPending.
    session->must_resolve_again = true;
  } else {
    EndPaced(EndReason::kDisconnected, &session);
  }
  ReportDone(is_matched ? 1 : 0, message);
}

// In slices, as live sessions' datagrams wait meanwhile. Concerns the sessions
// that live as it begins, and none that takes a slot later.
void Endings::DisconnectMany(ShardMessage* message) {
  if (message->session.id == 0) {
    message->session.id = shard_->sessions.newest_id();
  }
  const uint32_t end_slot =
      std::min(message->session.slot + kSlotsPerDisconnect,
               shard_->sessions.slot_count());
  int ended_count = 0;
  uint32_t& slot = message->session.slot;
  while (slot < end_slot && ended_count < kEndsPerIteration) {
    Session* session = shard_->sessions.FindSlot(slot++);
    if (session == nullptr || session->id > message->session.id ||
        session->created_nanoseconds > message->came_nanoseconds) {
      continue;
    }
    if (EndOneOfMany(*message, &session)) ++ended_count;
  }
  message->ended_count += ended_count;
  if (slot < shard_->sessions.slot_count()) {
    shard_->inbox->PostAgain(std::move(*message));
    return;
  }
  shard_->inbox->EndDisconnect();
  ReportDone(message->ended_count, message);
}

// Whether the session was concerned.
bool Endings::EndOneOfMany(const ShardMessage& message, Session** session) {
  if (message.kind != ShardMessage::Kind::kSupersede) {
    return DisconnectOneOfMany(message, session);
  }
  if (!message.ids->contains((*session)->id)) return false;
  EndPaced(EndReason::kSuperseded, session);
  return true;
}

bool Endings::DisconnectOneOfMany(const ShardMessage& message,
                                  Session** session) {
  Session& candidate = **session;
  const bool is_by_ip = message.kind == ShardMessage::Kind::kEndClientIp;
  const bool is_by_text = message.kind == ShardMessage::Kind::kEndBackendText;
  // See DisconnectOne.
  const bool was_resolved_since =
      candidate.resolve_begin_nanoseconds > message.came_nanoseconds;
  if (candidate.state == SessionState::kPending || was_resolved_since) {
    const bool is_concerned = ConcernsPending(message, candidate.client);
    if (is_concerned && !was_resolved_since)
      candidate.must_resolve_again = true;
    return is_concerned && is_by_ip;
  }
  if (is_by_text) {
    if (!absl::EqualsIgnoreCase(candidate.label, *message.text)) return false;
  } else if (is_by_ip ? candidate.client.WithPort(0) != message.address
                      : candidate.backend != message.address) {
    return false;
  }
  EndPaced(EndReason::kDisconnected, session);
  return true;
}

void Endings::ReportDone(int64_t ended_count, ShardMessage* message) {
  if (message->disconnect_done == nullptr) return;
  shard_->gate->control.Post([done = std::move(message->disconnect_done),
                              ended_count]() mutable { done(ended_count); });
}

// Anyone can forge such a message, so it counts only if the client is silent,
// and not more often than once a second.
void Endings::HandleClientRefused(const SocketAddress& client) {
  Session* session = shard_->sessions.Find(client, shard_->gate->hash(client));
  if (session == nullptr || session->state == SessionState::kPending) return;
  shard_->offload.Update(session);
  if (session->client_active_nanoseconds >=
      session->client_refused_nanoseconds) {
    session->client_refusals = 0;
  }
  if (shard_->now_nanoseconds - session->client_active_nanoseconds <
          kClientQuietNanoseconds ||
      shard_->now_nanoseconds - session->client_refused_nanoseconds <
          kClientRefusalNanoseconds) {
    return;
  }
  session->client_refused_nanoseconds = shard_->now_nanoseconds;
  if (++session->client_refusals < shard_->limits.backend_refusals_max) return;
  EndPaced(EndReason::kClientSilent, &session);
}

void Endings::ExpireUnconfirmed() {
  int ended_count = 0;
  for (const SessionList& list : lifecycle_->unconfirmed()) {
    for (Session* session = list.first();
         session != nullptr &&
         UnconfirmedDeadline(*session) <= shard_->now_nanoseconds;
         session = list.first()) {
      if (ended_count++ == kEndsPerIteration) return;
      EndPaced(EndReason::kUnconfirmed, &session);
    }
  }
}

int64_t Endings::UnconfirmedDeadline(const Session& session) const {
  return session.client_active_nanoseconds +
         absl::ToInt64Nanoseconds(shard_->limits.unconfirmed_timeout);
}

void Endings::ExpireSilent() {
  const int64_t period_nanoseconds = SweepPeriodNanoseconds();
  int ended_count = 0;
  for (int i = 0; i < kSweepsPerIteration; ++i) {
    if (shard_->now_nanoseconds < next_sweep_nanoseconds_) return;
    const uint32_t slot_count = shard_->sessions.slot_count();
    const uint32_t end_slot =
        std::min(sweep_slot_ + kSlotsPerSweep, slot_count);
    if (!SweepSlots(end_slot, &ended_count)) return;
    if (sweep_slot_ >= slot_count) sweep_slot_ = 0;
    const int64_t slices = slot_count / kSlotsPerSweep + 1;
    next_sweep_nanoseconds_ =
        std::max(next_sweep_nanoseconds_ + period_nanoseconds / slices,
                 shard_->now_nanoseconds - period_nanoseconds);
  }
}

// Looks at the slots up to `end_slot`. False if it has ended as many sessions
// as an iteration may, and has to go on at `sweep_slot_` after the break.
bool Endings::SweepSlots(uint32_t end_slot, int* ended_count) {
  for (; sweep_slot_ < end_slot; ++sweep_slot_) {
    Session* session = shard_->sessions.FindSlot(sweep_slot_);
    if (session == nullptr || session->state == SessionState::kPending) {
      continue;
    }
    lifecycle_->UpdateOffload(session);
    TagReplies::Note(*session);
    const absl::optional<EndReason> reason = SilenceOf(*session);
    if (!reason.has_value()) {
      validation_->AllowOneReply(session);
      continue;
    }
    if ((*ended_count)++ == kEndsPerIteration) return false;
    if (*reason == EndReason::kBackendSilent) ReportSilence(*session);
    EndPaced(*reason, &session);
  }
  return true;
}

// All slots are looked at in an eighth of the shortest timeout.
int64_t Endings::SweepPeriodNanoseconds() const {
  absl::Duration least = shard_->limits.session_idle_timeout;
  for (const absl::Duration timeout : {shard_->limits.backend_silent_timeout,
                                       shard_->limits.client_silent_timeout}) {
    if (timeout > absl::ZeroDuration()) least = std::min(least, timeout);
  }
  return absl::ToInt64Nanoseconds(least) / kSweepsPerTimeout;
}

absl::optional<EndReason> Endings::SilenceOf(const Session& session) const {
  const ProxyLimits& limits = shard_->limits;
  if (IsOver(session.last_active_nanoseconds, limits.session_idle_timeout)) {
    return EndReason::kIdle;
  }
  // A reply that waits to be read, since the session is paused or many sockets
  // are ready, shows that the backend is not silent.
  if (session.unanswered_since_nanoseconds != 0 &&
      limits.backend_silent_timeout > absl::ZeroDuration() &&
      IsOver(session.unanswered_since_nanoseconds,
             limits.backend_silent_timeout) &&
      !TagReplies::HasReplyAfter(
          shard_->now_nanoseconds -
              absl::ToInt64Nanoseconds(limits.backend_silent_timeout),
          session) &&
      !NextDatagramBytes(shard_->sys_calls, session.upstream_fd).has_value()) {
    return EndReason::kBackendSilent;
  }
  if (limits.client_silent_timeout > absl::ZeroDuration() &&
      IsOver(session.client_active_nanoseconds, limits.client_silent_timeout)) {
    return EndReason::kClientSilent;
  }
  return absl::nullopt;
}

bool Endings::IsOver(int64_t since_nanoseconds, absl::Duration timeout) const {
  return shard_->now_nanoseconds - since_nanoseconds >=
         absl::ToInt64Nanoseconds(timeout);
}

void Endings::ReportSilence(const Session& session) {
  shard_->gate->control.ReportEnded(
      EndReason::kBackendSilent, session.client, [&] {
        return absl::StrCat(
            "backend ", session.backend.ToString(), " sent nothing for ",
            absl::FormatDuration(shard_->limits.backend_silent_timeout));
      });
}

// Sessions that begin later have higher ids.
void Endings::SupersedeAll() {
  superseded_id_max_ = shard_->sessions.newest_id();
  superseded_slot_ = 0;
}

void Endings::EndSuperseded() {
  if (superseded_id_max_ == 0) return;
  const uint32_t slot_count = shard_->sessions.slot_count();
  const uint32_t end_slot =
      std::min(superseded_slot_ + kSlotsPerDisconnect, slot_count);
  for (int ended_count = 0;
       superseded_slot_ < end_slot && ended_count < kEndsPerIteration;) {
    Session* session = shard_->sessions.FindSlot(superseded_slot_++);
    if (session == nullptr || !IsSuperseded(*session)) continue;
    EndPaced(EndReason::kSuperseded, &session, DropReason::kStandby);
    ++ended_count;
  }
  if (superseded_slot_ == slot_count) superseded_id_max_ = 0;
}

void Endings::EndAllSuperseded() {
  while (superseded_id_max_ != 0) EndSuperseded();
}

void Endings::Supersede(const absl::flat_hash_set<uint64_t>& ids) {
  for (uint32_t slot = 0; slot < shard_->sessions.slot_count(); ++slot) {
    Session* session = shard_->sessions.FindSlot(slot);
    if (session == nullptr || !ids.contains(session->id)) continue;
    lifecycle_->End(EndReason::kSuperseded, DropReason::kSessionEnded,
                    &session);
  }
}

void Endings::EndAll() {
  for (uint32_t slot = 0; slot < shard_->sessions.slot_count(); ++slot) {
    Session* session = shard_->sessions.FindSlot(slot);
    if (session == nullptr) continue;
    lifecycle_->End(EndReason::kStopped, DropReason::kSessionEnded, &session);
  }
}

}  // namespace internal
}  // namespace udpgate
