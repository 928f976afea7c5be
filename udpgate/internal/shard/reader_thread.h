// Chooses the thread that reads a listening socket: a worker while it has time,
// otherwise a thread of its own.
#ifndef UDPGATE_INTERNAL_SHARD_READER_THREAD_H_
#define UDPGATE_INTERNAL_SHARD_READER_THREAD_H_

#include <time.h>

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/internal/util/cpu_meter.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace internal {

// Waking a sleeping thread is the most expensive step on the data path. One
// thread that waits for both clients and backends is woken less often than two,
// so a worker also reads the listening socket as long as it keeps up. If it
// computes most of the time, it passes the socket to the reader's thread, which
// gives it back when one thread can do the work of both.
//
// One thread reads the socket at a time, so the order of datagrams holds.
//
// Threads: `Run` by the reader's thread, `is_hosted` by any, the rest by the
// thread that starts and stops the gateway.
class ReaderThread {
 public:
  // `host` is the worker that reads while it has time; null: none does. Both
  // must outlive this.
  ReaderThread(Reader* reader, Worker* host);
  ReaderThread(const ReaderThread&) = delete;
  ReaderThread& operator=(const ReaderThread&) = delete;

  // Gives the socket to the host, if there is one. Before the host's first
  // event-loop iteration.
  absl::Status Attach();

  // Reads whenever the host does not, until Stop.
  void Run();
  // Limits how long Run takes to notice `Stop`, from its next wait on; see
  // Reader::SetWaitMax.
  static constexpr absl::Duration kWaitMax = absl::Milliseconds(100);
  absl::Status SetWaitMax(absl::Duration wait_max) {
    return reader_->SetWaitMax(wait_max);
  }
  // Makes Run return within kWaitMax or what was set, and at once if it is
  // called later.
  void Stop();
  // Undoes Stop, before Run is called again.
  void ClearStop() { is_stopping_.store(false, std::memory_order_relaxed); }

  // Whether the host reads now.
  bool is_hosted() const { return is_hosted_.load(std::memory_order_acquire); }

 private:
  // By the host, when the socket is readable.
  void ReadAsHost();
  void HandOver();
  // By the reader's thread.
  void WaitForHandOver() ABSL_LOCKS_EXCLUDED(mutex_);
  bool ShouldGiveBack(int64_t now_nanoseconds);
  void GiveBack();

  Reader* const reader_;
  Worker* const host_;
  CpuMeter host_meter_;     // of the host's CPU time; used by the host
  CpuMeter threads_meter_;  // of both threads'; used by the reader's thread

  Mutex mutex_;
  ConditionVariable changed_;
  // Changed by the thread that reads; then the other one reads. With the mutex
  // if the reader's thread may be waiting for it.
  std::atomic<bool> is_hosted_{false};
  std::atomic<bool> is_stopping_{false};
  // Of the host's thread; written before is_hosted_ changes, read after.
  clockid_t host_cpu_clock_ = CLOCK_THREAD_CPUTIME_ID;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_READER_THREAD_H_
