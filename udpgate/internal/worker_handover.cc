// A shard's part of a take-over: to give its sessions to another process, and
// to take them from one.
#include <errno.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/socket_options.h"
#include "udpgate/internal/worker.h"

namespace udpgate {
namespace internal {
namespace {

// Slots that one kCopySockets message looks at: a copy costs about what a
// datagram does.
constexpr uint32_t kSlotsPerCopy = 64;

// As when a turn has no end of messages.
constexpr int kAllMessages = 1 << 30;

HandedSession ToHanded(const Session& session) {
  HandedSession handed;
  handed.id = session.id;
  handed.state = session.state;
  handed.client = session.client;
  handed.local = session.local;
  handed.backend = session.backend;
  handed.relay = session.relay;
  handed.label = session.label;
  handed.listener = session.listener;
  handed.refusals = session.refusals;
  handed.has_answered = session.has_answered;
  handed.has_unanswered_reply = session.has_unanswered_reply;
  handed.proof_count = session.proof_count;
  handed.first_proof_nanoseconds = session.first_proof_nanoseconds;
  handed.created_nanoseconds = session.created_nanoseconds;
  handed.last_active_nanoseconds = session.last_active_nanoseconds;
  handed.client_active_nanoseconds = session.client_active_nanoseconds;
  handed.unanswered_since_nanoseconds = session.unanswered_since_nanoseconds;
  handed.resolve_deadline_nanoseconds = session.resolve_deadline_nanoseconds;
  handed.reply_bytes = session.reply_bytes;
  handed.client_datagrams_forwarded = session.client_datagrams_forwarded;
  handed.client_bytes_forwarded = session.client_bytes_forwarded;
  handed.backend_datagrams_forwarded = session.backend_datagrams_forwarded;
  handed.backend_bytes_forwarded = session.backend_bytes_forwarded;
  return handed;
}

// All but id and client, which it has, and what waits.
void FromHanded(const HandedSession& handed, Session* session) {
  session->state = handed.state;
  session->proof_count = handed.proof_count;
  session->local = handed.local;
  session->backend = handed.backend;
  session->relay = handed.relay;
  session->label = handed.label;
  session->listener = handed.listener;
  session->refusals = handed.refusals;
  session->has_answered = handed.has_answered;
  session->has_unanswered_reply = handed.has_unanswered_reply;
  session->first_proof_nanoseconds = handed.first_proof_nanoseconds;
  session->created_nanoseconds = handed.created_nanoseconds;
  session->last_active_nanoseconds = handed.last_active_nanoseconds;
  session->client_active_nanoseconds = handed.client_active_nanoseconds;
  session->unanswered_since_nanoseconds = handed.unanswered_since_nanoseconds;
  session->resolve_deadline_nanoseconds = handed.resolve_deadline_nanoseconds;
  session->reply_bytes = handed.reply_bytes;
  session->client_datagrams_forwarded = handed.client_datagrams_forwarded;
  session->client_bytes_forwarded = handed.client_bytes_forwarded;
  session->backend_datagrams_forwarded = handed.backend_datagrams_forwarded;
  session->backend_bytes_forwarded = handed.backend_bytes_forwarded;
}

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

// Static sessions only: what changes follows when nothing does any more.
void Worker::CopySockets(ShardMessage* message) {
  const uint32_t end_slot = std::min(message->session.slot + kSlotsPerCopy,
                                     shard_.sessions.slot_count());
  std::vector<HandedSession> sessions;
  for (uint32_t slot = message->session.slot; slot < end_slot; ++slot) {
    const Session* session = shard_.sessions.FindSlot(slot);
    if (session == nullptr || session->state == SessionState::kPending) {
      continue;
    }
    const SysCallResult copy =
        shard_.sys_calls->Duplicate(session->upstream_fd);
    if (!copy.ok()) continue;
    sessions.push_back(ToHanded(*session));
    sessions.back().upstream_fd.Reset(copy.value);
  }
  message->copy_done(std::move(sessions),
                     end_slot < shard_.sessions.slot_count() ? end_slot : 0);
}

void Worker::HandOut(bool keeps_flows, std::vector<HandedSession>* sessions) {
  OwnershipLock lock(&ownership_);
  shard_.now_nanoseconds = shard_.gate->clock->NowNanoseconds();
  // A new client's first datagram may bring an answer at once, a disconnect of
  // many a message behind.
  do {
    DrainDisconnects(kAllMessages);
    message_budget_ = kAllMessages;
    DrainMessages();
    DrainDatagrams();
  } while (shard_.inbox->datagrams_waiting() > 0 ||
           shard_.inbox->HasMessages() || shard_.inbox->HasDisconnects());
  sessions->reserve(sessions->size() + shard_.sessions.size());
  for (uint32_t slot = 0; slot < shard_.sessions.slot_count(); ++slot) {
    Session* session = shard_.sessions.FindSlot(slot);
    if (session == nullptr) continue;
    if (keeps_flows) {
      shard_.offload.Update(session);
    } else {
      shard_.offload.End(session);
    }
    sessions->push_back(ToHanded(*session));
    // One that is not installed yet has relayed nothing, and ends with this
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

void Worker::LetGo() {
  OwnershipLock lock(&ownership_);
  // What came since HandOut concerns no session of this process any more.
  shard_.inbox->TakeDisconnects(kAllMessages, &messages_);
  for (ShardMessage& message : messages_) endings_.ReportDone(0, &message);
  messages_.clear();
  shard_.inbox->Close();
  for (uint32_t slot = 0; slot < shard_.sessions.slot_count(); ++slot) {
    Session* session = shard_.sessions.FindSlot(slot);
    if (session == nullptr) continue;
    shard_.offload.Forget(session);
    lifecycle_.Delist(session);
    if (session->state == SessionState::kPending) {
      shard_.counters->datagrams_held.Subtract(
          session->held->size_bytes.size());
    } else {
      shard_.sys_calls->Close(session->upstream_fd);
    }
    lifecycle_.Erase(&session);
  }
}

absl::Status Worker::Prepare(HandedSession* handed) {
  OwnershipLock lock(&ownership_);
  absl::StatusOr<Session*> adopted = Adopt(handed);
  if (!adopted.ok()) return adopted.status();
  Session* session = *adopted;
  handed->prepared_slot = session->slot;
  // What does not change any more is done now. A port may be that of a session
  // which has ended since its copy was made: who has it is seen in TakeOver.
  session->relay = handed->relay;
  session->lacks_port = !shard_.gate->relay_ports.AdoptUse(
      handed->relay, {shard_.number, session->ref()});
  return absl::OkStatus();
}

void Worker::DropAllBut(const std::vector<HandedSession*>& sessions) {
  OwnershipLock lock(&ownership_);
  shard_.now_nanoseconds = shard_.gate->clock->NowNanoseconds();
  std::vector<bool> stays(shard_.sessions.slot_count(), false);
  for (const HandedSession* handed : sessions) {
    const Session* session = FindPrepared(*handed);
    if (session != nullptr) stays[session->slot] = true;
  }
  for (uint32_t slot = 0; slot < stays.size(); ++slot) {
    Session* session = shard_.sessions.FindSlot(slot);
    if (session != nullptr && !stays[slot]) Drop(session);
  }
}

absl::Status Worker::TakeOver(std::vector<HandedSession*> sessions,
                              uint64_t session_number) {
  OwnershipLock lock(&ownership_);
  shard_.now_nanoseconds = shard_.gate->clock->NowNanoseconds();
  shard_.sessions.SetSessionNumber(session_number);
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

// The session that Prepare has made of it; null where there is none.
Session* Worker::FindPrepared(const HandedSession& handed) {
  Session* session = shard_.sessions.FindSlot(handed.prepared_slot);
  return session != nullptr && session->id == handed.id ? session : nullptr;
}

uint64_t Worker::session_number() {
  OwnershipLock lock(&ownership_);
  return shard_.sessions.session_number();
}

// A session with a socket that is new here.
absl::StatusOr<Session*> Worker::Adopt(HandedSession* handed) {
  UniqueFd given = std::move(handed->upstream_fd);
  if (!given.is_open()) return Invalid(*handed, "no socket");
  absl::StatusOr<Session*> inserted = Place(*handed);
  if (!inserted.ok()) return inserted;
  Session* session = *inserted;
  const SysCallResult added =
      upstreams_.Adopt(*session, handed->backend, given.get());
  if (!added.ok()) {
    lifecycle_.Erase(&session);
    return ErrnoToStatus(added.error, "epoll_ctl");
  }
  session->upstream_fd = given.Release();
  session->state = handed->state;
  lifecycle_.Enlist(session);
  shard_.gate->admission.Adopt(session->client, session->state, 0);
  return session;
}

// In no list and not counted yet.
absl::StatusOr<Session*> Worker::Place(const HandedSession& handed) {
  const uint32_t hash = shard_.gate->hash(handed.client);
  if (!handed.client.is_unicast() || handed.client.port() == 0) {
    return Invalid(handed, "nobody's address");
  }
  if (shard_.sessions.Find(handed.client, hash) != nullptr) {
    return Invalid(handed, "its client has another one");
  }
  return lifecycle_.Adopt(handed.client, hash, handed.id);
}

absl::Status Worker::TakeOverOne(HandedSession* handed) {
  if (handed->listener >= shard_.gate->listeners.size()) {
    return Invalid(*handed, "no such listener");
  }
  if (handed->proof_count > Lifecycle::kProofCount) {
    return Invalid(*handed, "too many proofs");
  }
  if (handed->state == SessionState::kPending) return TakeOverPending(handed);
  Session* session = FindPrepared(*handed);
  if (session != nullptr && handed->upstream_fd.is_open()) {
    Drop(session);  // it has got a fresh socket since Prepare
    session = nullptr;
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
  if (!handed->held.empty()) return Invalid(*handed, "a datagram waits");
  // Not by MoveTo: a flow that is not handed over begins in the sweep, when the
  // other process does nothing with it any more.
  lifecycle_.Delist(session);
  if (session->state != handed->state) {  // it has changed since Prepare
    shard_.gate->admission.End(session->client, session->state);
    shard_.gate->admission.Adopt(session->client, handed->state, 0);
  }
  FromHanded(*handed, session);
  if (session->state == SessionState::kConfirmed) {
    shard_.offload.Adopt(handed->flow_slot, handed->flow_counted, session);
  }
  lifecycle_.Enlist(session);
  if (!lacks_port || shard_.gate->relay_ports.AdoptUse(
                         session->relay, {shard_.number, session->ref()})) {
    return absl::OkStatus();
  }
  return Invalid(*handed, "its relay is another session's");
}

absl::Status Worker::TakeOverPending(HandedSession* handed) {
  if (handed->held.empty()) return Invalid(*handed, "no datagram waits");
  absl::StatusOr<Session*> inserted = Place(*handed);
  if (!inserted.ok()) return inserted.status();
  Session* session = *inserted;
  FromHanded(*handed, session);
  session->held = std::make_unique<HeldDatagrams>();
  for (const std::string& payload : handed->held) {
    session->held->bytes.append(payload);
    session->held->size_bytes.push_back(static_cast<uint32_t>(payload.size()));
    shard_.counters->datagrams_held.Add();
  }
  session->held->traffic_classes = handed->held_traffic_classes;
  session->held->traffic_classes.resize(handed->held.size());
  shard_.gate->admission.Adopt(session->client, SessionState::kPending,
                               session->held->bytes.size());
  lifecycle_.Enlist(session);
  // The answer on its way to the other process is lost. Where it is too late
  // for another one, the first turn says so.
  if (session->resolve_deadline_nanoseconds > shard_.now_nanoseconds) {
    newcomers_.StartResolution(session->held->first(), session);
  }
  return absl::OkStatus();
}

// One that was prepared, and has ended in the other process since.
void Worker::Drop(Session* session) {
  lifecycle_.Delist(session);
  upstreams_.CloseAdopted(session);
  shard_.gate->admission.End(session->client, session->state);
  // Where it rests, the other process says so.
  if (!session->lacks_port) {
    shard_.gate->relay_ports.GiveBack(session->relay, PortFate::kUnanswered,
                                      shard_.now_nanoseconds);
  }
  lifecycle_.Erase(&session);
}

}  // namespace internal
}  // namespace udpgate
