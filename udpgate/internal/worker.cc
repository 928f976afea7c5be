#include "udpgate/internal/worker.h"

#include <errno.h>
#include <netinet/in.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/internal/error_queue.h"
#include "udpgate/internal/socket_options.h"

namespace udpgate {
namespace internal {
namespace {

// What an epoll event of the worker's set belongs to, where it is no session:
// no slot has so high a number.
constexpr uint64_t kDoorbellTag = UINT64_MAX;
constexpr uint64_t kReaderTag = UINT64_MAX - 1;
constexpr uint64_t kNetworkTag = UINT64_MAX - 2;

// What a turn may do for sessions that begin or end, which costs some ten times
// what a datagram costs: live sessions' datagrams wait meanwhile.
constexpr int kMessagesPerTurn = 3;
constexpr int kPendingPerTurn = 32;

// Batches from the inbox in one turn; the rest waits for the next one.
constexpr int kQueuedBatchesPerTurn = 4;

// As for the inbox: room for a game's small datagrams, and for one of any size.
constexpr size_t kHeldBytesPerDatagram = 2048;

// Slots that one ListSessions message looks at.
constexpr uint32_t kSlotsPerList = 256;

// A worker that wakes so much too late has stood still (SIGSTOP, a frozen
// virtual machine); for so long at most it then reads what waits first.
constexpr int64_t kStallNanoseconds = 1'000'000'000;
constexpr int64_t kCatchUpNanosecondsMax = 2'000'000'000;
constexpr int64_t kCatchUpPollNanoseconds = 1'000'000;

// A session may give way to another client of its address (MAX_SESSIONS_PER_IP)
// once its own has sent nothing for so long. A client that plays sends more
// often than that, so whoever forges its address cannot end its session.
constexpr int64_t kSilentNanoseconds = 10'000'000'000;
constexpr int64_t kUnconfirmedSilentNanoseconds = 2'000'000'000;
// Sessions of one address that are looked at for that in one shard, the oldest.
constexpr int kSilentLooksMax = 1024;

// See Worker::LeastProven.
constexpr int64_t kFirstChanceNanoseconds = 1'000'000'000;
constexpr int64_t kLongSilentNanoseconds = 5'000'000'000;

// Unconfirmed sessions that are looked at for one whose source port is of use.
constexpr int kEvictLooksMax = 64;
// Sessions that give way to one newcomer at most, since what they give up is
// not always what is missing.
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

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(GateContext* context,
                                                       uint32_t shard) {
  SysCalls* const sys_calls = context->sys_calls;
  absl::StatusOr<std::shared_ptr<Inbox>> inbox =
      Inbox::Create(sys_calls, {context->options.queue_size_datagrams,
                                context->options.disconnect_queue_size});
  if (!inbox.ok()) return inbox.status();
  const SysCallResult epoll = sys_calls->EpollCreate();
  if (!epoll.ok()) return ErrnoToStatus(epoll.error, "epoll_create1");
  UniqueFd epoll_fd(epoll.value);
  // Edge-triggered, so that nobody needs to read the doorbell.
  epoll_event event{EPOLLIN | EPOLLET, {}};
  event.data.u64 = kDoorbellTag;
  const SysCallResult added = sys_calls->EpollControl(
      epoll.value, EPOLL_CTL_ADD, (*inbox)->doorbell_fd(), &event);
  if (!added.ok()) return ErrnoToStatus(added.error, "epoll_ctl");
  std::unique_ptr<Worker> worker(
      new Worker(context, shard, std::move(epoll_fd), *std::move(inbox)));
  OwnershipLock lock(&worker->ownership_);
  if (absl::Status status = worker->replies_.CheckMemory(); !status.ok()) {
    return status;
  }
  return worker;
}

Worker::Worker(GateContext* context, uint32_t shard, UniqueFd epoll_fd,
               std::shared_ptr<Inbox> inbox)
    : context_(context),
      sys_calls_(context->sys_calls),
      epoll_fd_(std::move(epoll_fd)),
      inbox_(std::move(inbox)),
      events_(context->options.batch_size + 2),
      shard_(context, shard, epoll_fd_.get(), inbox_, &counters_),
      replies_(&shard_),
      upstreams_(&shard_),
      lifecycle_(&shard_, &upstreams_, &replies_),
      validation_(&shard_, &upstreams_, &lifecycle_),
      recovery_(&shard_, &upstreams_, &lifecycle_),
      relay_(&shard_, &upstreams_, &replies_, &validation_, &recovery_),
      endings_(&shard_, &lifecycle_, &validation_) {
  queued_.reserve(context->options.batch_size);
}

Worker::~Worker() { EndAllSessions(); }

absl::Status Worker::AddReader(int fd, absl::AnyInvocable<void()> read,
                               absl::AnyInvocable<void()> read_errors) {
  epoll_event event{EPOLLIN, {}};
  event.data.u64 = kReaderTag;
  const SysCallResult added =
      sys_calls_->EpollControl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event);
  if (!added.ok()) return ErrnoToStatus(added.error, "epoll_ctl");
  read_ = std::move(read);
  read_errors_ = std::move(read_errors);
  return absl::OkStatus();
}

bool Worker::WatchReader(int fd, bool is_watched) {
  epoll_event event{is_watched ? uint32_t{EPOLLIN} : 0, {}};
  event.data.u64 = kReaderTag;
  return sys_calls_->EpollControl(epoll_fd_.get(), EPOLL_CTL_MOD, fd, &event)
      .ok();
}

absl::Status Worker::AddNetworkWatcher(NetworkWatcher* watcher) {
  epoll_event event{EPOLLIN, {}};
  event.data.u64 = kNetworkTag;
  const SysCallResult added = sys_calls_->EpollControl(
      epoll_fd_.get(), EPOLL_CTL_ADD, watcher->fd(), &event);
  if (!added.ok()) return ErrnoToStatus(added.error, "epoll_ctl");
  network_watcher_ = watcher;
  return absl::OkStatus();
}

// The turn.

void Worker::PollOnce(int64_t max_wait_nanoseconds) {
  WaitForEvents(max_wait_nanoseconds);
  OwnershipLock lock(&ownership_);
  shard_.now_nanoseconds = context_->clock->NowNanoseconds();
  message_budget_ = kMessagesPerTurn;
  ++shard_.iteration;
  TakeLimits();
  NoteStall();
  if (!endings_.is_pacing()) DrainDisconnects(Endings::kEndsPerIteration);
  DrainMessages();
  DrainDatagrams();
  HandleReadySockets();
  const bool has_caught_up = HasCaughtUp();
  if (has_caught_up) {
    ExpirePending();
    if (!endings_.is_pacing()) {
      endings_.ExpireUnconfirmed();
      endings_.ExpireSilent();
    }
  }
  endings_.UpdatePacing();
  const int64_t deadline_nanoseconds =
      has_caught_up ? NextDeadline()
                    : shard_.now_nanoseconds + kCatchUpPollNanoseconds;
  wait_nanoseconds_ =
      inbox_->PrepareSleep(deadline_nanoseconds,
                           /*disconnects_can_wait=*/endings_.is_pacing())
          ? std::max<int64_t>(deadline_nanoseconds - shard_.now_nanoseconds, 0)
          : 0;
  planned_wake_nanoseconds_ =
      wait_nanoseconds_ < INT64_MAX - shard_.now_nanoseconds
          ? shard_.now_nanoseconds + wait_nanoseconds_
          : INT64_MAX;
  // After PrepareSleep: whoever reads it here and rings finds the worker asleep
  // or about to make another turn. This thread alone writes it.
  turn_count_.store(turn_count_.load(std::memory_order_relaxed) + 1,
                    std::memory_order_seq_cst);
}

void Worker::Run() {
  while (!is_stopping_.load(std::memory_order_acquire)) PollOnce(INT64_MAX);
}

void Worker::Stop() {
  is_stopping_.store(true, std::memory_order_release);
  // Whether or not it sleeps now: it will look at the flag before it does.
  sys_calls_->EventFdAdd(inbox_->doorbell_fd());
}

void Worker::WaitForEvents(int64_t max_wait_nanoseconds) {
  const SysCallResult waited = sys_calls_->EpollWait(
      epoll_fd_.get(), events_.data(), static_cast<int>(events_.size()),
      std::min(wait_nanoseconds_, max_wait_nanoseconds));
  inbox_->EndSleep();
  event_count_ = waited.ok() ? waited.value : 0;
  for (int i = 0; i < event_count_; ++i) {
    // Without ownership, since the reader delivers to this shard like any
    // other reader.
    if (events_[i].data.u64 == kReaderTag) {
      if ((events_[i].events & EPOLLERR) != 0) read_errors_();
      read_();
    } else if (events_[i].data.u64 == kNetworkTag) {
      if (network_watcher_->TakeChanges()) {
        context_->network_epoch.fetch_add(1, std::memory_order_relaxed);
      }
    }
  }
}

size_t Worker::Deliver(absl::Span<const ClientDatagram> datagrams,
                       int64_t now_nanoseconds) {
  // Messages open and close sockets: the reader leaves them to the worker, and
  // what comes after them too, but for disconnects in a rest, since it has
  // other shards to serve. But a worker that cannot keep up is helped, and more
  // datagrams stay with the kernel meanwhile.
  const bool must_help =
      inbox_->datagrams_waiting() > context_->options.queue_size_datagrams / 2;
  if ((must_help || !inbox_->HasUrgentMessages()) &&
      ownership_.TryAcquire(/*must_wait=*/must_help)) {
    shard_.now_nanoseconds = std::max(shard_.now_nanoseconds, now_nanoseconds);
    message_budget_ = kMessagesPerTurn;
    DrainDatagrams();
    // What waits goes first, else a client's datagrams would overtake.
    const bool is_first = inbox_->datagrams_waiting() == 0;
    if (is_first) RelayToBackends(datagrams);
    inbox_->NoteDeadline(NextDeadline());
    ownership_.Release();
    if (is_first) return 0;
  }
  return datagrams.size() - inbox_->Push(datagrams);
}

// What has changed since the last turn, see Proxy::SetLimits.
void Worker::TakeLimits() {
  const uint32_t version =
      shard_.gate->limits_version.load(std::memory_order_acquire);
  if (version == limits_version_) return;
  limits_version_ = version;
  {
    MutexLock lock(&shard_.gate->limits_mutex);
    shard_.limits = shard_.gate->limits;
  }
  lifecycle_.ApplyLimits();
  endings_.ApplyLimits();
}

void Worker::DrainDisconnects(int count_max) {
  shard_.inbox->TakeDisconnects(count_max, &messages_);
  for (ShardMessage& message : messages_) endings_.HandleDisconnect(&message);
  messages_.clear();
}

void Worker::DrainMessages() {
  shard_.inbox->TakeMessages(message_budget_, &messages_);
  message_budget_ -= static_cast<int>(messages_.size());
  for (ShardMessage& message : messages_) {
    switch (message.kind) {
      case ShardMessage::Kind::kResolved:
        HandleAnswer(&message);
        break;
      case ShardMessage::Kind::kListSessions:
        ListSessions(&message);
        break;
      case ShardMessage::Kind::kCopySockets:
        CopySockets(&message);
        break;
      case ShardMessage::Kind::kEvict:
        EvictLeastProven();
        shard_.gate->evictions_under_way.fetch_sub(1,
                                                   std::memory_order_relaxed);
        break;
      case ShardMessage::Kind::kClientRefused:
        endings_.HandleClientRefused(message.client);
        shard_.gate->client_refusals_under_way.fetch_sub(
            1, std::memory_order_relaxed);
        break;
      case ShardMessage::Kind::kFindSilent:
        FindSilent(&message);
        PassOn(std::move(message));
        break;
      case ShardMessage::Kind::kEndSilent:
        EndSilent(message);
        shard_.gate->evictions_under_way.fetch_sub(1,
                                                   std::memory_order_relaxed);
        break;
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

void Worker::DrainDatagrams() {
  for (int i = 0; i < kQueuedBatchesPerTurn; ++i) {
    if (shard_.inbox->datagrams_waiting() == 0) return;
    shard_.inbox->Peek(shard_.gate->options.batch_size, &queued_);
    RelayToBackends(queued_);
    shard_.inbox->Pop(static_cast<int>(queued_.size()));
  }
}

void Worker::HandleReadySockets() {
  for (int i = 0; i < event_count_; ++i) {
    const uint64_t tag = events_[i].data.u64;
    Session* session =
        shard_.sessions.FindSlot(static_cast<uint32_t>(tag >> 32));
    // Otherwise: the doorbell, the reader, or a session that has ended since.
    if (session == nullptr || EventTag(session->ref()) != tag) continue;
    relay_.HandleReadySocket((events_[i].events & EPOLLERR) != 0, &session);
  }
  replies_.Flush();
}

void Worker::ExpirePending() {
  const absl::Duration timeout = shard_.limits.resolve_timeout;
  for (int i = 0; i < kPendingPerTurn; ++i) {
    Session* session = lifecycle_.pending().first();
    if (session == nullptr ||
        session->resolve_deadline_nanoseconds > shard_.now_nanoseconds) {
      return;
    }
    shard_.counters->resolves_timed_out.Add();
    Refuse(session, EndReason::kResolveTimedOut, DropReason::kResolveTimedOut,
           [timeout] {
             return absl::StrCat("no backend within ",
                                 absl::FormatDuration(timeout));
           });
  }
}

void Worker::NoteStall() {
  if (shard_.now_nanoseconds - kStallNanoseconds > planned_wake_nanoseconds_) {
    catch_up_end_nanoseconds_ = shard_.now_nanoseconds + kCatchUpNanosecondsMax;
  }
}

bool Worker::HasCaughtUp() {
  if (catch_up_end_nanoseconds_ == 0) return true;
  if (shard_.now_nanoseconds < catch_up_end_nanoseconds_) {
    if (event_count_ > 0 || shard_.inbox->datagrams_waiting() > 0 ||
        shard_.inbox->HasMessages()) {
      return false;
    }
    // Whoever reads them, these may be of sessions of this shard.
    for (const ListenSocket& listener : shard_.gate->listeners) {
      if (NextDatagramBytes(shard_.sys_calls, listener.fd.get()).has_value()) {
        return false;
      }
    }
  }
  catch_up_end_nanoseconds_ = 0;
  return true;
}

int64_t Worker::NextDeadline() {
  int64_t deadline_nanoseconds = endings_.NextDeadline();
  if (const Session* session = lifecycle_.pending().first();
      session != nullptr) {
    deadline_nanoseconds =
        std::min(deadline_nanoseconds, session->resolve_deadline_nanoseconds);
  }
  return deadline_nanoseconds;
}

// Client to backend.

void Worker::RelayToBackends(absl::Span<const ClientDatagram> datagrams) {
  size_t i = 0;
  while (i < datagrams.size()) {
    const ClientDatagram& first = datagrams[i];
    Session* session = shard_.sessions.Find(first.client, first.hash);
    if (session == nullptr || session->state == SessionState::kPending) {
      if (session == nullptr) {
        Begin(first);
        // The resolver may have answered at once; then the rest of the batch
        // need not be held.
        DrainMessages();
      } else {
        Hold(session, first);
      }
      ++i;
      continue;
    }
    i += relay_.SendToBackend(datagrams.subspan(i), &session);
  }
}

// The life of a session.

// A new pending session that holds `datagram`; where it is refused, the
// datagram is counted as dropped, and nothing was allocated for it.
void Worker::Begin(const ClientDatagram& datagram) {
  if (shard_.gate->is_draining.load(std::memory_order_relaxed)) {
    shard_.counters->Drop(DropReason::kDraining);
    return;
  }
  const auto admit = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return shard_.gate->admission.Begin(
        datagram.client, datagram.payload.size(), shard_.now_nanoseconds,
        [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return EvictLeastProven(); });
  };
  absl::optional<DropReason> refusal = admit();
  if (refusal == DropReason::kSessionLimitPerIp &&
      ReplaceSilent(datagram.client)) {
    refusal = admit();
  }
  if (refusal.has_value()) {
    if (*refusal == DropReason::kSessionLimit) AskOthersToEvict();
    shard_.counters->Drop(*refusal);
    const auto why = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return AdmissionText(*refusal, shard_.limits,
                           shard_.gate->admission.sessions_max());
    };
    shard_.gate->control.ReportRefused(*refusal, datagram.client, why);
    return;
  }
  Session* session = lifecycle_.Create(datagram.client, datagram.hash);
  session->held = std::make_unique<HeldDatagrams>();
  Keep(session, datagram);
  AskForBackend(session, datagram.payload);
}

// The unconfirmed session of this shard that a new client replaces: of those
// that fit, among those with the fewest proofs, the one longest silent. Null if
// there is none. If even that one has had less than `kFirstChanceNanoseconds`
// since its last datagram, one with more proofs that is silent for
// `kLongSilentNanoseconds` goes first: else forgers that send a few datagrams
// each would fill the table and leave new clients to replace each other.
Session* Worker::LeastProven(
    absl::FunctionRef<bool(const Session& session)> fits) const {
  Session* least = nullptr;
  int look_count = 0;
  for (const SessionList& list : lifecycle_.unconfirmed()) {
    Session* first = list.first();
    while (first != nullptr && !fits(*first)) {
      if (++look_count == kEvictLooksMax) return least;
      first = list.next(*first);
    }
    if (first == nullptr) continue;
    const int64_t silent =
        shard_.now_nanoseconds - first->client_active_nanoseconds;
    if (least == nullptr) {
      least = first;
      if (silent >= kFirstChanceNanoseconds) break;
    } else if (silent >= kLongSilentNanoseconds) {
      return first;
    }
  }
  return least;
}

// Ends an unconfirmed session of this shard, so that a new client gets its
// place. False where all are confirmed.
bool Worker::EvictLeastProven() {
  return Evict(LeastProven([](const Session& /*session*/) { return true; }));
}

// The same where a newcomer's socket could not be opened, since `failed` lacked
// something: a session that gives that up. False where there is none.
bool Worker::EvictForUpstream(const UpstreamOpener::Result& failed,
                              const SocketAddress& source) {
  if (!failed.is_without_port) return EvictLeastProven();
  const UpstreamOpener& upstream = upstreams_.opener();
  return Evict(LeastProven([&upstream, &source](const Session& session) {
    return upstream.IsOfUse(session.relay, source);
  }));
}

bool Worker::Evict(Session* session) {
  if (session == nullptr) return false;
  lifecycle_.End(EndReason::kEvicted, DropReason::kSessionEnded, &session);
  return true;
}

// One message more that ends a session for the sake of another shard's client.
bool Worker::MayAskOthers() {
  constexpr int kUnderWayMax = 64;
  if (shard_.gate->inboxes.size() < 2) return false;
  if (shard_.gate->evictions_under_way.fetch_add(1, std::memory_order_relaxed) <
      kUnderWayMax) {
    return true;
  }
  shard_.gate->evictions_under_way.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

// Where this shard has nothing to give up, another may: the client's next
// datagram then finds a place. One shard at a time, in turn.
void Worker::AskOthersToEvict() {
  const size_t shard_count = shard_.gate->inboxes.size();
  if (!MayAskOthers()) return;
  next_to_evict_ = (next_to_evict_ + 1) % shard_count;
  if (next_to_evict_ == shard_.number) {
    next_to_evict_ = (next_to_evict_ + 1) % shard_count;
  }
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEvict;
  shard_.gate->inboxes[next_to_evict_]->Post(std::move(message));
}

// Has a session of the client's address give way to it, the one whose own
// client is silent longest, if there is one silent for long enough. True where
// one has ended. Where there are several shards all of them are asked, one
// after the other, and the client's next datagram finds the place.
bool Worker::ReplaceSilent(const SocketAddress& client) {
  if (!shard_.gate->admission.MayLookForSilent(client,
                                               shard_.now_nanoseconds)) {
    return false;
  }
  ShardMessage message;
  message.kind = ShardMessage::Kind::kFindSilent;
  message.client = client;
  message.shards_left = shard_.gate->inboxes.size();
  if (message.shards_left < 2) {
    FindSilent(&message);
    return EndSilent(message);
  }
  if (!MayAskOthers()) return false;
  FindSilent(&message);
  PassOn(std::move(message));
  return false;
}

// Notes the session of this shard that may give way, if it is better than the
// one that other shards have found: rather an unconfirmed one, and of those the
// one silent longest.
void Worker::FindSilent(ShardMessage* message) {
  lifecycle_.networks().ForEach(
      message->client, kSilentLooksMax,
      [&](Session* session) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        if (!IsSilent(*session)) return;
        // The fast path may have relayed since; then it is not silent.
        shard_.offload.Update(session);
        if (!IsSilent(*session)) return;
        const bool is_confirmed = session->state == SessionState::kConfirmed;
        const int64_t since_nanoseconds = session->client_active_nanoseconds;
        if (message->session.id != 0 &&
            (is_confirmed != message->is_silent_confirmed
                 ? is_confirmed
                 : since_nanoseconds >= message->silent_since_nanoseconds)) {
          return;
        }
        message->session = session->ref();
        message->silent_shard = shard_.number;
        message->is_silent_confirmed = is_confirmed;
        message->silent_since_nanoseconds = since_nanoseconds;
      });
}

bool Worker::IsSilent(const Session& session) const {
  if (session.state == SessionState::kPending) return false;
  return shard_.now_nanoseconds - session.client_active_nanoseconds >=
         (session.state == SessionState::kConfirmed
              ? kSilentNanoseconds
              : kUnconfirmedSilentNanoseconds);
}

// To the next shard that is to look, or, once all have, to the one whose
// session gives way.
void Worker::PassOn(ShardMessage message) {
  size_t next = (shard_.number + 1) % shard_.gate->inboxes.size();
  if (--message.shards_left == 0) {
    if (message.session.id == 0) {
      shard_.gate->evictions_under_way.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
    message.kind = ShardMessage::Kind::kEndSilent;
    next = message.silent_shard;
  }
  shard_.gate->inboxes[next]->Post(std::move(message));
}

// Whether the session that was found has given way: it may have ended since, or
// its client have sent.
bool Worker::EndSilent(const ShardMessage& message) {
  Session* session = shard_.sessions.Find(message.session);
  if (session == nullptr || !IsSilent(*session)) return false;
  lifecycle_.End(EndReason::kReplaced, DropReason::kSessionEnded, &session);
  return true;
}

void Worker::Hold(Session* session, const ClientDatagram& datagram) {
  const HeldDatagrams& held = *session->held;
  const size_t bytes_max =
      std::max(shard_.limits.pending_datagrams_max * kHeldBytesPerDatagram,
               kDatagramBufferBytes);
  if (held.size_bytes.size() >=
          static_cast<size_t>(shard_.limits.pending_datagrams_max) ||
      held.bytes.size() + datagram.payload.size() > bytes_max) {
    shard_.counters->Drop(DropReason::kPendingFull);
    return;
  }
  if (!shard_.gate->admission.TakeHeldBytes(datagram.payload.size())) {
    shard_.counters->Drop(DropReason::kPendingLimit);
    return;
  }
  Keep(session, datagram);
}

// For whom there is room.
void Worker::Keep(Session* session, const ClientDatagram& datagram) {
  session->listener = datagram.listener;
  session->local = datagram.local;
  HeldDatagrams& held = *session->held;
  held.bytes.append(datagram.payload.data(), datagram.payload.size());
  held.size_bytes.push_back(static_cast<uint32_t>(datagram.payload.size()));
  held.traffic_classes.push_back(datagram.traffic_class);
  shard_.counters->datagrams_held.Add();
}

// A session has one question under way at a time, and one deadline for all.
void Worker::AskForBackend(Session* session,
                           absl::Span<const char> first_datagram) {
  session->must_ask_again = false;
  ++session->question;
  session->asked_nanoseconds = shard_.now_nanoseconds;
  shard_.counters->resolves_started.Add();
  ResolveRequest request;
  request.client = session->client;
  request.first_datagram = first_datagram;
  request.timeout = absl::Nanoseconds(session->resolve_deadline_nanoseconds -
                                      shard_.now_nanoseconds);
  shard_.gate->resolver->Resolve(
      request,
      [inbox = shard_.inbox, ref = session->ref(),
       question = session->question](absl::StatusOr<ResolveResult> result) {
        ShardMessage message;
        message.kind = ShardMessage::Kind::kResolved;
        message.session = ref;
        message.question = question;
        message.result = std::move(result);
        inbox->Post(std::move(message));
      });
}

void Worker::HandleAnswer(ShardMessage* message) {
  Session* session = shard_.sessions.Find(message->session);
  if (session == nullptr || session->state != SessionState::kPending ||
      session->question != message->question) {
    return;  // too late, or given twice
  }
  shard_.counters->Resolve(shard_.now_nanoseconds - session->asked_nanoseconds);
  if (session->must_ask_again ||
      shard_.inbox->HasDisconnectSince(session->asked_nanoseconds,
                                       session->client)) {
    AskForBackend(session, session->held->first());
    return;
  }
  if (message->result.ok()) {
    OpenUpstream(session, *std::move(message->result));
    return;
  }
  // A resolver that notices first that time is up is counted like the worker.
  const DropReason reason = DropReasonOf(message->result.status());
  const bool is_timeout = reason == DropReason::kResolveTimedOut;
  (is_timeout ? shard_.counters->resolves_timed_out
              : shard_.counters->resolves_failed)
      .Add();
  Refuse(session,
         is_timeout ? EndReason::kResolveTimedOut : EndReason::kResolveFailed,
         reason,
         [&] { return std::string(message->result.status().message()); });
}

void Worker::OpenUpstream(Session* session, ResolveResult result) {
  const SocketAddress backend =
      shard_.gate->backend_holdoff.Choose(result, shard_.now_nanoseconds);
  UpstreamOpener::Result opened;
  SocketAddress source;
  const char* objection = nullptr;
  if (!backend.is_unicast() || backend.port() == 0) {
    objection = " is not an address that datagrams can be sent to";
  } else {
    source = upstreams_.opener().FindSource(backend, shard_.now_nanoseconds,
                                            &opened);
    if (opened.LacksRoom() && EvictLeastProven()) {
      opened = UpstreamOpener::Result();
      source = upstreams_.opener().FindSource(backend, shard_.now_nanoseconds,
                                              &opened);
    }
    if (IsOwnAddress(shard_.gate->listeners, backend, source)) {
      objection = " is this gate itself";
    }
  }
  if (objection != nullptr) {
    shard_.counters->resolves_failed.Add();
    Refuse(session, EndReason::kResolveFailed, DropReason::kInvalidBackend,
           [&] {
             return absl::StrCat("the backend ", backend.ToString(), objection);
           });
    return;
  }
  if (opened.error == 0) opened = OpenSocket(*session, source, backend);
  if (opened.error != 0) {
    if (opened.LacksRoom()) AskOthersToEvict();
    Refuse(session, EndReason::kNoUpstreamSocket, DropReason::kNoUpstreamSocket,
           [&] {
             return absl::StrCat(opened.failed_call, " towards backend ",
                                 backend.ToString(), ": ",
                                 ErrnoToText(opened.error));
           });
    return;
  }
  shard_.gate->control.ReportUpstreamOpened();
  // The wait for the backend was none of the client's idleness.
  session->last_active_nanoseconds = shard_.now_nanoseconds;
  session->client_active_nanoseconds = shard_.now_nanoseconds;
  session->network_epoch = upstreams_.network_epoch();
  session->upstream_fd = opened.fd;
  session->relay = opened.relay;
  session->backend = backend;
  session->label = std::move(result.label);
  if (backend != result.backend)
    shard_.counters->backend_alternatives_used.Add();
  lifecycle_.MoveTo(SessionState::kUnconfirmed, session);
  SendHeld(session);
}

// A socket for a new session. Where ports, descriptors or memory run out,
// unconfirmed sessions of this shard give way, and only then is a port tried
// that another program was found to have: that is dear, and mostly in vain.
UpstreamOpener::Result Worker::OpenSocket(const Session& session,
                                          const SocketAddress& source,
                                          const SocketAddress& backend) {
  bool takes_busy = false;
  int attempt_count = 0;
  for (int evicted_count = 0;;) {
    UpstreamOpener::Result opened =
        upstreams_.Open(session, source, backend, takes_busy, attempt_count);
    attempt_count = opened.attempt_count;
    if (!opened.LacksRoom() || attempt_count == UpstreamOpener::kAttemptsMax) {
      return opened;
    }
    if (evicted_count++ < kEvictionsPerOpenMax &&
        EvictForUpstream(opened, source)) {
      continue;
    }
    if (takes_busy || !opened.is_without_port) return opened;
    takes_busy = true;
    evicted_count = kEvictionsPerOpenMax;
  }
}

void Worker::SendHeld(Session* session) {
  const std::unique_ptr<HeldDatagrams> held = std::move(session->held);
  shard_.counters->datagrams_held.Subtract(held->size_bytes.size());
  shard_.gate->admission.GiveBackHeldBytes(held->bytes.size());
  relay_.SendHeld(*held, &session);
}

// Ends a pending session that gets no backend, and has the log say why.
void Worker::Refuse(Session* session, EndReason end, DropReason drop,
                    absl::FunctionRef<std::string()> why) {
  shard_.gate->control.ReportRefused(drop, session->client, why);
  lifecycle_.End(end, drop, &session);
}

void Worker::EndAllSessions() {
  inbox_->Close();
  OwnershipLock lock(&ownership_);
  while (shard_.inbox->datagrams_waiting() > 0) {
    shard_.inbox->Peek(shard_.gate->options.batch_size, &queued_);
    shard_.counters->Drop(DropReason::kSessionEnded, queued_.size());
    shard_.inbox->Pop(static_cast<int>(queued_.size()));
  }
  endings_.EndAll();
}

// Messages.

void Worker::ListSessions(ShardMessage* message) {
  const uint32_t end_slot = std::min(message->session.slot + kSlotsPerList,
                                     shard_.sessions.slot_count());
  std::vector<SessionInfo> infos;
  for (uint32_t slot = message->session.slot; slot < end_slot; ++slot) {
    Session* session = shard_.sessions.FindSlot(slot);
    if (session == nullptr) continue;
    shard_.offload.Update(session);
    SessionInfo info;
    info.id = session->id;
    info.state = session->state;
    info.client = session->client;
    info.backend = session->backend;
    info.relay = session->relay;
    info.label = session->label;
    info.age = absl::Nanoseconds(shard_.now_nanoseconds -
                                 session->created_nanoseconds);
    info.idle = absl::Nanoseconds(shard_.now_nanoseconds -
                                  session->last_active_nanoseconds);
    info.client_datagrams_forwarded = session->client_datagrams_forwarded;
    info.client_bytes_forwarded = session->client_bytes_forwarded;
    info.backend_datagrams_forwarded = session->backend_datagrams_forwarded;
    info.backend_bytes_forwarded = session->backend_bytes_forwarded;
    infos.push_back(std::move(info));
  }
  message->list_done(std::move(infos),
                     end_slot < shard_.sessions.slot_count() ? end_slot : 0);
}

}  // namespace internal
}  // namespace udpgate
