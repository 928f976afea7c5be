#include "udpgate/internal/shard/shard_handover.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/tag_replies.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {
namespace {

// The order of the list that the session will be in.
int64_t ListTime(const HandedSession& session) {
  return session.state == SessionState::kPending
             ? session.resolve_deadline_nanoseconds
             : session.client_active_nanoseconds;
}

absl::Status Invalid(const HandedSession& session, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "session ", session.id, " of ", session.client.ToString(), ": ", what));
}

}  // namespace

void ShardHandover::HandOverSessions(bool keeps_flows,
                                     std::vector<HandedSession>* sessions) {
  sessions->reserve(sessions->size() + shard_->sessions.size());
  for (uint32_t slot = 0; slot < shard_->sessions.slot_count(); ++slot) {
    Session* session = shard_->sessions.FindSlot(slot);
    if (session == nullptr) continue;
    if (keeps_flows) {
      shard_->offload.Update(session);
    } else {
      shard_->offload.End(session);
    }
    sessions->emplace_back().record() = session->record();
    // A flow that is not installed yet has relayed nothing, and ends with this
    // process.
    if (session->flow_slot != kNoSlot && session->is_on_fast_path) {
      sessions->back().flow_slot = session->flow_slot;
      sessions->back().flow_counted = session->counted;
    }
    if (session->state != SessionState::kPending) {
      sessions->back().upstream_fd.Reset(session->upstream_fd);
      continue;
    }
    const HeldDatagrams& held = *session->held;
    const char* payload = held.bytes.data();
    for (const uint32_t size_bytes : held.size_bytes) {
      sessions->back().held.emplace_back(payload, size_bytes);
      payload += size_bytes;
    }
    sessions->back().held_traffic_classes = held.traffic_classes;
  }
}

void ShardHandover::ForgetSessions() {
  for (uint32_t slot = 0; slot < shard_->sessions.slot_count(); ++slot) {
    Session* session = shard_->sessions.FindSlot(slot);
    if (session == nullptr) continue;
    shard_->offload.Forget(session);
    lifecycle_->Delist(session);
    if (session->state == SessionState::kPending) {
      shard_->counters->datagrams_held.Subtract(
          session->held->size_bytes.size());
    } else {
      shard_->sys_calls->Close(session->upstream_fd);
    }
    lifecycle_->Erase(&session);
  }
}

absl::Status ShardHandover::Prepare(HandedSession* handed) {
  absl::StatusOr<Session*> adopted = Adopt(handed);
  if (!adopted.ok()) return adopted.status();
  Session* session = *adopted;
  handed->prepared_slot = session->slot;
  // What does not change any more is done now. A port may be that of a session
  // which has ended since its copy was made: who has it is seen in TakeOver.
  session->relay = handed->relay;
  session->lacks_port = !shard_->gate->relay_ports.AdoptUse(
      handed->relay, {shard_->number, session->ref()});
  return absl::OkStatus();
}

void ShardHandover::DropAllBut(const std::vector<HandedSession*>& sessions) {
  std::vector<bool> stays(shard_->sessions.slot_count(), false);
  for (const HandedSession* handed : sessions) {
    const Session* session = FindPrepared(*handed);
    if (session != nullptr) stays[session->slot] = true;
  }
  for (uint32_t slot = 0; slot < stays.size(); ++slot) {
    Session* session = shard_->sessions.FindSlot(slot);
    if (session != nullptr && !stays[slot]) Drop(&session);
  }
}

