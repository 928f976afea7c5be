#include "udpgate/internal/shard/worker.h"

#include <algorithm>
#include <utility>

namespace udpgate {
namespace internal {
namespace {

// The epoll event data of other descriptors than sessions': no slot is so high.
constexpr uint64_t kDoorbellTag = UINT64_MAX;
constexpr uint64_t kReaderTag = UINT64_MAX - 1;
constexpr uint64_t kNetworkTag = UINT64_MAX - 2;

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
  // Edge-triggered, so that the doorbell need not be read.
  epoll_event event{EPOLLIN | EPOLLET, {}};
  event.data.u64 = kDoorbellTag;
  const SysCallResult added = sys_calls->EpollControl(
      epoll.value, EPOLL_CTL_ADD, (*inbox)->doorbell_fd(), &event);
  if (!added.ok()) return ErrnoToStatus(added.error, "epoll_ctl");
  std::unique_ptr<Worker> worker(
      new Worker(context, shard, std::move(epoll_fd), *std::move(inbox)));
  OwnershipLock lock(&worker->ownership_);
  if (absl::Status status = worker->shard_.CheckMemory(); !status.ok()) {
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
      shard_(context, shard, epoll_fd_.get(), inbox_, &counters_) {}

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

void Worker::PollOnce(int64_t max_wait_nanoseconds) {
  WaitForEvents(max_wait_nanoseconds);
  OwnershipLock lock(&ownership_);
  wait_nanoseconds_ =
      shard_.RunIteration(absl::MakeConstSpan(events_.data(), event_count_));
  // After the inbox was prepared for sleep: a caller that reads the count and
  // then rings finds the worker asleep or about to run another iteration. Only
  // this thread writes it.
  iteration_count_.store(iteration_count_.load(std::memory_order_relaxed) + 1,
                         std::memory_order_seq_cst);
}

void Worker::Run() {
  while (!is_stopping_.load(std::memory_order_acquire)) PollOnce(INT64_MAX);
}

void Worker::Stop() {
  is_stopping_.store(true, std::memory_order_release);
  // Rings even if it is awake: it checks the flag before it sleeps.
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
  // Messages open and close sockets: the reader leaves them, and what follows
  // them, to the worker, since it has other shards to serve. Disconnects that
  // wait for the end of a break do not count. But if the queue is half full the
  // reader helps; unread datagrams stay in the kernel meanwhile.
  const bool must_help =
      inbox_->datagrams_waiting() > context_->options.queue_size_datagrams / 2;
  if ((must_help || !inbox_->HasUrgentMessages()) &&
      ownership_.TryAcquire(/*must_wait=*/must_help)) {
    const bool is_delivered = shard_.Deliver(datagrams, now_nanoseconds);
    ownership_.Release();
    if (is_delivered) return 0;
  }
  return datagrams.size() - inbox_->Push(datagrams);
}

void Worker::EndAllSessions() {
  inbox_->Close();
  OwnershipLock lock(&ownership_);
  shard_.EndAllSessions();
}

void Worker::Restore(RestoreOrder* order) {
  OwnershipLock lock(&ownership_);
  shard_.Restore(order);
}

void Worker::Supersede(const absl::flat_hash_set<uint64_t>& ids) {
  OwnershipLock lock(&ownership_);
  shard_.Supersede(ids);
}

void Worker::HandOverSessions(bool keeps_flows,
                              std::vector<HandedSession>* sessions) {
  OwnershipLock lock(&ownership_);
  shard_.HandOverSessions(keeps_flows, sessions);
}

void Worker::ForgetSessions() {
  OwnershipLock lock(&ownership_);
  shard_.ForgetSessions();
}

absl::Status Worker::Prepare(HandedSession* handed) {
  OwnershipLock lock(&ownership_);
  return shard_.Prepare(handed);
}

void Worker::DropAllBut(const std::vector<HandedSession*>& sessions) {
  OwnershipLock lock(&ownership_);
  shard_.DropAllBut(sessions);
}

absl::Status Worker::TakeOver(std::vector<HandedSession*> sessions,
                              uint64_t session_number) {
  OwnershipLock lock(&ownership_);
  return shard_.TakeOver(std::move(sessions), session_number);
}

uint64_t Worker::session_number() {
  OwnershipLock lock(&ownership_);
  return shard_.session_number();
}

}  // namespace internal
}  // namespace udpgate
