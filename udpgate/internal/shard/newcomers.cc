#include "udpgate/internal/shard/newcomers.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {
namespace {

// Pending sessions that one iteration ends.
constexpr int kPendingPerIteration = 32;

// As for the inbox: room for a game's small datagrams, and for one of any size.
constexpr size_t kHeldBytesPerDatagram = 2048;

// Sessions that are evicted for one new client at most, since what they release
// is not always what is missing.
constexpr int kEvictionsPerOpenMax = 3;

// Why a new client was refused, for the log.
std::string AdmissionText(DropReason reason, const ProxyLimits& limits,
                          int64_t sessions_max) {
  switch (reason) {
    case DropReason::kDenied:
      return "its address is not allowed";
    case DropReason::kSessionLimit:
      return absl::StrCat(sessions_max, " sessions are live");
    case DropReason::kSessionLimitPerIp:
      return absl::StrCat("its address has ", limits.max_sessions_per_ip,
                          " sessions");
    case DropReason::kUnconfirmedLimitPerIp:
      return absl::StrCat(
          "its address has ", limits.max_unconfirmed_sessions_per_ip,
          " sessions of which none is confirmed: a loop? The backend, or NAT "
          "on the way, may lead back to this gateway");
    case DropReason::kNewSessionRate:
      return absl::StrCat("more than ", limits.new_sessions_per_second,
                          " new clients a second");
    case DropReason::kNewSessionRatePerIp:
      return absl::StrCat("more than ", limits.new_sessions_per_second_per_ip,
                          " new clients a second from its address");
    default:
      return absl::StrCat(limits.pending_clients_max,
                          " clients wait for their backend");
  }
}

// How a resolver's error is counted, see BackendResolver::Resolve.
DropReason DropReasonOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return DropReason::kNoBackend;
    case absl::StatusCode::kInvalidArgument:
      return DropReason::kInvalidBackend;
    case absl::StatusCode::kDeadlineExceeded:
      return DropReason::kResolveTimedOut;
    default:
      return DropReason::kResolveFailed;
  }
}

// Gives the result the label of the alternative that is used.
void UseLabelOf(const SocketAddress& alternative, ResolveResult* result) {
  const auto found = std::find(result->alternatives.begin(),
                               result->alternatives.end(), alternative);
  const auto index = static_cast<size_t>(found - result->alternatives.begin());
  if (index < result->alternative_labels.size()) {
    result->label = std::move(result->alternative_labels[index]);
  }
}

}  // namespace

void Newcomers::Begin(const ClientDatagram& datagram) {
  if (const absl::optional<DropReason> drop = Screen(datagram)) {
    // No log line: after each disconnect the player's checks go on for a while.
    shard_->counters->Drop(*drop);
    return;
  }
  const auto admit = [&] {
    return shard_->gate->admission.Begin(
        datagram.client, datagram.payload.size(), shard_->now_nanoseconds,
        [this] { return evictions_->EvictOne(); });
  };
  absl::optional<DropReason> refusal = admit();
  if (refusal == DropReason::kSessionLimitPerIp &&
      evictions_->ReplaceSilent(datagram.client)) {
    refusal = admit();
  }
  if (refusal.has_value()) {
    if (*refusal == DropReason::kSessionLimit) evictions_->AskOtherShards();
    shard_->counters->Drop(*refusal);
    const auto why = [&] {
      return AdmissionText(*refusal, shard_->limits,
                           shard_->gate->admission.sessions_max());
    };
    shard_->gate->control.ReportRefused(*refusal, datagram.client, why);
    return;
  }
  Session* session = lifecycle_->Create(datagram.client, datagram.hash);
  session->held = std::make_unique<HeldDatagrams>();
  Keep(datagram, session);
  StartResolution(datagram.payload, session);
}

// Why the datagram of a client without a session must not create one.
absl::optional<DropReason> Newcomers::Screen(
    const ClientDatagram& datagram) const {
  if (shard_->gate->is_standby.load(std::memory_order_relaxed)) {
    return DropReason::kStandby;
  }
  const Screening screening =
      shard_->gate->resolver->Screen(datagram.client, datagram.payload);
  if (screening.drop.has_value()) return screening.drop;
  if (shard_->gate->is_draining.load(std::memory_order_relaxed) &&
      !screening.is_known_player) {
    return DropReason::kDraining;
  }
  return absl::nullopt;
}

void Newcomers::Hold(const ClientDatagram& datagram, Session* session) {
  const HeldDatagrams& held = *session->held;
  const size_t bytes_max =
      std::max(shard_->limits.pending_datagrams_max * kHeldBytesPerDatagram,
               kDatagramBufferBytes);
  if (held.size_bytes.size() >=
          static_cast<size_t>(shard_->limits.pending_datagrams_max) ||
      held.bytes.size() + datagram.payload.size() > bytes_max) {
    shard_->counters->Drop(DropReason::kPendingFull);
    return;
  }
  if (!shard_->gate->admission.TakeHeldBytes(datagram.payload.size())) {
    shard_->counters->Drop(DropReason::kPendingLimit);
    return;
  }
  Keep(datagram, session);
}