absl::Status ShardHandover::TakeOver(std::vector<HandedSession*> sessions,
                                     uint64_t session_number) {
  shard_->sessions.SetSessionNumber(session_number);
  // Confirmed ones, which are most, are in no list.
  const auto listed = std::partition(
      sessions.begin(), sessions.end(), [](const HandedSession* handed) {
        return handed->state == SessionState::kConfirmed;
      });
  std::sort(listed, sessions.end(),
            [](const HandedSession* a, const HandedSession* b) {
              return ListTime(*a) < ListTime(*b);
            });
  for (HandedSession* handed : sessions) {
    if (absl::Status status = TakeOverOne(handed); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The session that Prepare has made of it; null if there is none.
Session* ShardHandover::FindPrepared(const HandedSession& handed) {
  Session* session = shard_->sessions.FindSlot(handed.prepared_slot);
  const bool is_same = session != nullptr && session->id == handed.id &&
                       session->client == handed.client;
  return is_same ? session : nullptr;
}

// A session with a socket that is new here.
absl::StatusOr<Session*> ShardHandover::Adopt(HandedSession* handed) {
  UniqueFd given = std::move(handed->upstream_fd);
  if (!given.is_open()) return Invalid(*handed, "no socket");
  absl::StatusOr<Session*> inserted = Place(*handed);
  if (!inserted.ok()) return inserted;
  Session* session = *inserted;
  const SysCallResult added =
      upstreams_->Adopt(*session, handed->backend, given.get());
  if (!added.ok()) {
    lifecycle_->Erase(&session);
    return ErrnoToStatus(added.error, "epoll_ctl");
  }
  session->upstream_fd = given.Release();
  lifecycle_->Enlist(handed->state, /*proof_count=*/0, session);
  shard_->gate->admission.Adopt(session->client, session->state, 0);
  return session;
}

// In no list and not counted yet.
absl::StatusOr<Session*> ShardHandover::Place(const HandedSession& handed) {
  const uint32_t hash = shard_->gate->hash(handed.client);
  if (!handed.client.is_unicast() || handed.client.port() == 0) {
    return Invalid(handed, "invalid client address");
  }
  if (shard_->sessions.Find(handed.client, hash) != nullptr) {
    return Invalid(handed, "its client already has a session");
  }
  return lifecycle_->Adopt(handed.client, hash, handed.id);
}

absl::Status ShardHandover::TakeOverOne(HandedSession* handed) {
  if (handed->listener >= shard_->gate->listeners.size()) {
    return Invalid(*handed, "no such listener");
  }
  if (handed->proof_count > Lifecycle::kProofCount) {
    return Invalid(*handed, "proof_count is out of range");
  }
  if (handed->state == SessionState::kPending) return TakeOverPending(handed);
  Session* session = FindPrepared(*handed);
  if (session != nullptr && handed->upstream_fd.is_open()) {
    Drop(&session);  // it has got a new socket since Prepare
  }
  bool lacks_port = true;
  if (session == nullptr) {
    absl::StatusOr<Session*> adopted = Adopt(handed);
    if (!adopted.ok()) return adopted.status();
    session = *adopted;
  } else {
    lacks_port = session->lacks_port;
    session->lacks_port = false;
  }
  if (!handed->held.empty())
    return Invalid(*handed, "it holds datagrams, but is not pending");
  // Not by MoveTo: a flow that is not handed over begins in the sweep, when the
  // other process does nothing with it any more.
  lifecycle_->Delist(session);
  if (session->state != handed->state) {  // it has changed since Prepare
    shard_->gate->admission.End(session->client, session->state);
    shard_->gate->admission.Adopt(session->client, handed->state, 0);
  }
  session->record() = handed->record();
  lifecycle_->Enlist(handed->state, handed->proof_count, session);
  if (session->tag != nullptr) {
    session->tag->OnBegin(session->client, session->relay);
    TagReplies::Note(*session);  // before the first sweep looks at others
  }
  if (session->state == SessionState::kConfirmed) {
    shard_->offload.Adopt(handed->flow_slot, handed->flow_counted, session);
  }
  if (!lacks_port || shard_->gate->relay_ports.AdoptUse(
                         session->relay, {shard_->number, session->ref()})) {
    return absl::OkStatus();
  }
  return Invalid(*handed, "another session has its source port");
}

absl::Status ShardHandover::TakeOverPending(HandedSession* handed) {
  if (handed->held.empty())
    return Invalid(*handed, "it is pending, but holds no datagram");
  absl::StatusOr<Session*> inserted = Place(*handed);
  if (!inserted.ok()) return inserted.status();
  Session* session = *inserted;
  session->record() = handed->record();
  session->tag = nullptr;  // it gets one with its backend
  session->held = std::make_unique<HeldDatagrams>();
  for (const std::string& payload : handed->held) {
    session->held->bytes.append(payload);
    session->held->size_bytes.push_back(static_cast<uint32_t>(payload.size()));
    shard_->counters->datagrams_held.Add();
  }
  session->held->traffic_classes = handed->held_traffic_classes;
  session->held->traffic_classes.resize(handed->held.size());
  shard_->gate->admission.Adopt(session->client, SessionState::kPending,
                                session->held->bytes.size());
  lifecycle_->Enlist(SessionState::kPending, handed->proof_count, session);
  // The result on its way to the other process is lost. If it is too late for
  // another one, the first iteration ends the session.
  if (session->resolve_deadline_nanoseconds > shard_->now_nanoseconds) {
    newcomers_->StartResolution(session->held->first(), session);
  }
  return absl::OkStatus();
}

// One that was prepared, and has ended in the other process since.
void ShardHandover::Drop(Session** dropped) {
  Session* session = *dropped;
  lifecycle_->Delist(session);
  upstreams_->CloseAdopted(session);
  shard_->gate->admission.End(session->client, session->state);
  // The other process says if the port is in quarantine.
  if (!session->lacks_port) {
    shard_->gate->relay_ports.GiveBack(session->relay, PortFate::kUnanswered,
                                       shard_->now_nanoseconds);
  }
  lifecycle_->Erase(dropped);
}

}  // namespace internal
}  // namespace udpgate
