// What Redis has said of the backend: the last failure, the last backend, and
// how much was asked.
#ifndef UDPGATE_REDIS_INTERNAL_ANSWER_LOG_H_
#define UDPGATE_REDIS_INTERNAL_ANSWER_LOG_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/mutex.h"

namespace udpgate {
namespace redis {
namespace internal {

// Outlives the resolver where a look-up of a name still runs. Times are those
// of a `udpgate::Clock`. Threads: every method from any thread.
class AnswerLog {
 public:
  // One answer of Redis to a GET. What a name in it means is known later,
  // maybe after the next answer: the order of the answers counts.
  struct Answer {
    uint64_t number;
    int64_t nanoseconds;
  };

  struct Failure {
    absl::Status why;
    // Redis itself is failing; else it said that there is no backend.
    bool is_redis_away;
    // Redis is not asked again before.
    int64_t until_nanoseconds;
  };

  struct Stale {
    ResolveResult backend;
    // Since Redis said it.
    absl::Duration age;
  };

  // `stale_age_max` 0: no backend is kept.
  AnswerLog(absl::Duration failure_pause, absl::Duration stale_age_max);

  // Redis has answered. Exactly one of the three that follow must be called
  // with the result.
  Answer Begin(int64_t now_nanoseconds);

  void SetBackend(const Answer& answer, const ResolveResult& backend);
  // Redis said `text` (empty: nothing), and that is no backend: the last one
  // is forgotten. Not where the same text was one before: then it is its name
  // that cannot be looked up now.
  void SetNoBackend(const Answer& answer, absl::string_view text,
                    const absl::Status& why);
  // The answer was an error of Redis, which says nothing about the backend.
  void SetRedisAway(const Answer& answer, const absl::Status& why);

  // OK where the last answer was a backend or there was none yet.
  absl::Status last() const;

  // The last answer, where it was a failure and came within the last
  // `failure_pause`.
  absl::optional<Failure> FindFailure(int64_t now_nanoseconds) const;

  // The last backend, where Redis has said nothing else since, and said it
  // within the last `stale_age_max`.
  absl::optional<Stale> FindStale(int64_t now_nanoseconds) const;

  // Of questions. `Admit` is false, and counts a refusal, where `max` have no
  // answer yet.
  bool Admit(int max);
  void CountAnswered(size_t count);
  void CountStale(size_t count);
  void CountAskedAgain(size_t count) {
    asked_again_.fetch_add(count, std::memory_order_relaxed);
  }
  void CountGet() { gets_sent_.fetch_add(1, std::memory_order_relaxed); }

  uint64_t waiting() const;
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  uint64_t stale_answers() const {
    return stale_answers_.load(std::memory_order_relaxed);
  }
  uint64_t asked_again() const {
    return asked_again_.load(std::memory_order_relaxed);
  }
  uint64_t gets_sent() const {
    return gets_sent_.load(std::memory_order_relaxed);
  }

 private:
  // False where the result of a later answer is known already.
  bool IsNews(const Answer& answer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(const Answer& answer, const absl::Status& why, bool is_redis_away)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t failure_pause_nanoseconds_;
  const int64_t stale_age_max_nanoseconds_;

  std::atomic<int> waiting_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> stale_answers_{0};
  std::atomic<uint64_t> asked_again_{0};
  std::atomic<uint64_t> gets_sent_{0};

  mutable udpgate::internal::Mutex mutex_;
  uint64_t answers_ ABSL_GUARDED_BY(mutex_) = 0;
  // The latest answer whose result is known.
  uint64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;
  Failure failure_ ABSL_GUARDED_BY(mutex_) = {absl::OkStatus(), false,
                                              INT64_MIN};
  absl::optional<ResolveResult> backend_ ABSL_GUARDED_BY(mutex_);
  int64_t backend_nanoseconds_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_ANSWER_LOG_H_
