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

// Batches from the inbox in one turn; the rest waits for the next one.
constexpr int kQueuedBatchesPerTurn = 4;

// As when an iteration has no limit on messages.
constexpr int kAllMessages = 1 << 30;

// A worker that wakes so much too late has stood still (SIGSTOP, a frozen
// virtual machine); for so long at most it then reads what waits first.
constexpr int64_t kStallNanoseconds = 1'000'000'000;
constexpr int64_t kCatchUpNanosecondsMax = 2'000'000'000;
constexpr int64_t kCatchUpPollNanoseconds = 1'000'000;

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
      endings_(&shard_, &lifecycle_, &validation_),
      evictions_(&shard_, &upstreams_, &lifecycle_),
      newcomers_(&shard_, &upstreams_, &lifecycle_, &relay_, &evictions_),
      snapshot_(&shard_),
      handover_(&shard_, &upstreams_, &lifecycle_, &newcomers_) {
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
    newcomers_.ExpirePending();
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
        newcomers_.HandleResult(&message);
        break;
      case ShardMessage::Kind::kListSessions:
        snapshot_.ListSessions(&message);
        break;
      case ShardMessage::Kind::kCopySockets:
        snapshot_.CopySockets(&message);
        break;
      case ShardMessage::Kind::kClientRefused:
        endings_.HandleClientRefused(message.client);
        shard_.gate->client_refusals_under_way.fetch_sub(
            1, std::memory_order_relaxed);
        break;
      case ShardMessage::Kind::kEvict:
      case ShardMessage::Kind::kFindSilent:
      case ShardMessage::Kind::kEndSilent:
        evictions_.HandleMessage(&message);
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

int64_t Worker::NextDeadline() const {
  return std::min(endings_.NextDeadline(), newcomers_.NextDeadline());
}

// Client to backend.

void Worker::RelayToBackends(absl::Span<const ClientDatagram> datagrams) {
  size_t i = 0;
  while (i < datagrams.size()) {
    const ClientDatagram& first = datagrams[i];
    Session* session = shard_.sessions.Find(first.client, first.hash);
    if (session == nullptr || session->state == SessionState::kPending) {
      if (session == nullptr) {
        newcomers_.Begin(first);
        // The resolver may have answered at once; then the rest of the batch
        // need not be held.
        DrainMessages();
      } else {
        newcomers_.Hold(first, session);
      }
      ++i;
      continue;
    }
    i += relay_.SendToBackend(datagrams.subspan(i), &session);
  }
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

// Takeover.

void Worker::HandOut(bool keeps_flows, std::vector<HandedSession>* sessions) {
  OwnershipLock lock(&ownership_);
  shard_.now_nanoseconds = context_->clock->NowNanoseconds();
  // A new client's first datagram may bring a result at once, a disconnect of
  // many sessions a message behind.
  do {
    DrainDisconnects(kAllMessages);
    message_budget_ = kAllMessages;
    DrainMessages();
    DrainDatagrams();
  } while (inbox_->datagrams_waiting() > 0 || inbox_->HasMessages() ||
           inbox_->HasDisconnects());
  handover_.HandOut(keeps_flows, sessions);
}

void Worker::ForgetSessions() {
  OwnershipLock lock(&ownership_);
  // Disconnects since HandOut concern no session of this process any more.
  inbox_->TakeDisconnects(kAllMessages, &messages_);
  for (ShardMessage& message : messages_) endings_.ReportDone(0, &message);
  messages_.clear();
  inbox_->Close();
  handover_.ForgetSessions();
}

absl::Status Worker::Prepare(HandedSession* handed) {
  OwnershipLock lock(&ownership_);
  return handover_.Prepare(handed);
}

void Worker::DropAllBut(const std::vector<HandedSession*>& sessions) {
  OwnershipLock lock(&ownership_);
  shard_.now_nanoseconds = context_->clock->NowNanoseconds();
  handover_.DropAllBut(sessions);
}

absl::Status Worker::TakeOver(std::vector<HandedSession*> sessions,
                              uint64_t session_number) {
  OwnershipLock lock(&ownership_);
  shard_.now_nanoseconds = context_->clock->NowNanoseconds();
  return handover_.TakeOver(std::move(sessions), session_number);
}

uint64_t Worker::session_number() {
  OwnershipLock lock(&ownership_);
  return shard_.sessions.session_number();
}

}  // namespace internal
}  // namespace udpgate
