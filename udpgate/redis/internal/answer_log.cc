#include "udpgate/redis/internal/answer_log.h"

#include <algorithm>

#include "udpgate/internal/unshared_status.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;
using udpgate::internal::Unshared;

}  // namespace

AnswerLog::AnswerLog(absl::Duration failure_pause, absl::Duration stale_age_max)
    : failure_pause_nanoseconds_(absl::ToInt64Nanoseconds(failure_pause)),
      stale_age_max_nanoseconds_(absl::ToInt64Nanoseconds(stale_age_max)) {}

AnswerLog::Answer AnswerLog::Begin(int64_t now_nanoseconds) {
  MutexLock lock(&mutex_);
  return {++answers_, now_nanoseconds};
}

bool AnswerLog::IsNews(const Answer& answer) {
  if (answer.number < newest_) return false;
  newest_ = answer.number;
  return true;
}

void AnswerLog::Fail(const Answer& answer, const absl::Status& why,
                     bool is_redis_away) {
  failure_ = {Unshared(why), is_redis_away,
              answer.nanoseconds + failure_pause_nanoseconds_};
}

void AnswerLog::SetBackend(const Answer& answer, const ResolveResult& backend) {
  MutexLock lock(&mutex_);
  if (!IsNews(answer)) return;
  failure_ = {absl::OkStatus(), false, INT64_MIN};
  if (stale_age_max_nanoseconds_ == 0) return;
  backend_ = backend;
  backend_nanoseconds_ = answer.nanoseconds;
}

void AnswerLog::SetNoBackend(const Answer& answer, absl::string_view text,
                             const absl::Status& why) {
  MutexLock lock(&mutex_);
  if (!IsNews(answer)) return;
  Fail(answer, why, /*is_redis_away=*/false);
  if (backend_.has_value() && backend_->label != text) backend_.reset();
}

void AnswerLog::SetRedisAway(const Answer& answer, const absl::Status& why) {
  MutexLock lock(&mutex_);
  if (!IsNews(answer)) return;
  Fail(answer, why, /*is_redis_away=*/true);
}

absl::Status AnswerLog::last() const {
  MutexLock lock(&mutex_);
  return Unshared(failure_.why);
}

absl::optional<AnswerLog::Failure> AnswerLog::FindFailure(
    int64_t now_nanoseconds) const {
  MutexLock lock(&mutex_);
  if (now_nanoseconds >= failure_.until_nanoseconds) return absl::nullopt;
  return Failure{Unshared(failure_.why), failure_.is_redis_away,
                 failure_.until_nanoseconds};
}

absl::optional<AnswerLog::Stale> AnswerLog::FindStale(
    int64_t now_nanoseconds) const {
  MutexLock lock(&mutex_);
  const int64_t age_nanoseconds = now_nanoseconds - backend_nanoseconds_;
  if (!backend_.has_value() || age_nanoseconds > stale_age_max_nanoseconds_) {
    return absl::nullopt;
  }
  return Stale{*backend_, absl::Nanoseconds(age_nanoseconds)};
}

bool AnswerLog::Admit(int max) {
  if (waiting_.fetch_add(1) < max) return true;
  waiting_.fetch_sub(1);
  refused_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void AnswerLog::CountAnswered(size_t count) {
  waiting_.fetch_sub(static_cast<int>(count));
}

void AnswerLog::CountStale(size_t count) {
  stale_answers_.fetch_add(count, std::memory_order_relaxed);
}

uint64_t AnswerLog::waiting() const {
  return static_cast<uint64_t>(std::max(0, waiting_.load()));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
