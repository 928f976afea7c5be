// A shard's part of a take-over: to give its sessions to another process, and
// to take them from one.
#include <errno.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
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
  handed.resolve_deadline_nanoseconds = session.resolve_deadline_nanoseconds;
  handed.reply_bytes = session.reply_bytes;
  handed.client_datagrams_forwarded = session.client_datagrams_forwarded;
  handed.client_bytes_forwarded = session.client_bytes_forwarded;
  handed.backend_datagrams_forwarded = session.backend_datagrams_forwarded;
  handed.backend_bytes_forwarded = session.backend_bytes_forwarded;
  return handed;
}

// All but id, client and state, and what hangs on the state.
void FromHanded(const HandedSession& handed, Session* session) {
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

}  // namespace

// Static sessions only: what changes follows when nothing does any more.
void Worker::CopySockets(ShardMessage* message) {
  const uint32_t end_slot =
      std::min(message->session.slot + kSlotsPerCopy, sessions_.slot_count());
  std::vector<HandedSession> sessions;
  for (uint32_t slot = message->session.slot; slot < end_slot; ++slot) {
    const Session* session = sessions_.FindSlot(slot);
    if (session == nullptr || session->state == SessionState::kPending) {
      continue;
    }
    const SysCallResult copy = sys_calls_->Duplicate(session->upstream_fd);
    if (!copy.ok()) continue;
    sessions.push_back(ToHanded(*session));
    sessions.back().upstream_fd.Reset(copy.value);
  }
  message->copy_done(std::move(sessions),
                     end_slot < sessions_.slot_count() ? end_slot : 0);
}

void Worker::HandOut(std::vector<HandedSession>* sessions) {
  OwnershipLock lock(&ownership_);
  now_nanoseconds_ = context_->clock->NowNanoseconds();
  // A new client's first datagram may bring an answer at once, a disconnect of
  // many a message behind.
  do {
    message_budget_ = kAllMessages;
    DrainMessages();
    DrainDatagrams();
  } while (inbox_->datagrams_waiting() > 0 || inbox_->HasMessages());
  for (uint32_t slot = 0; slot < sessions_.slot_count(); ++slot) {
    Session* session = sessions_.FindSlot(slot);
    if (session == nullptr) continue;
    offload_.End(session);
    sessions->push_back(ToHanded(*session));
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
  }
}

void Worker::LetGo() {
  OwnershipLock lock(&ownership_);
  for (uint32_t slot = 0; slot < sessions_.slot_count(); ++slot) {
    Session* session = sessions_.FindSlot(slot);
    if (session == nullptr) continue;
    Leave(session);
    if (session->state == SessionState::kPending) {
      counters_.datagrams_held.Subtract(session->held->size_bytes.size());
    } else {
      sys_calls_->Close(session->upstream_fd);
    }
    sessions_.Erase(session);
  }
}

absl::Status Worker::TakeOver(std::vector<HandedSession> sessions,
                              uint64_t session_number) {
  OwnershipLock lock(&ownership_);
  now_nanoseconds_ = context_->clock->NowNanoseconds();
  sessions_.SetSessionNumber(session_number);
  std::stable_sort(sessions.begin(), sessions.end(),
                   [](const HandedSession& a, const HandedSession& b) {
                     return ListTime(a) < ListTime(b);
                   });
  for (HandedSession& handed : sessions) {
    if (absl::Status status = TakeOverOne(&handed); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

uint64_t Worker::session_number() {
  OwnershipLock lock(&ownership_);
  return sessions_.session_number();
}

absl::Status Worker::TakeOverOne(HandedSession* handed) {
  const bool is_pending = handed->state == SessionState::kPending;
  UniqueFd upstream_fd = std::move(handed->upstream_fd);
  const auto invalid = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(
        "session ", handed->id, " of ", handed->client.ToString(), ": ", what));
  };
  const uint32_t hash = context_->hash(handed->client);
  if (!handed->client.is_unicast() || handed->client.port() == 0) {
    return invalid("nobody's address");
  }
  if (sessions_.Find(handed->client, hash) != nullptr) {
    return invalid("its client has another one");
  }
  if (handed->listener >= context_->listeners.size()) {
    return invalid("no such listener");
  }
  if (handed->proof_count > kProofCount) return invalid("too many proofs");
  if (is_pending == upstream_fd.is_open() ||
      is_pending == handed->held.empty()) {
    return invalid(is_pending ? "pending, but with a socket or no datagram"
                              : "no socket, or held datagrams");
  }
  Session* session = sessions_.Adopt(handed->client, hash, handed->id);
  FromHanded(*handed, session);
  session->proof_count = handed->proof_count;
  size_t held_bytes = 0;
  for (const std::string& payload : handed->held) held_bytes += payload.size();
  context_->admission.Adopt(session->client, is_pending, held_bytes);
  CountState(SessionState::kPending, +1);
  session->held = std::make_unique<HeldDatagrams>();
  pending_.Append(session);
  for (const std::string& payload : handed->held) {
    session->held->bytes.append(payload);
    session->held->size_bytes.push_back(static_cast<uint32_t>(payload.size()));
    counters_.datagrams_held.Add();
  }
  if (is_pending) {
    // The answer on its way to the other process is lost. Where it is too late
    // for another one, the first turn says so.
    if (session->resolve_deadline_nanoseconds > now_nanoseconds_) {
      AskForBackend(session, session->held->first());
    }
    return absl::OkStatus();
  }
  if (!context_->relay_ports.AdoptUse(session->relay,
                                      {shard_, session->ref()})) {
    return invalid("its relay is another session's");
  }
  UpstreamOpener::Result opened;
  opened.fd = upstream_fd.Release();
  opened.relay = session->relay;
  if (offload_.is_on()) {
    const int on = 1;
    sys_calls_->SetSockOpt(opened.fd, SOL_SOCKET, SO_TIMESTAMPNS, &on,
                           sizeof(on));
  }
  Watch(*session, &opened);
  if (opened.error != 0) return ErrnoToStatus(opened.error, "epoll_ctl");
  session->upstream_fd = opened.fd;
  // Not by MoveTo: the flow offload gets it in the sweep, when the other
  // process does nothing with it any more.
  Leave(session);
  session->held.reset();
  session->state = handed->state;
  CountState(session->state, +1);
  if (session->state == SessionState::kUnconfirmed) {
    unconfirmed_[session->proof_count].Append(session);
  }
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace udpgate
