// What befalls the sockets of a shard's sessions towards their backends: errors
// of the network, and a fresh socket where the way there has changed.
#include <errno.h>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/error_queue.h"
#include "udpgate/internal/worker.h"

namespace udpgate {
namespace internal {
namespace {

// An unanswered client's session looks at the route so often.
constexpr int64_t kSourceCheckNanoseconds = 2'000'000'000;

// ICMP errors of a client's host count where the client has been silent for so
// long, and one in so much time: whoever forges them ends no live session.
constexpr int64_t kClientQuietNanoseconds = 5'000'000'000;
constexpr int64_t kClientRefusalNanoseconds = 1'000'000'000;

}  // namespace

// Gives the session a fresh socket towards its backend where the system would
// now choose another source address. Everything else stays. False where it
// would not, or the socket cannot be opened: the old one goes on then.
bool Worker::MoveToNewSource(ReopenReason reason, Session* session) {
  // An address that the operator has named stays, whatever the routes say.
  if (shard_.gate->relay_ports.HasBindAddress(session->backend.family())) {
    return false;
  }
  UpstreamOpener::Result failure;
  const SocketAddress source = upstreams_.opener().FindSource(
      session->backend, shard_.now_nanoseconds, &failure);
  if (failure.error != 0 || source == session->relay.WithPort(0)) return false;
  // Nobody gives way for it, least of all this session.
  const UpstreamOpener::Result opened =
      upstreams_.Open(*session, source, session->backend);
  if (opened.error != 0) return false;
  // The flows name the old source.
  shard_.offload.End(session);
  upstreams_.Close(session);
  session->upstream_fd = opened.fd;
  session->relay = opened.relay;
  session->has_answered = false;
  session->refusals = 0;
  shard_.counters->Reopen(reason);
  return true;
}

// Before a send: whether the session's source address is still there, once
// after each change of the host's addresses; and while the backend stays
// silent, whether the route now leaves from another one.
void Worker::CheckSource(Session* session) {
  const uint32_t epoch =
      shard_.gate->network_epoch.load(std::memory_order_relaxed);
  if (session->network_epoch != epoch) {
    upstreams_.SetNetworkEpoch(epoch);
    session->network_epoch = epoch;
    if (upstreams_.opener().IsSourceGone(session->relay.WithPort(0))) {
      MoveToNewSource(ReopenReason::kNetworkChange, session);
    }
  }
  if (session->unanswered_since_nanoseconds == 0) {
    session->unanswered_since_nanoseconds = shard_.now_nanoseconds;
    session->next_source_check_nanoseconds =
        shard_.now_nanoseconds + kSourceCheckNanoseconds;
  } else if (shard_.now_nanoseconds >= session->next_source_check_nanoseconds) {
    session->next_source_check_nanoseconds =
        shard_.now_nanoseconds + kSourceCheckNanoseconds;
    MoveToNewSource(ReopenReason::kSilence, session);
  }
}

// A send has met an error that says that the backend cannot be reached. Returns
// whether the session has a fresh socket now. May end the session.
// `is_counted`: an error of the same run has counted already.
bool Worker::HandleSendError(int error, bool is_counted, Session* session) {
  TakeRefusals(*session);
  // The source address or its route is gone (ip_route_output_key_hash_rcu in
  // net/ipv4/route.c of Linux). An ICMP message can leave ENETUNREACH, too; who
  // forges one moves nobody whose source address is still the right one.
  if (error == EINVAL || error == EADDRNOTAVAIL || error == ENETUNREACH) {
    upstreams_.opener().ForgetSources();
    if (MoveToNewSource(ReopenReason::kSendFailed, session)) return true;
  }
  if (!is_counted) NoteRefusal(error, session);
  return false;
}

// A read has met an error, or `error` is 0 and there may be some in the queue.
// May end the session.
void Worker::HandleReceiveError(int error, Session* session) {
  const int queued = TakeRefusals(*session);
  if (IsUnreachable(error) || IsUnreachable(queued)) {
    NoteRefusal(IsUnreachable(error) ? error : queued, session);
  } else if (error == EMSGSIZE) {
    // A router has refused what was sent, perhaps what the offload relayed.
    NotePacketSize(*session);
  }
}

// Empties the error queue: the kernel would report it for ever. Returns one of
// the errors that came by ICMP, 0 where there is none.
int Worker::TakeRefusals(const Session& session) {
  int last_error = 0;
  TakeErrors(shard_.sys_calls, session.upstream_fd,
             [&](int error, const SocketAddress&) {
               if (IsUnreachable(error)) last_error = error;
             });
  return last_error;
}

// Several errors that are met together count once: a burst to a backend that
// has just stopped brings one for each datagram.
void Worker::NoteRefusal(int error, Session* session) {
  // A reply that the offload relayed is one, too.
  shard_.offload.Update(session);
  shard_.counters->backend_refusals.Add();
  if (++session->refusals < shard_.limits.backend_refusals_max) return;
  shard_.gate->control.ReportEnded(
      EndReason::kBackendRefused, session->client, [&] {
        return absl::StrCat("backend ", session->backend.ToString(),
                            " could not be reached ", session->refusals,
                            " times in a row: ", ErrnoToText(error));
      });
  lifecycle_.End(EndReason::kBackendRefused, DropReason::kBackendRefused,
                 &session);
}

// Anyone can forge such a message, so it counts only where the client is
// silent, and not more often than once a second.
void Worker::HandleClientRefused(const SocketAddress& client) {
  Session* session = shard_.sessions.Find(client, shard_.gate->hash(client));
  if (session == nullptr || session->state == SessionState::kPending) return;
  shard_.offload.Update(session);
  if (session->client_active_nanoseconds >=
      session->client_refused_nanoseconds) {
    session->client_refusals = 0;
  }
  if (shard_.now_nanoseconds - session->client_active_nanoseconds <
          kClientQuietNanoseconds ||
      shard_.now_nanoseconds - session->client_refused_nanoseconds <
          kClientRefusalNanoseconds) {
    return;
  }
  session->client_refused_nanoseconds = shard_.now_nanoseconds;
  if (++session->client_refusals < shard_.limits.backend_refusals_max) return;
  EndAtLeisure(session, EndReason::kClientSilent);
}

}  // namespace internal
}  // namespace udpgate
