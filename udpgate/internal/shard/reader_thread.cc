#include "udpgate/internal/shard/reader_thread.h"

#include "absl/types/optional.h"
#include "udpgate/internal/util/cpu_meter.h"

namespace udpgate {
namespace internal {
namespace {

// A host that computes so much of such a period passes the socket on: early
// enough that no buffer fills, and late enough to ignore a single burst.
constexpr int64_t kHostStretchNanoseconds = 20'000'000;
constexpr int64_t kHandOverPercent = 85;

// At this load of both threads one can do the work alone. The margin prevents
// oscillation: one thread needs less time than two.
constexpr int64_t kThreadsStretchNanoseconds = 100'000'000;
constexpr int64_t kGiveBackPercent = 70;

}  // namespace

ReaderThread::ReaderThread(Reader* reader, Worker* host)
    : reader_(reader),
      host_(host),
      host_meter_(kHostStretchNanoseconds),
      threads_meter_(kThreadsStretchNanoseconds) {}

absl::Status ReaderThread::Attach() {
  if (absl::Status status = SetWaitMax(kWaitMax);
      !status.ok() || host_ == nullptr) {
    return status;
  }
  is_hosted_.store(true, std::memory_order_release);
  return host_->AddReader(
      reader_->fd(), [this] { ReadAsHost(); },
      [this] { reader_->TakeClientErrors(); });
}

void ReaderThread::Run() {
  while (!is_stopping_.load(std::memory_order_relaxed)) {
    if (is_hosted()) {
      WaitForHandOver();
      continue;
    }
    const int64_t now_nanoseconds = reader_->WaitAndReadBatch();
    if (ShouldGiveBack(now_nanoseconds)) GiveBack();
  }
}

void ReaderThread::Stop() {
  MutexLock lock(&mutex_);
  is_stopping_.store(true, std::memory_order_relaxed);
  changed_.SignalAll();
}

void ReaderThread::ReadAsHost() {
  // An event from before the socket was passed on; or an error, which epoll(7)
  // always reports.
  if (!is_hosted()) return;
  const int64_t now_nanoseconds = reader_->ReadBatch();
  if (!host_meter_.IsOver(now_nanoseconds)) return;
  const absl::optional<int64_t> percent =
      host_meter_.End(now_nanoseconds, CpuNanoseconds(CLOCK_THREAD_CPUTIME_ID));
  if (percent.has_value() && *percent >= kHandOverPercent) HandOver();
}

void ReaderThread::HandOver() {
  // If that fails the host continues to read.
  if (!host_->WatchReader(reader_->fd(), false)) return;
  host_cpu_clock_ = CpuClockOfThisThread();
  MutexLock lock(&mutex_);
  is_hosted_.store(false, std::memory_order_release);
  changed_.SignalAll();
}

void ReaderThread::WaitForHandOver() {
  MutexLock lock(&mutex_);
  while (is_hosted() && !is_stopping_.load(std::memory_order_relaxed)) {
    changed_.Wait(&mutex_);
  }
}

bool ReaderThread::ShouldGiveBack(int64_t now_nanoseconds) {
  if (host_ == nullptr || !threads_meter_.IsOver(now_nanoseconds)) return false;
  const absl::optional<int64_t> percent = threads_meter_.End(
      now_nanoseconds, CpuNanoseconds(CLOCK_THREAD_CPUTIME_ID) +
                           CpuNanoseconds(host_cpu_clock_));
  return percent.has_value() && *percent <= kGiveBackPercent;
}

void ReaderThread::GiveBack() {
  is_hosted_.store(true, std::memory_order_release);
  if (host_->WatchReader(reader_->fd(), true)) return;
  is_hosted_.store(false, std::memory_order_release);
}

}  // namespace internal
}  // namespace udpgate
