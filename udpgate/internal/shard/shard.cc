#include "udpgate/internal/shard/shard.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/net/socket_options.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {
namespace {

// At a takeover.
constexpr int kAllMessages = 1 << 30;

// Batches from the inbox in one iteration; the rest waits for the next one.
constexpr int kQueuedBatchesPerIteration = 4;

// A worker that wakes so much too late has stood still (SIGSTOP, a frozen
// virtual machine); for so long at most it then reads what waits first.
constexpr int64_t kStallNanoseconds = 1'000'000'000;
constexpr int64_t kCatchUpNanosecondsMax = 2'000'000'000;
constexpr int64_t kCatchUpPollNanoseconds = 1'000'000;

}  // namespace

Shard::Shard(GateContext* gate, uint32_t number, int epoll_fd,
             std::shared_ptr<Inbox> inbox, Counters* counters)
    : context_(gate, number, epoll_fd, std::move(inbox), counters),
      hop_sender_(&context_),
      replies_(&context_, &hop_sender_),
      upstreams_(&context_),
      lifecycle_(&context_, &upstreams_, &replies_),
      validation_(&context_, &upstreams_, &lifecycle_),
      recovery_(&context_, &upstreams_, &lifecycle_),
      relay_(&context_, &upstreams_, &replies_, &validation_, &recovery_),
      endings_(&context_, &lifecycle_, &validation_),
      evictions_(&context_, &upstreams_, &lifecycle_),
      moves_(&context_, &lifecycle_),
      forwarding_(&context_, &lifecycle_, &hop_sender_),
      newcomers_(&context_, &upstreams_, &lifecycle_, &relay_, &evictions_,
                 &moves_, &forwarding_),
      snapshot_(&context_),
      handover_(&context_, &upstreams_, &lifecycle_, &newcomers_),
      restorer_(&context_, &upstreams_, &lifecycle_, &evictions_, &newcomers_,
                &endings_) {
  queued_.reserve(gate->options.batch_size);
}

int64_t Shard::RunIteration(absl::Span<const epoll_event> events) {
  context_.now_nanoseconds = context_.gate->clock->NowNanoseconds();
  message_budget_ = kMessagesPerIteration;
  ++context_.iteration;
  TakeLimits();
  NoteStall();
  if (!endings_.is_pacing()) DrainDisconnects(Endings::kEndsPerIteration);
  DrainMessages();
  DrainDatagrams();
  HandleReadySockets(events);
  const bool has_caught_up = HasCaughtUp(/*has_events=*/!events.empty());
  if (has_caught_up) Expire();
  endings_.UpdatePacing();
  const int64_t now_nanoseconds = context_.now_nanoseconds;
  const int64_t deadline_nanoseconds =
      has_caught_up ? NextDeadline()
                    : now_nanoseconds + kCatchUpPollNanoseconds;
  const int64_t wait_nanoseconds =
      context_.inbox->PrepareSleep(
          deadline_nanoseconds, /*disconnects_can_wait=*/endings_.is_pacing())
          ? std::max<int64_t>(deadline_nanoseconds - now_nanoseconds, 0)
          : 0;
  planned_wake_nanoseconds_ = wait_nanoseconds < INT64_MAX - now_nanoseconds
                                  ? now_nanoseconds + wait_nanoseconds
                                  : INT64_MAX;
  return wait_nanoseconds;
}

bool Shard::Deliver(absl::Span<const ClientDatagram> datagrams,
                    int64_t now_nanoseconds) {
  context_.now_nanoseconds =
      std::max(context_.now_nanoseconds, now_nanoseconds);
  message_budget_ = kMessagesPerIteration;
  DrainDatagrams();
  // What waits goes first, else a client's datagrams would overtake.
  const bool is_first = context_.inbox->datagrams_waiting() == 0;
  if (is_first) RelayToBackends(datagrams);
  context_.inbox->NoteDeadline(NextDeadline());
  return is_first;
}

void Shard::EndAllSessions() {
  while (context_.inbox->datagrams_waiting() > 0) {
    context_.inbox->Peek(context_.gate->options.batch_size, &queued_);
    for (const ClientDatagram& datagram : queued_) {
      // What a gateway says is no datagram of a client.
      if (datagram.is_answer()) continue;
      context_.counters->Drop(DropReason::kSessionEnded);
    }
    context_.inbox->Pop(static_cast<int>(queued_.size()));
  }
  endings_.EndAll();
  forwarding_.Clear();
}

