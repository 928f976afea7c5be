#include "testing/internal/simulation/observation.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/shard/address_validation.h"
#include "udpgate/internal/shard/endings.h"
#include "udpgate/internal/shard/evictions.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/upstream_recovery.h"

namespace udpgate {
namespace internal {
namespace simulation {

void Observation::Resolve(const ResolveRequest& request,
                          BackendResolver::Callback done) {
  const auto found = state_->client_by_address.find(request.client);
  state_->Require(found != state_->client_by_address.end(),
                  "a resolution for an unknown client");
  if (found == state_->client_by_address.end()) return;
  ModelClient& client = state_->clients[found->second];
  const int index = static_cast<int>(state_->resolutions.size());
  if (state_->worker->counters().sessions_created.value() !=
      sessions_created_) {
    ++sessions_created_;
    if (client.session != kNone) {
      const ModelSession& old = state_->sessions[client.session];
      state_->Require(
          old.fd == kNone &&
              (state_->resolutions[old.resolution].has_result ||
               state_->now() >= old.deadline_nanoseconds || old.is_superseded),
          "client ", found->second, " has two sessions");
      state_->sessions[client.session].is_live = false;
    }
    Tag tag;
    state_->Require(request.first_datagram.size() >= sizeof(tag),
                    "no datagram");
    std::memcpy(&tag, request.first_datagram.data(), sizeof(tag));
    state_->Require(tag.kind == Tag::kFromClient &&
                        tag.index == static_cast<uint32_t>(found->second),
                    "a resolution with the datagram of another client");
    client.session = static_cast<int>(state_->sessions.size());
    ModelSession session;
    session.client = found->second;
    session.first_datagram = tag.number;
    session.created_nanoseconds = state_->now();
    session.deadline_nanoseconds =
        state_->now() + Nanoseconds(state_->limits().resolve_timeout);
    state_->sessions.push_back(session);
  } else {
    state_->Require(client.disconnects > 0 && client.session != kNone,
                    "client ", found->second,
                    " is resolved twice without a reason");
    ++state_->coverage->resolutions_repeated;
    if (client.session == kNone) return;
  }
  state_->pending_peak =
      std::max(state_->pending_peak,
               state_->worker->counters().sessions_pending.value());
  state_->Note("resolution ", index, " for client ", found->second,
               ", session ", client.session);
  state_->Require(!client.is_denied, "client ", found->second, " is denied");
  state_->sessions[client.session].resolution = index;
  // Few hosts, so that the opener knows some of them.
  state_->resolutions.push_back(
      {client.session,
       Address(absl::StrCat("203.0.113.", 1 + index % 3), 1024 + index),
       std::move(done)});
  state_->open_resolutions.push_back(index);
  if (!state_->is_calm && state_->inline_result_interval > 0 &&
      state_->random.OneIn(state_->inline_result_interval)) {
    actions_->GiveResult(index);
  }
}

void Observation::OnWatched(int fd) {
  const SocketAddress backend = state_->sys_calls.peer(fd);
  if (!backend.is_valid()) return;
  const auto resolution =
      std::find_if(state_->resolutions.begin(), state_->resolutions.end(),
                   [&](const Resolution& q) { return q.backend == backend; });
  state_->Require(resolution != state_->resolutions.end(),
                  "connected to an unknown backend");
  if (resolution == state_->resolutions.end()) return;
  const int index = static_cast<int>(resolution - state_->resolutions.begin());
  if (resolution->session == kNone) restoring_->OnOpened(index);
  ModelSession& session = state_->sessions[resolution->session];
  if (session.is_active() && session.resolution == index) {
    return OnReopened(fd, resolution->session);
  }
  state_->Note("session ", resolution->session, " has a backend");
  state_->Require(
      resolution->is_good && !resolution->is_stale &&
          session.resolution == index && session.is_live &&
          session.fd == kNone &&
          state_->clients[session.client].session == resolution->session,
      "session ", resolution->session,
      " uses a result that is not for it: resolution ", index);
  if (resolution->is_contested) session.must_end = true;
  session.fd = fd;
  session.relay = state_->sys_calls.local(fd);
  session.backend = backend;
  session.tag = resolution->tag;
  session.is_confirmed = resolution->is_proven;
  session.active_event = state_->event;
  session.last_active_nanoseconds = state_->now();
  session.client_active_nanoseconds = state_->now();
  state_->session_by_fd[fd] = resolution->session;
}

// The old socket is closed after that.
void Observation::OnReopened(int fd, int index) {
  ModelSession& session = state_->sessions[index];
  const SocketAddress relay = state_->sys_calls.local(fd);
  state_->Note("session ", index, " has a new socket, from ", relay.ToString());
  state_->Require(state_->had_network_changes &&
                      relay.WithPort(0) != session.relay.WithPort(0) &&
                      state_->context->options.upstream_bind_addresses.empty(),
                  "session ", index, " changes its socket without a reason");
  const bool is_silent = session.unanswered_since_nanoseconds != kNone &&
                         state_->now() - session.unanswered_since_nanoseconds >=
                             UpstreamRecovery::kSourceCheckNanoseconds;
  const bool has_failed = session.failed_episode == state_->episode;
  // It may be back meanwhile, which the gateway has not noticed yet.
  const bool was_lost =
      std::find(state_->lost_addresses.begin(), state_->lost_addresses.end(),
                session.relay.WithPort(0)) != state_->lost_addresses.end();
  state_->Require(
      is_silent || has_failed || was_lost || state_->had_call_faults,
      "session ", index, " leaves a source address that works");
  left_fds_.insert(session.fd);
  state_->session_by_fd.erase(session.fd);
  session.fd = fd;
  session.relay = relay;
  session.refusals.Clear();
  state_->session_by_fd[fd] = index;
  // If there is no other reason, what met the error is sent again.
  const bool has_moved = std::exchange(session.reopened_episode,
                                       state_->episode) == state_->episode;
  if (!has_failed || is_silent || has_moved ||
      session.network_epoch != state_->context->network_epoch) {
    return;
  }
  ClientSends& datagram =
      state_->clients[session.client].datagrams[session.failed_datagram];
  datagram.is_lost = false;
  datagram.errors = 0;
}

// As AddressValidation::NoteClientActive, from the rules in docs/behaviour.md.
void Observation::NoteClientActive(ModelSession* session) {
  session->client_active_nanoseconds = state_->now();
  session->client_refusals = 0;
  if (session->unanswered_since_nanoseconds == kNone) {
    session->unanswered_since_nanoseconds = state_->now();
  }
  if (session->is_confirmed) return;
  if (session->has_unanswered_reply) {
    session->has_unanswered_reply = false;
    if (session->proofs == 0) session->first_proof_nanoseconds = state_->now();
    session->proofs = std::min(session->proofs + 1, Lifecycle::kProofCount);
  }
  if (session->proofs == Lifecycle::kProofCount &&
      state_->now() - session->first_proof_nanoseconds >=
          AddressValidation::kProofNanoseconds) {
    session->is_confirmed = true;
    ++state_->coverage->sessions_confirmed;
  }
}

// Whether the error that a call met is also an entry of the error queue.
bool Observation::HasQueuedRefusal(int fd) const {
  const std::vector<int> errors = state_->sys_calls.queued_errors(fd);
  return state_->injected_error == 0 &&
         std::any_of(errors.begin(), errors.end(), IsUnreachable);
}

// An ICMP message is also an entry of the error queue, and the entry counts.
void Observation::CountRefusal(ModelSession* session,
                               bool is_counted_by_its_entry) {
  Refusals& refusals = session->refusals;
  if (!is_counted_by_its_entry) ++refusals.at_most;
  if (refusals.counted_episode == state_->episode) return;
  refusals.counted_episode = state_->episode;
  ++refusals.at_least;
}

int64_t Observation::ReplyBytesLeft(const ModelSession& session) const {
  const int64_t factor = state_->limits().unconfirmed_reply_factor;
  if (session.is_confirmed || session.proofs == Lifecycle::kProofCount ||
      factor == 0) {
    return INT64_MAX;
  }
  return std::max(
             session.proofs > 0
                 ? static_cast<int64_t>(AddressValidation::kAnsweringReplyBytes)
                 : static_cast<int64_t>(
                       AddressValidation::kUnconfirmedReplyBytes),
             factor * static_cast<int64_t>(session.client_bytes)) -
         session.reply_bytes;
}

void Observation::NoteOutcome() {
  NoteEnd();
  if (undecided_session_ == kNone) return;
  ModelSession& session = state_->sessions[undecided_session_];
  Reply& reply = session.replies[undecided_reply_];
  const int index = std::exchange(undecided_session_, kNone);
  if (limit_drops() > limit_drops_before_) {
    state_->Require(state_->had_call_faults || !could_pause_before_, "session ",
                    index, ": reply ", undecided_reply_,
                    " is dropped and could have waited");
    reply.fate = Reply::kDone;
    return;
  }
  const int64_t age_nanoseconds = state_->now() - session.created_nanoseconds;
  state_->Require(
      age_nanoseconds >= AddressValidation::kOneReplyAgeNanoseconds &&
          ++session.replies_beyond_limit <=
              (age_nanoseconds - AddressValidation::kOneReplyAgeNanoseconds) /
                      state_->SweepNanoseconds() +
                  3,
      "session ", index, ": reply ", undecided_reply_,
      " goes beyond the limit");
  ++state_->coverage->replies_beyond_limit;
  session.reply_bytes += reply.bytes;
  session.has_unanswered_reply = true;
  reply.fate = Reply::kOwed;
  ++state_->replies_owed;
}

// The end that was seen last is counted by now, for one of its reasons.
void Observation::NoteEnd() {
  if (ending_session_ == kNone) return;
  const int index = std::exchange(ending_session_, kNone);
  const ProxyStats stats = state_->Stats();
  bool is_counted = false;
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    if (stats.sessions_ended[i] == ends_before_[i]) continue;
    // Pending ones, too, which have no socket to be seen closed.
    if (state_->is_stopping) return;
    const auto reason = static_cast<EndReason>(i);
    if (reason == EndReason::kResolveFailed ||
        reason == EndReason::kResolveTimedOut ||
        reason == EndReason::kNoUpstreamSocket) {
      continue;
    }
    if (reason == EndReason::kSuperseded && state_->was_standby) {
      is_counted = is_counted || end_reasons_[i];
      continue;  // of pending ones, too
    }
    is_counted = true;
    state_->Require(
        end_reasons_[i] && stats.sessions_ended[i] == ends_before_[i] + 1,
        "session ", index, " ended for a wrong reason: ",
        EndReasonName(static_cast<EndReason>(i)));
  }
  state_->Require(is_counted, "the end of session ", index, " is not counted");
}

void Observation::OnSent(int fd, const SocketAddress& from,
                         const SocketAddress& to, absl::string_view payload) {
  Tag tag;
  state_->Require(payload.size() >= sizeof(tag), "a datagram was cut");
  std::memcpy(&tag, payload.data(), std::min(sizeof(tag), payload.size()));
  state_->Require(payload == PayloadOf(tag), "a datagram was changed");
  if (state_->IsListener(fd)) {
    OnSentToClient(from, to, tag);
  } else {
    OnSentToBackend(fd, from, to, tag);
  }
}

void Observation::OnSentToBackend(int fd, const SocketAddress& from,
                                  const SocketAddress& to, const Tag& tag) {
  const auto found = state_->session_by_fd.find(fd);
  state_->Require(found != state_->session_by_fd.end(),
                  "sent on a socket of no session");
  if (found == state_->session_by_fd.end()) return;
  ModelSession& session = state_->sessions[found->second];
  state_->Note("session ", found->second, " sends ", tag.number, " of client ",
               tag.index);
  state_->Require(tag.kind == Tag::kFromClient &&
                      tag.index == static_cast<uint32_t>(session.client) &&
                      to == session.backend && from == session.relay,
                  "session ", found->second, " sends what is not its client's");
  if (!state_->broken.empty()) return;
  NoteClientActive(&session);
  ModelClient& client = state_->clients[session.client];
  ClientSends& datagram = client.datagrams[tag.number];
  state_->Require(tag.number >= client.next_sent && !datagram.is_sent,
                  "client ", session.client, ": datagram ", tag.number,
                  " is late or sent twice");
  state_->Require(tag.number >= session.first_datagram &&
                      datagram.read_event > 0 && !datagram.is_refused,
                  "datagram ", tag.number, " cannot be there");
  datagram.is_sent = true;
  session.failed_episode = 0;
  session.network_epoch = state_->context->network_epoch;
  client.next_sent = tag.number + 1;
  session.client_bytes += tag.bytes;
  session.last_active_nanoseconds = state_->now();
  ++state_->client_forwarded;
}

void Observation::OnSentToClient(const SocketAddress& from,
                                 const SocketAddress& to, const Tag& tag) {
  state_->Require(
      tag.kind == Tag::kFromBackend && tag.index < state_->sessions.size(),
      "a client gets what no backend sent");
  if (!state_->broken.empty()) return;
  ModelSession& session = state_->sessions[tag.index];
  const ModelClient& client = state_->clients[session.client];
  state_->Note("session ", tag.index, " replies ", tag.number);
  state_->Require(to == client.address && from == client.gateway, "session ",
                  tag.index, ": a reply from ", from.ToString(), " to ",
                  to.ToString());
  Reply& reply = session.replies[tag.number];
  state_->Require(
      reply.fate == Reply::kOwed && tag.number >= session.next_reply,
      "session ", tag.index, ": reply ", tag.number,
      " is late, sent twice or beyond the limit");
  reply.fate = Reply::kDone;
  session.next_reply = tag.number + 1;
  --state_->replies_owed;
  ++state_->backend_forwarded;
}

void Observation::OnSendFailed(int fd, int error, absl::string_view payload) {
  Tag tag;
  std::memcpy(&tag, payload.data(), sizeof(tag));
  ++state_->coverage->sends_failed;
  if (state_->IsListener(fd)) {
    state_->Require(tag.kind == Tag::kFromBackend &&
                        state_->sessions[tag.index].replies[tag.number].fate ==
                            Reply::kOwed,
                    "a reply that is not owed");
    if (!state_->broken.empty()) return;
    state_->Note("session ", tag.index, " cannot reply ", tag.number, ": ",
                 error);
    // The error may be of another client's reply.
    Reply& reply = state_->sessions[tag.index].replies[tag.number];
    if (IsOfEarlierDatagram(error) && error != EMSGSIZE && ++reply.errors < 4) {
      return;
    }
    reply.fate = Reply::kDone;
    --state_->replies_owed;
    return;
  }
  const auto found = state_->session_by_fd.find(fd);
  state_->Require(
      found != state_->session_by_fd.end() && tag.kind == Tag::kFromClient,
      "sent on a socket of no session");
  if (!state_->broken.empty()) return;
  ModelSession& session = state_->sessions[found->second];
  state_->Note("session ", found->second, " cannot send ", tag.number, ": ",
               error);
  NoteClientActive(&session);
  session.failed_episode = state_->episode;
  session.network_epoch = state_->context->network_epoch;
  session.failed_datagram = tag.number;
  // Left by an earlier datagram, perhaps: this one deserves a second try.
  ClientSends& datagram = state_->clients[session.client].datagrams[tag.number];
  ++datagram.errors;
  if (IsUnreachable(error)) {
    CountRefusal(&session, HasQueuedRefusal(fd) || datagram.is_refusal);
    datagram.is_refusal = true;
  }
  if (datagram.errors > 1 || !IsOfEarlierDatagram(error)) {
    datagram.is_lost = true;
  }
}

void Observation::OnReceived(int fd, absl::string_view payload, size_t bytes) {
  Tag tag;
  std::memcpy(&tag, payload.data(), sizeof(tag));
  if (state_->IsListener(fd)) {
    ++state_->client_received;
    if (tag.kind != Tag::kFromClient) return;
    state_->clients[tag.index].datagrams[tag.number].read_event =
        ++state_->event;
    state_->batch.push_back(tag.number);
    state_->batch_clients.push_back(static_cast<int>(tag.index));
    return;
  }
  if (bytes == 1) return;  // thrown away before the session begins
  const auto found = state_->session_by_fd.find(fd);
  state_->Require(
      found != state_->session_by_fd.end() && tag.kind == Tag::kFromBackend,
      "what came before the socket was connected is taken for a reply");
  if (!state_->broken.empty()) return;
  NoteOutcome();
  ++state_->backend_received;
  ModelSession& session = state_->sessions[found->second];
  session.last_active_nanoseconds = state_->now();
  session.refusals.Clear();
  session.refusals.counted_episode = 0;
  session.unanswered_since_nanoseconds = kNone;
  Reply& reply = session.replies[tag.number];
  const int64_t bytes_left = ReplyBytesLeft(session);
  if (reply.bytes > bytes_left) {
    undecided_session_ = found->second;
    undecided_reply_ = tag.number;
    limit_drops_before_ = limit_drops();
    // Now, since a session that ends in the same iteration frees its place.
    could_pause_before_ =
        state_->worker->counters().sessions_paused.value() <
        static_cast<uint64_t>(state_->limits().paused_sessions_max);
    return;
  }
  if (bytes_left != INT64_MAX) session.reply_bytes += reply.bytes;
  reply.fate = Reply::kOwed;
  ++state_->replies_owed;
  session.has_unanswered_reply = true;
}

void Observation::OnReceiveFailed(int fd, int error) {
  const auto found = state_->session_by_fd.find(fd);
  if (found == state_->session_by_fd.end()) return;
  state_->Note("session ", found->second, " cannot receive: ", error);
  if (!IsUnreachable(error)) return;
  CountRefusal(&state_->sessions[found->second], HasQueuedRefusal(fd));
}

void Observation::OnErrorTaken(int fd, int error, const SocketAddress& to) {
  if (state_->IsListener(fd)) {
    const auto client = state_->client_by_address.find(to);
    state_->Require(client != state_->client_by_address.end(),
                    "an error of an unknown client");
    if (client == state_->client_by_address.end()) return;
    const int session = state_->clients[client->second].session;
    if (session != kNone) ++state_->sessions[session].client_refusals;
    return;
  }
  const auto found = state_->session_by_fd.find(fd);
  if (found == state_->session_by_fd.end() || !IsUnreachable(error)) return;
  state_->Note("session ", found->second, " takes error ", error);
  CountRefusal(&state_->sessions[found->second],
               /*is_counted_by_its_entry=*/false);
}

// Whether it is the one to evict, or equal to that: see Evictions.
bool Observation::IsLeastValidated(const ModelSession& session) const {
  std::map<int, int64_t> oldest_by_proofs;
  for (const auto& [fd, index] : state_->session_by_fd) {
    const ModelSession& other = state_->sessions[index];
    if (other.is_confirmed) continue;
    int64_t& oldest =
        oldest_by_proofs.emplace(other.proofs, INT64_MAX).first->second;
    oldest = std::min(oldest, other.client_active_nanoseconds);
  }
  const auto silent_for = [&](const auto& entry, int64_t nanoseconds) {
    return state_->now() - entry.second >= nanoseconds;
  };
  auto least = oldest_by_proofs.begin();
  if (!silent_for(*least, Evictions::kFirstChanceNanoseconds)) {
    const auto long_silent = std::find_if(
        std::next(least), oldest_by_proofs.end(), [&](const auto& entry) {
          return silent_for(entry, Evictions::kLongSilentNanoseconds);
        });
    if (long_silent != oldest_by_proofs.end()) least = long_silent;
  }
  return session.proofs == least->first &&
         session.client_active_nanoseconds == least->second;
}

void Observation::OnClosed(int fd) {
  if (left_fds_.erase(fd) > 0) return;
  const auto found = state_->session_by_fd.find(fd);
  if (found == state_->session_by_fd.end()) return;
  ModelSession& session = state_->sessions[found->second];
  ModelClient& client = state_->clients[session.client];
  state_->Note("session ", found->second, " ends");
  const Counters& counters = state_->worker->counters();
  const uint64_t live =
      counters.sessions_active.value() + counters.sessions_pending.value();
  // The counters say already that this one is gone.
  const bool is_full = live + 1 >= static_cast<uint64_t>(state_->sessions_max);
  // Source ports, or what a system call failed for want of.
  const bool has_no_room =
      state_->had_faults ||
      state_->session_by_fd.size() >= static_cast<size_t>(state_->port_count);
  const int64_t silent_nanoseconds =
      state_->now() - session.client_active_nanoseconds;
  const std::pair<EndReason, bool> reasons[] = {
      {EndReason::kIdle,
       state_->now() - session.last_active_nanoseconds >=
           Nanoseconds(state_->limits().session_idle_timeout)},
      {EndReason::kUnconfirmed,
       !session.is_confirmed &&
           state_->now() - session.client_active_nanoseconds >=
               Nanoseconds(state_->limits().unconfirmed_timeout)},
      {EndReason::kEvicted,
       !session.is_confirmed &&
           ((is_full && IsLeastValidated(session)) || has_no_room)},
      {EndReason::kReplaced,
       state_->limits().max_sessions_per_ip > 0 &&
           silent_nanoseconds >=
               (session.is_confirmed
                    ? Evictions::kSilentNanoseconds
                    : Evictions::kUnconfirmedSilentNanoseconds)},
      {EndReason::kDisconnected, client.open_disconnects > 0},
      {EndReason::kBackendRefused,
       session.refusals.at_most >= state_->limits().backend_refusals_max},
      // Of a reply that waits to be read it could have known.
      {EndReason::kBackendSilent,
       state_->BackendSilentNanoseconds() > 0 &&
           (!state_->has_unread || session.unread_episode == state_->episode ||
            state_->had_call_faults) &&
           session.unanswered_since_nanoseconds != kNone &&
           state_->now() - session.unanswered_since_nanoseconds >=
               state_->BackendSilentNanoseconds()},
      {EndReason::kClientSilent,
       (state_->ClientSilentNanoseconds() > 0 &&
        silent_nanoseconds >= state_->ClientSilentNanoseconds()) ||
           (session.client_refusals >= state_->limits().backend_refusals_max &&
            silent_nanoseconds >= Endings::kClientQuietNanoseconds)},
      {EndReason::kClientMoved, session.may_move},
      {EndReason::kSuperseded, session.is_superseded || state_->supersedes_all},
      {EndReason::kStopped, state_->is_stopping},
  };
  bool is_explained = false;
  ending_session_ = found->second;
  ends_before_ = state_->Stats().sessions_ended;
  end_reasons_.fill(false);
  for (const auto& [reason, holds] : reasons) {
    if (!holds) continue;
    is_explained = true;
    ++state_->ends_explained[static_cast<size_t>(reason)];
    end_reasons_[static_cast<size_t>(reason)] = true;
  }
  state_->Require(is_explained, "session ", found->second, " had to live");
  session.is_live = false;
  client.session = kNone;
  state_->session_by_fd.erase(found);
}

uint64_t Observation::limit_drops() const {
  return state_->worker->counters()
      .datagrams_dropped[static_cast<size_t>(
          DropReason::kUnconfirmedReplyLimit)]
      .value();
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
