// The results of a resolver so far: the last failure, the last backend, and
// counters.
#ifndef UDPGATE_REDIS_INTERNAL_RESULT_LOG_H_
#define UDPGATE_REDIS_INTERNAL_RESULT_LOG_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/dns/backend_list.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace redis {
namespace internal {

// Outlives the resolver if the lookup of a name still runs. Times are those of
// a `udpgate::Clock`. Threads: any.
class ResultLog {
 public:
  // A reply to a GET. The lookup of a name in it may end after that of the next
  // reply, so replies are numbered.
  struct ReplyId {
    uint64_t number;
    int64_t nanoseconds;
  };

  struct Failure {
    absl::Status why;
    // True: Redis fails. False: it replied that there is no backend.
    bool is_redis_away;
    // No GET is sent before.
    int64_t until_nanoseconds;
  };

  struct Stale {
    std::shared_ptr<const BackendList> backends;
    // Since the reply that held it.
    absl::Duration age;
  };

  // `stale_age_max` 0: no backend is kept for stale results.
  ResultLog(absl::Duration failure_pause, absl::Duration stale_age_max);

  // Call for each reply, and then exactly one of the next three methods with
  // its result.
  ReplyId Begin(int64_t now_nanoseconds);

  void SetBackend(const ReplyId& reply,
                  std::shared_ptr<const BackendList> backends);
  // The reply `text` (empty: none) is not a usable backend: discards the last
  // one. Not if that has the same text: then only the lookup of its name fails.
  void SetNoBackend(const ReplyId& reply, absl::string_view text,
                    const absl::Status& why);
  // The reply was an error of Redis; the last backend stays.
  void SetRedisAway(const ReplyId& reply, const absl::Status& why);

  // OK if the last reply held a backend, or if there was no reply yet.
  absl::Status last() const;

  // The result of the last reply, if that was a failure within the last
  // `failure_pause`.
  absl::optional<Failure> FindFailure(int64_t now_nanoseconds) const;

  // The last backend, if it was not discarded and is not older than
  // `stale_age_max`.
  absl::optional<Stale> FindStale(int64_t now_nanoseconds) const;

  // Counters of resolutions. `Admit` returns false, and counts a rejection, if
  // `max` are pending.
  bool Admit(int max);
  void CountCompleted(size_t count);
  void CountStale(size_t count);
  void CountRepeated(size_t count) {
    repeated_.fetch_add(count, std::memory_order_relaxed);
  }
  void CountGet() { gets_sent_.fetch_add(1, std::memory_order_relaxed); }

  uint64_t waiting() const;
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  uint64_t stale_answers() const {
    return stale_answers_.load(std::memory_order_relaxed);
  }
  uint64_t repeated() const {
    return repeated_.load(std::memory_order_relaxed);
  }
  uint64_t gets_sent() const {
    return gets_sent_.load(std::memory_order_relaxed);
  }

 private:
  // False if the result of a later reply is known already.
  bool IsNewest(const ReplyId& reply) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(const ReplyId& reply, const absl::Status& why, bool is_redis_away)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t failure_pause_nanoseconds_;
  const int64_t stale_age_max_nanoseconds_;

  std::atomic<int> waiting_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> stale_answers_{0};
  std::atomic<uint64_t> repeated_{0};
  std::atomic<uint64_t> gets_sent_{0};

  mutable udpgate::internal::Mutex mutex_;
  uint64_t replies_ ABSL_GUARDED_BY(mutex_) = 0;
  // The number of the latest reply with a known result.
  uint64_t newest_reply_ ABSL_GUARDED_BY(mutex_) = 0;
  Failure failure_ ABSL_GUARDED_BY(mutex_) = {absl::OkStatus(), false,
                                              INT64_MIN};
  // Null if there is none.
  std::shared_ptr<const BackendList> backends_ ABSL_GUARDED_BY(mutex_);
  int64_t backend_nanoseconds_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_RESULT_LOG_H_
