#include "udpgate/nethernet/internal/join_counters.h"

#include <algorithm>

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

void AddOne(std::atomic<uint64_t>* counter) {
  counter->fetch_add(1, std::memory_order_relaxed);
}

template <typename T>
uint64_t Value(const std::atomic<T>& counter) {
  return static_cast<uint64_t>(counter.load(std::memory_order_relaxed));
}

}  // namespace

void JoinCounters::CountRequest(RequestPath path, int status) {
  const size_t index = status > 0 && status < kStatusEnd
                           ? static_cast<size_t>(status)
                           : size_t{0};
  AddOne(&requests_[static_cast<size_t>(path)][index]);
}

void JoinCounters::CountJoin(JoinResult result) {
  AddOne(&joins_[static_cast<size_t>(result)]);
}

void JoinCounters::CountAnswer(int64_t duration_nanoseconds) {
  const double seconds = static_cast<double>(duration_nanoseconds) / 1e9;
  const auto bound = std::lower_bound(kAnswerSecondsBounds.begin(),
                                      kAnswerSecondsBounds.end(), seconds);
  AddOne(&answers_by_duration_[static_cast<size_t>(
      bound - kAnswerSecondsBounds.begin())]);
  answer_nanoseconds_total_.fetch_add(
      static_cast<uint64_t>(duration_nanoseconds), std::memory_order_relaxed);
}

JoinServiceStats JoinCounters::Get() const {
  JoinServiceStats stats;
  for (size_t path = 0; path < kRequestPathCount; ++path) {
    for (size_t status = 0; status < size_t{kStatusEnd}; ++status) {
      const uint64_t count = Value(requests_[path][status]);
      if (count == 0) continue;
      stats.requests.push_back(
          {static_cast<RequestPath>(path), static_cast<int>(status), count});
    }
  }
  for (size_t i = 0; i < kJoinResultCount; ++i)
    stats.joins[i] = Value(joins_[i]);
  for (size_t i = 0; i < kAnswerBucketCount; ++i) {
    stats.answers_by_duration[i] = Value(answers_by_duration_[i]);
  }
  stats.answer_seconds_total =
      static_cast<double>(Value(answer_nanoseconds_total_)) / 1e9;
  stats.joins_in_progress = Value(joins_in_progress);
  stats.status_questions_answered = Value(status_questions_answered);
  stats.status_questions_failed = Value(status_questions_failed);
  stats.status_waiters = Value(status_waiters);
  stats.status_waiters_refused = Value(status_waiters_refused);
  stats.rate_table_full = Value(rate_table_full);
  return stats;
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
