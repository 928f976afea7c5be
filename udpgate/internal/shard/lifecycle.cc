#include "udpgate/internal/shard/lifecycle.h"

#include <utility>

#include "absl/time/time.h"
#include "udpgate/internal/net/listen_socket.h"

namespace udpgate {
namespace internal {
namespace {

// Whether new sessions should rather try another address of the backend's name.
bool IsBackendAtFault(EndReason end) {
  return end == EndReason::kBackendRefused || end == EndReason::kBackendSilent;
}

}  // namespace

Lifecycle::Lifecycle(ShardContext* shard, UpstreamSockets* upstreams,
                     ReplyBatch* replies)
    : shard_(shard),
      upstreams_(upstreams),
      replies_(replies),
      events_(shard->gate->session_events == nullptr
                  ? nullptr
                  : shard->gate->session_events->AddShard()),
      pending_(&shard->sessions),
      unconfirmed_(kProofCount + 1, SessionList(&shard->sessions)),
      networks_(&shard->sessions) {
  ApplyLimits();
}

void Lifecycle::ApplyLimits() {
  networks_.SetOn(shard_->limits.max_sessions_per_ip > 0);
}

Session* Lifecycle::Create(const SocketAddress& client, uint32_t hash) {
  Session* session = Place(client, hash);
  shard_->counters->sessions_created.Add();
  session->resolve_deadline_nanoseconds =
      shard_->now_nanoseconds +
      absl::ToInt64Nanoseconds(shard_->limits.resolve_timeout);
  Enlist(SessionState::kPending, /*proof_count=*/0, session);
  return session;
}

void Lifecycle::MoveTo(SessionState state, Session* session) {
  Delist(session);
  Enlist(state, session->proof_count, session);
  if (state == SessionState::kConfirmed) {
    shard_->gate->admission.Confirm(session->client);
    upstreams_->Resume(session);
    if (session->hop == 0) {
      shard_->offload.Begin(shard_->gate->listeners[session->listener].address,
                            session);
    }
    Report(SessionEvent::Kind::kConfirmed, *session, EndReason::kIdle);
  } else if (state == SessionState::kUnconfirmed) {
    Report(SessionEvent::Kind::kOpened, *session, EndReason::kIdle);
  }
}

void Lifecycle::NoteClientActive(int proof_count, Session* session) {
  unconfirmed_[session->proof_count].Remove(session);
  session->proof_count = static_cast<uint8_t>(proof_count);
  unconfirmed_[session->proof_count].Append(session);
}

void Lifecycle::End(EndReason end, DropReason held_drop, Session** ended) {
  Session* session = *ended;
  // The batch points to the session.
  replies_->Flush();
  shard_->offload.End(session);
  Report(SessionEvent::Kind::kEnded, *session, end);
  Delist(session);
  if (session->state == SessionState::kPending) {
    const HeldDatagrams& held = *session->held;
    shard_->counters->Drop(held_drop, held.size_bytes.size());
    shard_->counters->datagrams_held.Subtract(held.size_bytes.size());
    shard_->gate->admission.GiveBackHeldBytes(held.bytes.size());
  } else {
    if (IsBackendAtFault(end)) {
      shard_->gate->backend_holdoff.Note(session->backend,
                                         shard_->now_nanoseconds);
    }
    upstreams_->Close(session);
  }
  shard_->counters->End(end);
  shard_->gate->admission.End(session->client, session->state);
  if (session->tag != nullptr) {
    session->tag->OnEnd(session->client, session->relay, end);
  }
  Erase(ended);
}

void Lifecycle::UpdateOffload(Session* session) {
  if (!shard_->offload.is_on()) return;
  shard_->offload.Update(session);
  if (session->state != SessionState::kConfirmed || session->hop != 0) return;
  shard_->offload.Begin(shard_->gate->listeners[session->listener].address,
                        session);
}

Session* Lifecycle::Place(const SocketAddress& client, uint32_t hash) {
  Session* session =
      shard_->sessions.Insert(client, hash, shard_->now_nanoseconds);
  networks_.Add(session);
  return session;
}

void Lifecycle::Continue(Session* session) {
  shard_->counters->sessions_restored.Add();
  Enlist(SessionState::kConfirmed, kProofCount, session);
  shard_->offload.Begin(shard_->gate->listeners[session->listener].address,
                        session);
}

Session* Lifecycle::Adopt(const SocketAddress& client, uint32_t hash,
                          uint64_t id) {
  Session* session = shard_->sessions.Adopt(client, hash, id);
  networks_.Add(session);
  return session;
}

void Lifecycle::Enlist(SessionState state, int proof_count, Session* session) {
  session->state = state;
  session->proof_count = static_cast<uint8_t>(proof_count);
  CountState(*session, +1);
  if (session->state == SessionState::kPending) {
    pending_.Append(session);
  } else if (session->state == SessionState::kUnconfirmed) {
    unconfirmed_[session->proof_count].Append(session);
  }
}

void Lifecycle::Delist(Session* session) {
  CountState(*session, -1);
  if (session->state == SessionState::kPending) {
    pending_.Remove(session);
    shard_->gate->admission.EndPending();
  } else if (session->state == SessionState::kUnconfirmed) {
    unconfirmed_[session->proof_count].Remove(session);
  }
}

void Lifecycle::Erase(Session** session) {
  networks_.Remove(*session);
  shard_->sessions.Erase(*session);
  *session = nullptr;
}

void Lifecycle::CountState(const Session& session, int change) {
  const uint64_t amount = static_cast<uint64_t>(int64_t{change});
  if (session.state == SessionState::kPending) {
    shard_->counters->sessions_pending.Add(amount);
    return;
  }
  shard_->counters->sessions_active.Add(amount);
  if (session.state == SessionState::kConfirmed) {
    shard_->counters->sessions_confirmed.Add(amount);
  }
  if (change > 0) {
    shard_->gate->backend_sessions.Add(session.backend);
  } else {
    shard_->gate->backend_sessions.Subtract(session.backend);
  }
}

void Lifecycle::Report(SessionEvent::Kind kind, const Session& session,
                       EndReason end) {
  if (events_ == nullptr) return;
  const SocketAddress& listen =
      shard_->gate->listeners[session.listener].address;
  SessionEvent event;
  event.kind = kind;
  event.session_id = session.id;
  event.state = session.state;
  event.end_reason = end;
  event.client = session.client;
  event.local =
      listen.is_any() ? session.local.WithPort(listen.port()) : listen;
  event.backend = session.backend;
  event.relay = session.relay;
  event.label = session.label;
  event.tag = session.tag;
  event.age =
      absl::Nanoseconds(shard_->now_nanoseconds - session.created_nanoseconds);
  event.client_datagrams_forwarded = session.client_datagrams_forwarded;
  event.client_bytes_forwarded = session.client_bytes_forwarded;
  event.backend_datagrams_forwarded = session.backend_datagrams_forwarded;
  event.backend_bytes_forwarded = session.backend_bytes_forwarded;
  events_->Post(std::move(event), shard_->now_nanoseconds);
}

}  // namespace internal
}  // namespace udpgate
