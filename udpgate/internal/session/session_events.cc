#include "udpgate/internal/session/session_events.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/thread.h"

namespace udpgate {
namespace internal {
namespace {

// How long shutdown may deliver events; all of it may take a second.
constexpr std::chrono::milliseconds kStopTimeMax(500);

}  // namespace

SessionEventQueue::SessionEventQueue(SessionEvents* events, int size)
    : events_(events), ring_(size) {}

void SessionEventQueue::Post(SessionEvent event, int64_t time_nanoseconds) {
  if (is_full() && !events_->AwaitRoom(*this)) {
    dropped_.store(dropped_.load(std::memory_order_relaxed) + 1,
                   std::memory_order_relaxed);
    return;
  }
  const uint64_t position = written_.load(std::memory_order_relaxed);
  ring_[position % ring_.size()] = {std::move(event), time_nanoseconds};
  // Before is_asleep_ is read; the thread sets is_asleep_ and then reads this.
  // So one of the two sees the other's change.
  written_.store(position + 1, std::memory_order_seq_cst);
  events_->Wake();
}

SessionEvents::SessionEvents(std::shared_ptr<SessionObserver> observer,
                             const Clock* clock, int queue_size)
    : observer_(std::move(observer)), clock_(clock), queue_size_(queue_size) {}

SessionEventQueue* SessionEvents::AddShard() {
  queues_.push_back(std::make_unique<SessionEventQueue>(this, queue_size_));
  return queues_.back().get();
}

absl::Status SessionEvents::Start() {
  absl::StatusOr<std::thread> started = StartThread(
      "udpgate-events", ThreadRole::kControlPlane, [this] { Run(); });
  if (!started.ok()) return started.status();
  thread_ = *std::move(started);
  return absl::OkStatus();
}

void SessionEvents::BeginStop() {
  MutexLock lock(&mutex_);
  // Without a thread nothing makes room.
  if (is_stopping_ || !thread_.joinable()) return;
  deadline_ = std::chrono::steady_clock::now() + kStopTimeMax;
  is_stopping_ = true;
}

void SessionEvents::Stop() {
  if (!thread_.joinable()) return;
  BeginStop();
  {
    MutexLock lock(&mutex_);
    must_end_ = true;
    is_asleep_ = false;
    changed_.SignalAll();
  }
  thread_.join();
}

int64_t SessionEvents::Deliver() {
  int64_t count = 0;
  for (const std::unique_ptr<SessionEventQueue>& queue : queues_) {
    const uint64_t end = queue->written_.load(std::memory_order_seq_cst);
    for (uint64_t i = queue->read_.load(std::memory_order_relaxed); i < end;
         ++i, ++count) {
      SessionEventQueue::Entry& entry = queue->ring_[i % queue->ring_.size()];
      if (is_out_of_time()) {
        abandoned_.fetch_add(1, std::memory_order_relaxed);
      } else {
        entry.event.delay = absl::Nanoseconds(clock_->NowNanoseconds() -
                                              entry.time_nanoseconds);
        observer_->Observe(entry.event);
      }
      // Else the tag would live until the ring has gone round.
      entry.event.tag = nullptr;
      queue->read_.store(i + 1, std::memory_order_release);
      if (is_stopping_) {
        MutexLock lock(&mutex_);
        read_.SignalAll();
      }
    }
  }
  return count;
}

uint64_t SessionEvents::dropped() const {
  uint64_t count = abandoned_.load(std::memory_order_relaxed);
  for (const std::unique_ptr<SessionEventQueue>& queue : queues_) {
    count += queue->dropped_.load(std::memory_order_relaxed);
  }
  return count;
}

int64_t SessionEvents::waiting() const {
  int64_t count = 0;
  for (const std::unique_ptr<SessionEventQueue>& queue : queues_) {
    // In this order, so that it is never below zero.
    const uint64_t read = queue->read_.load(std::memory_order_acquire);
    count += static_cast<int64_t>(
        queue->written_.load(std::memory_order_seq_cst) - read);
  }
  return count;
}

void SessionEvents::Run() {
  for (;;) {
    if (Deliver() > 0) continue;
    MutexLock lock(&mutex_);
    is_asleep_.store(true, std::memory_order_seq_cst);
    if (waiting() > 0) {
      is_asleep_ = false;
      continue;
    }
    if (must_end_) return;
    while (is_asleep_) changed_.Wait(&mutex_);
  }
}

void SessionEvents::Wake() {
  if (!is_asleep_.load(std::memory_order_seq_cst)) return;
  MutexLock lock(&mutex_);
  is_asleep_ = false;
  changed_.SignalOne();
}

bool SessionEvents::AwaitRoom(const SessionEventQueue& queue) {
  if (!is_stopping_) return false;
  MutexLock lock(&mutex_);
  while (queue.is_full()) {
    const auto left = deadline_ - std::chrono::steady_clock::now();
    if (left <= std::chrono::nanoseconds(0)) return false;
    read_.WaitFor(&mutex_, left);
  }
  return true;
}

bool SessionEvents::is_out_of_time() const {
  return is_stopping_ && std::chrono::steady_clock::now() >= deadline_;
}

}  // namespace internal
}  // namespace udpgate