// There is room for it.
void Newcomers::Keep(const ClientDatagram& datagram, Session* session) {
  session->listener = datagram.listener;
  session->local = datagram.local;
  HeldDatagrams& held = *session->held;
  held.bytes.append(datagram.payload.data(), datagram.payload.size());
  held.size_bytes.push_back(static_cast<uint32_t>(datagram.payload.size()));
  held.traffic_classes.push_back(datagram.traffic_class);
  shard_->counters->datagrams_held.Add();
}

// A session has one resolution at a time, and one deadline for all of them.
void Newcomers::StartResolution(absl::Span<const char> first_datagram,
                                Session* session) {
  session->must_resolve_again = false;
  ++session->resolution;
  session->resolve_begin_nanoseconds = shard_->now_nanoseconds;
  shard_->counters->resolves_started.Add();
  ResolveRequest request;
  request.client = session->client;
  request.first_datagram = first_datagram;
  request.listen_port =
      shard_->gate->listeners[session->listener].address.port();
  request.timeout = absl::Nanoseconds(session->resolve_deadline_nanoseconds -
                                      shard_->now_nanoseconds);
  shard_->gate->resolver->Resolve(
      request,
      [inbox = shard_->inbox, ref = session->ref(),
       resolution = session->resolution](absl::StatusOr<ResolveResult> result) {
        ShardMessage message;
        message.kind = ShardMessage::Kind::kResolved;
        message.session = ref;
        message.resolution = resolution;
        message.result = std::move(result);
        inbox->Post(std::move(message));
      });
}

// Null if the message is too late, or of a second result.
Session* Newcomers::FindWaiting(const ShardMessage& message) {
  Session* session = shard_->sessions.Find(message.session);
  const bool is_waiting = session != nullptr &&
                          session->state == SessionState::kPending &&
                          session->resolution == message.resolution;
  return is_waiting ? session : nullptr;
}

bool Newcomers::MustResolveAgain(const Session& session) const {
  return session.must_resolve_again ||
         shard_->inbox->HasDisconnectSince(session.resolve_begin_nanoseconds,
                                           session.client);
}

void Newcomers::HandleResult(ShardMessage* message) {
  Session* session = FindWaiting(*message);
  if (session == nullptr) return;
  shard_->counters->Resolve(shard_->now_nanoseconds -
                            session->resolve_begin_nanoseconds);
  if (MustResolveAgain(*session)) {
    StartResolution(session->held->first(), session);
    return;
  }
  if (message->result.ok()) {
    if (Forward(*message->result, &session)) return;
    if (!moves_->EndOldSession(&*message->result, session)) return;
    OpenUpstream(*std::move(message->result), &session);
    return;
  }
  // Counted alike, whether the resolver or the shard notices the timeout.
  const DropReason reason = DropReasonOf(message->result.status());
  const bool is_timeout = reason == DropReason::kResolveTimedOut;
  (is_timeout ? shard_->counters->resolves_timed_out
              : shard_->counters->resolves_failed)
      .Add();
  const auto why = [&] {
    return std::string(message->result.status().message());
  };
  Refuse(is_timeout ? EndReason::kResolveTimedOut : EndReason::kResolveFailed,
         reason, why, &session);
}

// Whether the session has ended here, since another gateway has it. Without
// room the client gets the same backend from here, if the result names it.
bool Newcomers::Forward(const ResolveResult& result, Session** session) {
  if (!result.forward_to.is_valid()) return false;
  if (forwarding_->Begin(result.forward_to, session)) return true;
  if (result.backend.is_valid()) return false;
  const auto why = [&] {
    return absl::StrCat("its session is at the gateway ",
                        result.forward_to.ToString(),
                        ", and cannot be forwarded there");
  };
  Refuse(EndReason::kResolveFailed, DropReason::kHopLimit, why, session);
  return true;
}

void Newcomers::HandleMoved(ShardMessage* message) {
  Session* session = FindWaiting(*message);
  if (session == nullptr) return;
  if (MustResolveAgain(*session)) {
    StartResolution(session->held->first(), session);
    return;
  }
  OpenUpstream(*std::move(message->result), &session);
}

void Newcomers::OpenUpstream(ResolveResult result, Session** session) {
  const SocketAddress backend =
      shard_->gate->backend_holdoff.Choose(result, shard_->now_nanoseconds);
  SocketAddress source;
  UpstreamOpener::Result opened;
  const char* const objection = FindSource(backend, &source, &opened);
  if (objection != nullptr) {
    shard_->counters->resolves_failed.Add();
    const auto why = [&] {
      return absl::StrCat("the backend ", backend.ToString(), objection);
    };
    Refuse(EndReason::kResolveFailed, DropReason::kInvalidBackend, why,
           session);
    return;
  }
  if (opened.error == 0) {
    opened = OpenSocket(**session, result.relay, source, backend);
  }
  if (opened.error != 0) {
    if (opened.LacksRoom()) evictions_->AskOtherShards();
    const auto why = [&] {
      return absl::StrCat(opened.failed_call, " towards backend ",
                          backend.ToString(), ": ", ErrnoToText(opened.error));
    };
    Refuse(EndReason::kNoUpstreamSocket, DropReason::kNoUpstreamSocket, why,
           session);
    return;
  }
  shard_->gate->control.ReportUpstreamOpened();
  if (backend != result.backend) {
    shard_->counters->backend_alternatives_used.Add();
    UseLabelOf(backend, &result);
  }
  Connect(opened, backend, &result, *session);
  SendHeld(session);
}

