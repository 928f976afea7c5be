#include "udpgate/internal/shard/upstream_recovery.h"

#include <errno.h>
#include <netinet/in.h>

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/error_queue.h"

namespace udpgate {
namespace internal {

// Gives the session a new socket to its backend if the system would now choose
// another source address. Everything else stays. False if it would not, or if
// the socket cannot be opened: the old one stays then.
bool UpstreamRecovery::MoveToNewSource(ReopenReason reason, Session* session) {
  // An address that the operator has named stays, whatever the routes say.
  if (shard_->gate->relay_ports.HasBindAddress(session->backend.family())) {
    return false;
  }
  UpstreamOpener::Result failure;
  const SocketAddress source = upstreams_->opener().FindSource(
      session->backend, shard_->now_nanoseconds, &failure);
  if (failure.error != 0 || source == session->relay.WithPort(0)) return false;
  // No session is evicted for it, least of all this one.
  const UpstreamOpener::Result opened =
      upstreams_->Open(*session, source, session->backend);
  if (opened.error != 0) return false;
  // The flows name the old source.
  shard_->offload.End(session);
  upstreams_->Close(session);
  session->upstream_fd = opened.fd;
  session->relay = opened.relay;
  if (session->tag != nullptr) {
    session->tag->OnBegin(session->client, session->relay);
  }
  session->has_answered = false;
  session->refusals = 0;
  shard_->counters->Reopen(reason);
  return true;
}

// The source address is checked once after each change of the host's addresses,
// the route every two seconds while the backend is silent.
void UpstreamRecovery::CheckSource(Session* session) {
  const uint32_t epoch =
      shard_->gate->network_epoch.load(std::memory_order_relaxed);
  if (session->network_epoch != epoch) {
    upstreams_->SetNetworkEpoch(epoch);
    session->network_epoch = epoch;
    if (upstreams_->opener().IsSourceGone(session->relay.WithPort(0))) {
      MoveToNewSource(ReopenReason::kNetworkChange, session);
    }
  }
  if (session->unanswered_since_nanoseconds == 0) {
    session->unanswered_since_nanoseconds = shard_->now_nanoseconds;
    session->next_source_check_nanoseconds =
        shard_->now_nanoseconds + kSourceCheckNanoseconds;
  } else if (shard_->now_nanoseconds >=
             session->next_source_check_nanoseconds) {
    session->next_source_check_nanoseconds =
        shard_->now_nanoseconds + kSourceCheckNanoseconds;
    MoveToNewSource(ReopenReason::kSilence, session);
  }
}

UpstreamRecovery::Outcome UpstreamRecovery::HandleSendError(int error,
                                                            bool is_counted,
                                                            Session** session) {
  TakeRefusals(**session);
  // The source address or its route is gone (ip_route_output_key_hash_rcu in
  // net/ipv4/route.c of Linux). An ICMP message can leave ENETUNREACH, too; a
  // forged one moves no session whose source address is still right.
  if (error == EINVAL || error == EADDRNOTAVAIL || error == ENETUNREACH) {
    upstreams_->opener().ForgetSources();
    if (MoveToNewSource(ReopenReason::kSendFailed, *session)) {
      return Outcome::kNewSocket;
    }
  }
  if (!is_counted) NoteRefusal(error, session);
  return *session == nullptr ? Outcome::kSessionEnded : Outcome::kSameSocket;
}

void UpstreamRecovery::HandleReceiveError(int error, Session** session) {
  const int queued = TakeRefusals(**session);
  if (IsUnreachable(error) || IsUnreachable(queued)) {
    NoteRefusal(IsUnreachable(error) ? error : queued, session);
  } else if (error == EMSGSIZE) {
    // A router has refused what was sent, perhaps what the offload relayed.
    NotePacketSize(**session);
  }
}

// Empties the error queue: the kernel would report it for ever. Returns one of
// the errors that came by ICMP, 0 if there is none.
int UpstreamRecovery::TakeRefusals(const Session& session) {
  int last_error = 0;
  TakeErrors(shard_->sys_calls, session.upstream_fd,
             [&](int error, const SocketAddress&) {
               if (IsUnreachable(error)) last_error = error;
             });
  return last_error;
}

// Several errors that are met together count once: a burst to a backend that
// has just stopped brings one for each datagram.
void UpstreamRecovery::NoteRefusal(int error, Session** session) {
  // A reply that the offload relayed resets the count, too.
  shard_->offload.Update(*session);
  shard_->counters->backend_refusals.Add();
  if (++(*session)->refusals < shard_->limits.backend_refusals_max) return;
  shard_->gate->control.ReportEnded(
      EndReason::kBackendRefused, (*session)->client, [&] {
        return absl::StrCat("backend ", (*session)->backend.ToString(),
                            " could not be reached ", (*session)->refusals,
                            " times in a row: ", ErrnoToText(error));
      });
  lifecycle_->End(EndReason::kBackendRefused, DropReason::kBackendRefused,
                  session);
}

// Only if the socket believes it, too; see SetTrafficOptions.
void UpstreamRecovery::NotePacketSize(const Session& session) {
  if (!shard_->offload.is_on() || session.backend.is_ipv4() ||
      shard_->traffic.dont_fragment) {
    return;
  }
  int bytes = 0;
  socklen_t size = sizeof(bytes);
  const SysCallResult result = shard_->sys_calls->GetSockOpt(
      session.upstream_fd, IPPROTO_IPV6, IPV6_MTU, &bytes, &size);
  if (!result.ok() || bytes <= 0) return;
  shard_->offload.NotePacketBytesMax(session, static_cast<uint32_t>(bytes));
}

}  // namespace internal
}  // namespace udpgate
