// Who reads a listen socket: a worker while it has time, a thread of its own
// while the worker has not.
#ifndef UDPGATE_INTERNAL_READER_THREAD_H_
#define UDPGATE_INTERNAL_READER_THREAD_H_

#include <time.h>

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "udpgate/internal/cpu_meter.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/reader.h"
#include "udpgate/internal/worker.h"

namespace udpgate {
namespace internal {

// Waking a sleeping thread is the dearest thing on the path. One thread that
// waits for clients and backends alike is woken less often than two, since it
// is more often awake already; so a worker reads the listen socket too as long
// as it keeps up. When it has a processor to itself for most of the time, it
// hands the socket to the reader's thread, which gives it back once one thread
// can do the work of both.
//
// One thread reads the socket at a time, so the order of datagrams holds.
//
// Threads: `Run` by the reader's thread, `is_hosted` by any, the rest by the
// one that starts and stops the gate.
class ReaderThread {
 public:
  // `host` is the worker that reads while it has time; null: none does. Both
  // must outlive this.
  ReaderThread(Reader* reader, Worker* host);
  ReaderThread(const ReaderThread&) = delete;
  ReaderThread& operator=(const ReaderThread&) = delete;

  // Gives the socket to the host, where there is one. Before the host's first
  // turn.
  absl::Status Attach();

  // Reads whenever the host does not, until Stop.
  void Run();
  // Limits how long Run takes to see `Stop`, from its next look at the socket
  // on; see Reader::SetWaitMax.
  static constexpr absl::Duration kWaitMax = absl::Milliseconds(100);
  absl::Status SetWaitMax(absl::Duration wait_max) {
    return reader_->SetWaitMax(wait_max);
  }
  // Makes Run return within kWaitMax, or what was set, and at once where it is
  // called later.
  void Stop();
  // Takes that back, before Run is called again.
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
  CpuMeter host_meter_;     // the host's CPU time, and used by it
  CpuMeter threads_meter_;  // of both; used by the reader's thread

  Mutex mutex_;
  ConditionVariable changed_;
  // Changed by the one that reads; from then on the other one does. Under the
  // mutex where the reader's thread may be waiting for it.
  std::atomic<bool> is_hosted_{false};
  std::atomic<bool> is_stopping_{false};
  // Of the host's thread; written before it hands over, read after.
  clockid_t host_cpu_clock_ = CLOCK_THREAD_CPUTIME_ID;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_READER_THREAD_H_
