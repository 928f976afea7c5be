#include "udpgate/redis/internal/result_log.h"

#include <algorithm>
#include <utility>

#include "udpgate/internal/util/unshared_status.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;
using udpgate::internal::Unshared;

}  // namespace

ResultLog::ResultLog(absl::Duration failure_pause, absl::Duration stale_age_max)
    : failure_pause_nanoseconds_(absl::ToInt64Nanoseconds(failure_pause)),
      stale_age_max_nanoseconds_(absl::ToInt64Nanoseconds(stale_age_max)) {}

ResultLog::ReplyId ResultLog::Begin(int64_t now_nanoseconds) {
  MutexLock lock(&mutex_);
  return {++replies_, now_nanoseconds};
}

bool ResultLog::IsNewest(const ReplyId& reply) {
  if (reply.number < newest_reply_) return false;
  newest_reply_ = reply.number;
  return true;
}

void ResultLog::Fail(const ReplyId& reply, const absl::Status& why,
                     bool is_redis_away) {
  failure_ = {Unshared(why), is_redis_away,
              reply.nanoseconds + failure_pause_nanoseconds_};
}

void ResultLog::SetBackend(const ReplyId& reply,
                           std::shared_ptr<const BackendList> backends) {
  MutexLock lock(&mutex_);
  if (!IsNewest(reply)) return;
  failure_ = {absl::OkStatus(), false, INT64_MIN};
  if (stale_age_max_nanoseconds_ == 0) return;
  backends_ = std::move(backends);
  backend_nanoseconds_ = reply.nanoseconds;
}

void ResultLog::SetNoBackend(const ReplyId& reply, absl::string_view text,
                             const absl::Status& why) {
  MutexLock lock(&mutex_);
  if (!IsNewest(reply)) return;
  Fail(reply, why, /*is_redis_away=*/false);
  if (backends_ != nullptr && backends_->text() != text) backends_.reset();
}

void ResultLog::SetRedisAway(const ReplyId& reply, const absl::Status& why) {
  MutexLock lock(&mutex_);
  if (!IsNewest(reply)) return;
  Fail(reply, why, /*is_redis_away=*/true);
}

absl::Status ResultLog::last() const {
  MutexLock lock(&mutex_);
  return Unshared(failure_.why);
}

absl::optional<ResultLog::Failure> ResultLog::FindFailure(
    int64_t now_nanoseconds) const {
  MutexLock lock(&mutex_);
  if (now_nanoseconds >= failure_.until_nanoseconds) return absl::nullopt;
  return Failure{Unshared(failure_.why), failure_.is_redis_away,
                 failure_.until_nanoseconds};
}

absl::optional<ResultLog::Stale> ResultLog::FindStale(
    int64_t now_nanoseconds) const {
  MutexLock lock(&mutex_);
  const int64_t age_nanoseconds = now_nanoseconds - backend_nanoseconds_;
  if (backends_ == nullptr || age_nanoseconds > stale_age_max_nanoseconds_) {
    return absl::nullopt;
  }
  return Stale{backends_, absl::Nanoseconds(age_nanoseconds)};
}

bool ResultLog::Admit(int max) {
  if (waiting_.fetch_add(1) < max) return true;
  waiting_.fetch_sub(1);
  refused_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void ResultLog::CountCompleted(size_t count) {
  waiting_.fetch_sub(static_cast<int>(count));
}

void ResultLog::CountStale(size_t count) {
  stale_answers_.fetch_add(count, std::memory_order_relaxed);
}

uint64_t ResultLog::waiting() const {
  return static_cast<uint64_t>(std::max(0, waiting_.load()));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
