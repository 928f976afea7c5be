#include "testing/internal/simulation/rules.h"

#include <algorithm>
#include <cstddef>

namespace udpgate {
namespace internal {
namespace simulation {

void Rules::CheckAlways() {
  observation_->NoteOutcome();
  if (!state_->broken.empty()) return;
  const ProxyStats stats = state_->Stats();
  state_->Require(
      stats.client_datagrams_received + stats.backend_datagrams_received ==
          stats.client_datagrams_forwarded + stats.backend_datagrams_forwarded +
              stats.dropped_total() + stats.datagrams_held,
      "datagrams do not add up");
  state_->Require(
      stats.sessions_created + stats.sessions_restored ==
          stats.sessions_active + stats.sessions_pending + stats.ended_total(),
      "sessions do not add up");
  state_->Require(stats.sessions_restored == state_->sessions_restored,
                  stats.sessions_restored, " sessions are counted restored, ",
                  state_->sessions_restored, " are");
  restoring_->NoteResults();
  state_->context->session_events->Deliver();
  state_->Require(state_->observer->broken.empty(), state_->observer->broken);
  state_->Require(
      state_->observer->opened_live == stats.sessions_active &&
          state_->observer->confirmed_live == stats.sessions_confirmed &&
          state_->observer->ended == stats.sessions_ended,
      "the observer was told something else than is counted");
  state_->Require(
      stats.client_datagrams_received == state_->client_received &&
          stats.client_datagrams_forwarded == state_->client_forwarded &&
          stats.backend_datagrams_received == state_->backend_received &&
          stats.backend_datagrams_forwarded == state_->backend_forwarded,
      "what is counted is not what happened");
  state_->Require(stats.sessions_active == state_->session_by_fd.size(),
                  stats.sessions_active, " sessions are counted active, ",
                  state_->session_by_fd.size(), " are");
  state_->Require(
      // One more hears of the host's addresses.
      state_->sys_calls.socket_count() ==
          state_->session_by_fd.size() + state_->listener_fds.size() + 1,
      state_->sys_calls.socket_count(), " sockets are open for ",
      state_->session_by_fd.size(), " sessions");
  state_->Require(state_->context->relay_ports.in_use() ==
                      static_cast<int64_t>(state_->session_by_fd.size()),
                  "a relay port is lost");
  state_->Require(
      state_->context->admission.session_count() ==
          static_cast<int64_t>(stats.sessions_active + stats.sessions_pending),
      "a place is lost");
  for (const auto& [fd, index] : state_->session_by_fd) {
    state_->Require(state_->sessions[index].refusals.at_least <
                        state_->limits().backend_refusals_max,
                    "session ", index, " lives in spite of its refusals");
  }
  CheckLimits(stats);
}

void Rules::CheckLimits(const ProxyStats& stats) {
  const auto is_limited = [&](DropReason reason, bool limit) {
    state_->Require(limit || stats.dropped(reason) == 0,
                    "dropped for no reason: ", DropReasonName(reason));
  };
  is_limited(DropReason::kDraining, state_->was_draining);
  is_limited(DropReason::kStandby, state_->was_standby);
  is_limited(DropReason::kNewSessionRate,
             state_->limits().new_sessions_per_second > 0);
  is_limited(DropReason::kSessionLimitPerIp,
             state_->limits().max_sessions_per_ip > 0);
  is_limited(DropReason::kUnconfirmedLimitPerIp,
             state_->limits().max_unconfirmed_sessions_per_ip > 0);
  is_limited(DropReason::kNewSessionRatePerIp, false);
  is_limited(DropReason::kUnconfirmedReplyLimit,
             state_->limits().unconfirmed_reply_factor > 0);
  is_limited(DropReason::kTruncated, false);
  is_limited(DropReason::kSendBufferShare, false);
  is_limited(DropReason::kReplyTruncated, false);
  // `pending_bytes_max` is out of reach.
  is_limited(
      DropReason::kPendingLimit,
      stats.dropped(DropReason::kPendingLimit) == pending_limit_drops_ ||
          state_->pending_peak >=
              static_cast<uint64_t>(state_->limits().pending_clients_max));
  pending_limit_drops_ = stats.dropped(DropReason::kPendingLimit);
  state_->pending_peak = stats.sessions_pending;
  is_limited(DropReason::kReplySendFailed, state_->had_faults);
  is_limited(DropReason::kBackendSendFailed, state_->had_faults);
  is_limited(DropReason::kBackendRefused, state_->had_faults);
  is_limited(DropReason::kSessionEnded, state_->is_stopping);
  state_->Require(stats.sessions_active + stats.sessions_pending <=
                      static_cast<uint64_t>(state_->sessions_max),
                  "more sessions than allowed");
  state_->Require(
      stats.sessions_pending <=
          static_cast<uint64_t>(state_->limits().pending_clients_max),
      "more pending clients than allowed");
  state_->Require(
      stats.ended(EndReason::kDisconnected) <= state_->disconnects_posted,
      "a disconnect ended two sessions");
  for (const EndReason reason :
       {EndReason::kIdle, EndReason::kUnconfirmed, EndReason::kEvicted,
        EndReason::kReplaced, EndReason::kDisconnected,
        EndReason::kBackendRefused, EndReason::kBackendSilent,
        EndReason::kClientSilent, EndReason::kClientMoved}) {
    state_->Require(
        stats.ended(reason) <=
            state_->ends_explained[static_cast<size_t>(reason)],
        "sessions ended for a wrong reason: ", EndReasonName(reason));
  }
  if (!state_->is_stopping) {
    state_->Require(stats.ended(EndReason::kStopped) == 0, "stopped too early");
  }
}

void Rules::CheckSettled() {
  uint64_t pending = 0, confirmed = 0, held = 0, waiting = 0;
  for (ModelClient& client : state_->clients) {
    client.open_disconnects = 0;
    if (client.session == kNone) continue;
    ModelSession& session = state_->sessions[client.session];
    const Resolution& resolution = state_->resolutions[session.resolution];
    if (session.fd == kNone) {
      if (resolution.has_result || session.is_superseded ||
          state_->now() >= session.deadline_nanoseconds) {
        session.is_live = false;
        client.session = kNone;
        continue;
      }
      ++pending;
      uint64_t count = 0;
      for (size_t i = session.first_datagram; i < client.datagrams.size();
           ++i) {
        const ClientSends& datagram = client.datagrams[i];
        if (datagram.read_event > 0 && !datagram.is_refused) ++count;
      }
      held += std::min<uint64_t>(count, state_->limits().pending_datagrams_max);
      continue;
    }
    CheckTimes(session);
    state_->Require(!session.must_end, "session ", client.session,
                    " outlives a disconnect");
    if (state_->sys_calls.queued(session.fd) > 0) {
      ++waiting;
      state_->Require(
          state_->had_call_faults ||
              static_cast<int64_t>(state_->sys_calls.next_bytes(session.fd)) >
                  observation_->ReplyBytesLeft(session),
          "replies to client ", session.client, " are left unread");
    }
    if (session.is_confirmed) ++confirmed;
  }
  const ProxyStats stats = state_->Stats();
  state_->Require(
      waiting <= stats.sessions_paused &&
          stats.sessions_paused <=
              static_cast<uint64_t>(state_->limits().paused_sessions_max),
      stats.sessions_paused, " sessions are paused, replies wait for ",
      waiting);
  state_->coverage->sessions_settled_paused += static_cast<int64_t>(waiting);
  state_->Require(stats.sessions_pending == pending, stats.sessions_pending,
                  " sessions are pending, and ", pending, " should be");
  state_->Require(stats.sessions_confirmed == confirmed,
                  stats.sessions_confirmed, " sessions are confirmed, and ",
                  confirmed, " should be");
  state_->Require(stats.datagrams_held == held, stats.datagrams_held,
                  " datagrams are held, and ", held, " should be");
  for (size_t i = 0; i < state_->clients.size(); ++i)
    CheckFates(static_cast<int>(i));
  CheckAlways();
  restoring_->NoteSettled();
}

void Rules::CheckPunctual() {
  uint64_t pending = 0;
  for (const ModelClient& client : state_->clients) {
    if (client.session == kNone) continue;
    const ModelSession& session = state_->sessions[client.session];
    if (session.fd == kNone) {
      if (session.deadline_nanoseconds >= state_->now()) ++pending;
      continue;
    }
    state_->Require(
        session.is_confirmed ||
            session.client_active_nanoseconds +
                    Nanoseconds(state_->limits().unconfirmed_timeout) >=
                state_->now(),
        "the worker sleeps past the end of session ", client.session);
  }
  state_->Require(state_->Stats().sessions_pending <= pending,
                  "the worker sleeps past the end of a pending session");
}

void Rules::CheckTimes(const ModelSession& session) {
  const int64_t idle_nanoseconds =
      state_->now() - session.last_active_nanoseconds;
  state_->Require(
      idle_nanoseconds <
          Nanoseconds(state_->limits().session_idle_timeout) * 5 / 4,
      "the session of client ", session.client, " is idle for ",
      idle_nanoseconds / 1000, " us");
  state_->Require(session.is_confirmed ||
                      state_->now() - session.client_active_nanoseconds <
                          Nanoseconds(state_->limits().unconfirmed_timeout),
                  "an unconfirmed client is silent for too long");
  state_->Require(state_->BackendSilentNanoseconds() == 0 ||
                      session.unanswered_since_nanoseconds == kNone ||
                      state_->sys_calls.queued(session.fd) > 0 ||
                      state_->now() - session.unanswered_since_nanoseconds <
                          state_->BackendSilentNanoseconds() * 5 / 4,
                  "the backend of client ", session.client,
                  " is silent for too long");
  state_->Require(state_->ClientSilentNanoseconds() == 0 ||
                      state_->now() - session.client_active_nanoseconds <
                          state_->ClientSilentNanoseconds() * 5 / 4,
                  "client ", session.client, " is silent for too long");
}

// A datagram that met a live session was sent on, unless it was one too many
// for a pending session, or its own send failed.
void Rules::CheckFates(int index) {
  ModelClient& client = state_->clients[index];
  const ModelSession* const session =
      client.session == kNone ? nullptr : &state_->sessions[client.session];
  if (session != nullptr && session->fd == kNone) return;  // not known yet
  uint64_t held = 0;
  const size_t begin = session == nullptr ? client.next_checked
                                          : std::min(client.next_checked,
                                                     session->first_datagram);
  for (size_t i = begin; i < client.datagrams.size(); ++i) {
    const ClientSends& datagram = client.datagrams[i];
    if (session == nullptr || i < session->first_datagram) continue;
    if (datagram.read_event == 0 || datagram.is_refused) continue;
    const bool was_pending = datagram.read_event <= session->active_event;
    const bool had_room =
        held < static_cast<uint64_t>(state_->limits().pending_datagrams_max);
    if (was_pending && session->is_restored) continue;  // or before it
    if (was_pending) ++held;
    if (datagram.is_sent || datagram.is_lost) continue;
    state_->Require(was_pending && !had_room, "client ", index, ": datagram ",
                    i, " is lost");
  }
  client.next_checked = static_cast<uint32_t>(client.datagrams.size());
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