const char* Newcomers::FindSource(const SocketAddress& backend,
                                  SocketAddress* source,
                                  UpstreamOpener::Result* failure) {
  if (!backend.is_unicast() || backend.port() == 0) {
    return " is not an address that datagrams can be sent to";
  }
  UpstreamOpener& opener = upstreams_->opener();
  *source = opener.FindSource(backend, shard_->now_nanoseconds, failure);
  if (failure->LacksRoom() && evictions_->EvictOne()) {
    *failure = UpstreamOpener::Result();
    *source = opener.FindSource(backend, shard_->now_nanoseconds, failure);
  }
  return IsOwnAddress(shard_->gate->listeners, backend, *source)
             ? " is this gateway itself"
             : nullptr;
}

// The session has its socket: it is not pending any more.
void Newcomers::Connect(const UpstreamOpener::Result& opened,
                        const SocketAddress& backend, ResolveResult* result,
                        Session* session) {
  // The client was not idle while its backend was resolved.
  session->last_active_nanoseconds = shard_->now_nanoseconds;
  session->client_active_nanoseconds = shard_->now_nanoseconds;
  session->network_epoch = upstreams_->network_epoch();
  session->upstream_fd = opened.fd;
  session->relay = opened.relay;
  session->backend = backend;
  if (result->age > absl::ZeroDuration()) {
    const int64_t age_nanoseconds = absl::ToInt64Nanoseconds(result->age);
    session->created_nanoseconds -= age_nanoseconds;
    session->resolve_begin_nanoseconds -= age_nanoseconds;
  }
  // Also if another gateway had it before.
  forwarding_->Forget(session->client);
  session->label = std::move(result->label);
  session->tag = std::move(result->tag);
  if (session->tag != nullptr) {
    session->tag->OnBegin(session->client, session->relay);
  }
  lifecycle_->MoveTo(SessionState::kUnconfirmed, session);
  if (result->is_client_proven) {
    lifecycle_->MoveTo(SessionState::kConfirmed, session);
  }
}

// A port that another program was found to have is tried only after the
// evictions: that is expensive, and mostly in vain.
UpstreamOpener::Result Newcomers::OpenSocket(const Session& session,
                                             const SocketAddress& preferred,
                                             const SocketAddress& source,
                                             const SocketAddress& backend) {
  if (preferred.is_valid()) {
    UpstreamOpener::Result opened =
        upstreams_->OpenExactly(session, preferred, source, backend);
    if (opened.error == 0) return opened;
  }
  bool takes_busy = false;
  int attempt_count = 0;
  for (int evicted_count = 0;;) {
    UpstreamOpener::Result opened =
        upstreams_->Open(session, source, backend, takes_busy, attempt_count);
    attempt_count = opened.attempt_count;
    if (!opened.LacksRoom() || attempt_count == UpstreamOpener::kAttemptsMax) {
      return opened;
    }
    if (evicted_count++ < kEvictionsPerOpenMax &&
        evictions_->EvictForUpstream(opened, source)) {
      continue;
    }
    if (takes_busy || !opened.is_without_port) return opened;
    takes_busy = true;
    evicted_count = kEvictionsPerOpenMax;
  }
}

void Newcomers::SendHeld(Session** session) {
  const std::unique_ptr<HeldDatagrams> held = std::move((*session)->held);
  shard_->counters->datagrams_held.Subtract(held->size_bytes.size());
  shard_->gate->admission.GiveBackHeldBytes(held->bytes.size());
  relay_->SendHeld(*held, session);
}

// Ends a pending session that gets no backend, and logs why.
void Newcomers::Refuse(EndReason end, DropReason drop,
                       absl::FunctionRef<std::string()> why,
                       Session** session) {
  shard_->gate->control.ReportRefused(drop, (*session)->client, why);
  lifecycle_->End(end, drop, session);
}

int64_t Newcomers::NextDeadline() const {
  const Session* session = lifecycle_->pending().first();
  return session == nullptr ? INT64_MAX : session->resolve_deadline_nanoseconds;
}

void Newcomers::ExpirePending() {
  const absl::Duration timeout = shard_->limits.resolve_timeout;
  for (int i = 0; i < kPendingPerIteration; ++i) {
    Session* session = lifecycle_->pending().first();
    if (session == nullptr ||
        session->resolve_deadline_nanoseconds > shard_->now_nanoseconds) {
      return;
    }
    shard_->counters->resolves_timed_out.Add();
    const auto why = [timeout] {
      return absl::StrCat("no backend within ", absl::FormatDuration(timeout));
    };
    Refuse(EndReason::kResolveTimedOut, DropReason::kResolveTimedOut, why,
           &session);
  }
}

}  // namespace internal
}  // namespace udpgate