// What has changed since the last iteration, see Proxy::SetLimits.
void Shard::TakeLimits() {
  const uint32_t version =
      context_.gate->limits_version.load(std::memory_order_acquire);
  if (version == limits_version_) return;
  limits_version_ = version;
  {
    MutexLock lock(&context_.gate->limits_mutex);
    context_.limits = context_.gate->limits;
  }
  lifecycle_.ApplyLimits();
  endings_.ApplyLimits();
}

void Shard::NoteStall() {
  if (context_.now_nanoseconds - kStallNanoseconds >
      planned_wake_nanoseconds_) {
    catch_up_end_nanoseconds_ =
        context_.now_nanoseconds + kCatchUpNanosecondsMax;
  }
}

void Shard::DrainDisconnects(int count_max) {
  context_.inbox->TakeDisconnects(count_max, &messages_);
  for (ShardMessage& message : messages_) endings_.HandleDisconnect(&message);
  messages_.clear();
}

void Shard::DrainMessages() {
  context_.inbox->TakeMessages(message_budget_, &messages_);
  message_budget_ -= static_cast<int>(messages_.size());
  for (ShardMessage& message : messages_) {
    switch (message.kind) {
      case ShardMessage::Kind::kResolved:
        newcomers_.HandleResult(&message);
        break;
      case ShardMessage::Kind::kListSessions:
        snapshot_.ListSessions(&message);
        break;
      case ShardMessage::Kind::kCopySockets:
        snapshot_.CopySockets(&message);
        break;
      case ShardMessage::Kind::kEvict:
      case ShardMessage::Kind::kFindSilent:
      case ShardMessage::Kind::kEndSilent:
        evictions_.HandleMessage(&message);
        break;
      case ShardMessage::Kind::kEndMoved:
        moves_.HandleMessage(&message);
        break;
      case ShardMessage::Kind::kMoved:
        newcomers_.HandleMoved(&message);
        break;
      case ShardMessage::Kind::kClientRefused:
        endings_.HandleClientRefused(message.client);
        context_.gate->client_refusals_under_way.fetch_sub(
            1, std::memory_order_relaxed);
        break;
      case ShardMessage::Kind::kRestore:
        // The pause is short: what is not restored yet is left out.
        if (is_handing_over_) break;
        restorer_.HandleMessage(&message);
        message_budget_ = 0;
        break;
      case ShardMessage::Kind::kSupersedeAll:
        endings_.SupersedeAll();
        forwarding_.Clear();
        break;
      case ShardMessage::Kind::kSupersede:
      case ShardMessage::Kind::kDisconnectClient:
      case ShardMessage::Kind::kEndSession:
      case ShardMessage::Kind::kEndClientIp:
      case ShardMessage::Kind::kEndBackend:
      case ShardMessage::Kind::kEndBackendText:
        break;  // see DrainDisconnects
    }
  }
  messages_.clear();
}

void Shard::DrainDatagrams() {
  for (int i = 0; i < kQueuedBatchesPerIteration; ++i) {
    if (context_.inbox->datagrams_waiting() == 0) return;
    context_.inbox->Peek(context_.gate->options.batch_size, &queued_);
    RelayToBackends(queued_);
    context_.inbox->Pop(static_cast<int>(queued_.size()));
  }
}

void Shard::RelayToBackends(absl::Span<const ClientDatagram> datagrams) {
  for (size_t i = 0; i < datagrams.size();) {
    i += datagrams[i].origin == ClientDatagram::Origin::kClient
             ? HandleOfClient(datagrams.subspan(i))
             : HandleOfGateway(datagrams.subspan(i));
  }
  if (!forwarding_.is_on()) return;
  // Their payloads are about to be gone.
  forwarding_.Flush();
  hop_sender_.Flush();
}

// Handles the first one, and those that can be handled with it. Returns how
// many these are.
size_t Shard::HandleOfClient(absl::Span<const ClientDatagram> datagrams) {
  const ClientDatagram& first = datagrams[0];
  Session* session = context_.sessions.Find(first.client, first.hash);
  if (session == nullptr) {
    if (const size_t count = forwarding_.Forward(datagrams); count > 0) {
      return count;
    }
    newcomers_.Begin(first);
    // The resolver may have posted its result at once; then the rest of the
    // batch need not be held.
    DrainMessages();
    return 1;
  }
  if (session->state == SessionState::kPending) {
    newcomers_.Hold(first, session);
    return 1;
  }
  return relay_.SendToBackend(datagrams, &session);
}

