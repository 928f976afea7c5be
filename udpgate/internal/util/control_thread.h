// A thread for what the data plane must not do itself: log lines, and calls
// into the host program.
#ifndef UDPGATE_INTERNAL_UTIL_CONTROL_THREAD_H_
#define UDPGATE_INTERNAL_UTIL_CONTROL_THREAD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Threads: any, except Start and Stop: one thread.
class ControlThread {
 public:
  // `clock` must outlive it. `queue_size` limits reports that wait.
  ControlThread(LogSink sink, const Clock* clock, int queue_size);
  ~ControlThread() { Stop(); }
  ControlThread(const ControlThread&) = delete;
  ControlThread& operator=(const ControlThread&) = delete;

  absl::Status Start();
  // Waits for the call or line in progress; drops what is queued.
  void Stop();

  // A new client could not be served. Becomes a log line, at most one per
  // reason and five seconds, which says how many more there were; `why` is
  // called only for those. If upstream sockets run out (no_upstream_socket):
  // one line when that begins, and one a minute while it lasts. May be called
  // on the data plane: neither waits nor logs.
  void ReportRefused(DropReason reason, const SocketAddress& client,
                     absl::FunctionRef<std::string()> why);

  // An upstream socket was opened. If they had run out, and none was missing
  // for ten seconds, a line says that it is over. May be called on the data
  // plane: usually one load.
  void ReportUpstreamOpened();

  // The same for a session that the gateway ended.
  void ReportEnded(EndReason reason, const SocketAddress& client,
                   absl::FunctionRef<std::string()> why);

  // Calls `call` on the thread, in order. Never refused before Stop: the caller
  // limits how many are queued.
  void Post(absl::AnyInvocable<void()> call);

  // Writes a log line on the thread, so that a slow log does not delay the
  // caller. Not for the data plane. The caller limits the number, as for Post.
  void PostLog(LogSeverity severity, std::string line);

  // Reports that the full queue refused.
  uint64_t suppressed() const {
    return suppressed_.load(std::memory_order_relaxed);
  }

 private:
  enum class Kind { kRefused, kEnded, kUpstreamOpens };
  struct Report {
    Kind kind;
    absl::string_view reason;  // its name
    SocketAddress client;
    std::string why;
    int64_t more;
  };

  void Add(Kind kind, absl::string_view reason, LogRateLimiter* limiter,
           const SocketAddress& client, absl::FunctionRef<std::string()> why);
  void Push(Report report);
  void Run();
  void Log(const Report& report) const;

  static constexpr int64_t kNever = INT64_MIN;

  const LogSink sink_;
  const Clock* const clock_;
  const size_t queue_size_;
  std::vector<std::unique_ptr<LogRateLimiter>> limiters_;  // one a DropReason
  std::vector<std::unique_ptr<LogRateLimiter>>
      end_limiters_;  // one an EndReason
  std::atomic<uint64_t> suppressed_{0};
  // When an upstream socket was missing last; kNever after that is over.
  std::atomic<int64_t> upstream_missing_nanoseconds_{kNever};

  Mutex mutex_;
  ConditionVariable changed_;
  // Written with the lock held; read without it between two calls.
  std::atomic<bool> is_stopping_{false};
  std::vector<Report> reports_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::AnyInvocable<void()>> calls_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UTIL_CONTROL_THREAD_H_
