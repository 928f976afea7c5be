// What a `JoinService` counts, without a lock.
#ifndef UDPGATE_NETHERNET_INTERNAL_JOIN_COUNTERS_H_
#define UDPGATE_NETHERNET_INTERNAL_JOIN_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "udpgate/nethernet/join_service_options.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Threads: any.
class JoinCounters {
 public:
  void CountRequest(RequestPath path, int status);
  void CountJoin(JoinResult result);
  // From the request to the answer.
  void CountAnswer(int64_t duration_nanoseconds);

  std::atomic<int64_t> joins_in_progress{0};
  std::atomic<uint64_t> status_questions_answered{0};
  std::atomic<uint64_t> status_questions_failed{0};
  std::atomic<int64_t> status_waiters{0};
  std::atomic<uint64_t> status_waiters_refused{0};
  std::atomic<uint64_t> rate_table_full{0};

  JoinServiceStats Get() const;

 private:
  // Three digits (RFC 9110 section 15); others count as 0.
  static constexpr int kStatusEnd = 1000;

  std::array<std::array<std::atomic<uint64_t>, kStatusEnd>, kRequestPathCount>
      requests_{};
  std::array<std::atomic<uint64_t>, kJoinResultCount> joins_{};
  std::array<std::atomic<uint64_t>, kAnswerBucketCount> answers_by_duration_{};
  std::atomic<uint64_t> answer_nanoseconds_total_{0};
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JOIN_COUNTERS_H_