// The same. What comes from another gateway is never forwarded again.
size_t Shard::HandleOfGateway(absl::Span<const ClientDatagram> datagrams) {
  const ClientDatagram& first = datagrams[0];
  switch (first.origin) {
    case ClientDatagram::Origin::kHopReply:
      forwarding_.PassReply(first);
      return 1;
    case ClientDatagram::Origin::kHopNoSession:
    case ClientDatagram::Origin::kHopSession:
      forwarding_.HandleAnswer(first);
      return 1;
    default:
      break;
  }
  Session* session = context_.sessions.Find(first.client, first.hash);
  if (session == nullptr || session->state == SessionState::kPending) {
    context_.counters->Drop(DropReason::kHopNoSession);
    hop_sender_.AddAnswer(/*has_session=*/false, first.peer, first.client,
                          first.local);
    return 1;
  }
  if (first.wants_answer) {
    hop_sender_.AddAnswer(/*has_session=*/true, first.peer, first.client,
                          first.local);
  }
  return relay_.SendToBackend(datagrams, &session);
}

void Shard::HandleReadySockets(absl::Span<const epoll_event> events) {
  for (const epoll_event& event : events) {
    const uint64_t tag = event.data.u64;
    Session* session =
        context_.sessions.FindSlot(static_cast<uint32_t>(tag >> 32));
    // Otherwise it is the worker's own, or of a session that has ended since.
    if (session == nullptr || EventTag(session->ref()) != tag) continue;
    relay_.HandleReadySocket((event.events & EPOLLERR) != 0, &session);
  }
  replies_.Flush();
}

// After the process stood still: whether the datagrams that came meanwhile are
// handled. Until then their sessions would seem silent.
bool Shard::HasCaughtUp(bool has_events) {
  if (catch_up_end_nanoseconds_ == 0) return true;
  if (context_.now_nanoseconds < catch_up_end_nanoseconds_) {
    if (has_events || context_.inbox->datagrams_waiting() > 0 ||
        context_.inbox->HasMessages()) {
      return false;
    }
    // Whoever reads them, these may be of sessions of this shard.
    for (const ListenSocket& listener : context_.gate->listeners) {
      if (NextDatagramBytes(context_.sys_calls, listener.fd.get())
              .has_value()) {
        return false;
      }
    }
  }
  catch_up_end_nanoseconds_ = 0;
  return true;
}

void Shard::Expire() {
  newcomers_.ExpirePending();
  forwarding_.Expire();
  if (endings_.is_pacing()) return;
  endings_.EndSuperseded();
  endings_.ExpireUnconfirmed();
  endings_.ExpireSilent();
}

int64_t Shard::NextDeadline() const {
  return std::min({endings_.NextDeadline(), newcomers_.NextDeadline(),
                   forwarding_.NextDeadline()});
}

void Shard::Restore(RestoreOrder* order) {
  context_.now_nanoseconds = context_.gate->clock->NowNanoseconds();
  restorer_.RestoreAll(order);
}

void Shard::Supersede(const absl::flat_hash_set<uint64_t>& ids) {
  context_.now_nanoseconds = context_.gate->clock->NowNanoseconds();
  endings_.Supersede(ids);
}

// Takeover.

void Shard::HandOverSessions(bool keeps_flows,
                             std::vector<HandedSession>* sessions) {
  context_.now_nanoseconds = context_.gate->clock->NowNanoseconds();
  is_handing_over_ = true;
  // A new client's first datagram may bring a result at once, and a disconnect
  // of many sessions posts itself again.
  do {
    DrainDisconnects(kAllMessages);
    message_budget_ = kAllMessages;
    DrainMessages();
    DrainDatagrams();
  } while (context_.inbox->datagrams_waiting() > 0 ||
           context_.inbox->HasMessages() || context_.inbox->HasDisconnects());
  endings_.EndAllSuperseded();
  is_handing_over_ = false;
  handover_.HandOverSessions(keeps_flows, sessions);
}

void Shard::ForgetSessions() {
  // Disconnects since HandOverSessions concern no session of this process any
  // more.
  context_.inbox->TakeDisconnects(kAllMessages, &messages_);
  for (ShardMessage& message : messages_) endings_.ReportDone(0, &message);
  messages_.clear();
  context_.inbox->Close();
  handover_.ForgetSessions();
}

absl::Status Shard::Prepare(HandedSession* handed) {
  return handover_.Prepare(handed);
}

void Shard::DropAllBut(const std::vector<HandedSession*>& sessions) {
  context_.now_nanoseconds = context_.gate->clock->NowNanoseconds();
  handover_.DropAllBut(sessions);
}

absl::Status Shard::TakeOver(std::vector<HandedSession*> sessions,
                             uint64_t session_number) {
  context_.now_nanoseconds = context_.gate->clock->NowNanoseconds();
  return handover_.TakeOver(std::move(sessions), session_number);
}

}  // namespace internal
}  // namespace udpgate
