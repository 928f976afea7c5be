#include "udpgate/redis/redis_backend_resolver.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/dns/backend_text.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unshared_status.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/internal/result_log.h"

namespace udpgate {
namespace {

using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::GetPace;
using redis::internal::IsLoginRevoked;
using redis::internal::kGetsPerRequestMax;
using redis::internal::ReplyText;
using redis::internal::ResultLog;

constexpr absl::Duration kTimeoutMax = absl::Hours(1);

// The wait for a stale result ends at multiples of this, so that one scan of
// the pending requests serves many of them.
constexpr int64_t kStaleStepNanoseconds = 10'000'000;

constexpr absl::Duration kStaleLogInterval = absl::Seconds(10);

absl::Status About(absl::string_view name, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(name, ": ", status.message()));
}

struct Request {
  int64_t deadline_nanoseconds;
  // From then on a stale result is used.
  int64_t stale_nanoseconds;
  BackendResolver::Callback done;
  int gets = 0;  // sent for it
};

// Served by one GET. Empty if the GET only checks the health.
using Requests = std::vector<Request>;

void CompleteAll(Requests requests, const absl::StatusOr<ResolveResult>& result,
                 ResultLog* log) {
  log->CountCompleted(requests.size());
  for (Request& request : requests) {
    request.done(internal::Unshared(result));
  }
}

// Moves the requests whose `time` is not after `until` to `to`. Lowers `next`
// to the earliest `time` of the rest.
void MoveDue(int64_t Request::*time, int64_t until, Requests* from,
             Requests* to, int64_t* next) {
  const auto is_not_due = [&](const Request& request) {
    return request.*time > until;
  };
  const auto first_due =
      std::stable_partition(from->begin(), from->end(), is_not_due);
  to->insert(to->end(), std::make_move_iterator(first_due),
             std::make_move_iterator(from->end()));
  from->erase(first_due, from->end());
  for (const Request& request : *from) {
    *next = std::min(*next, request.*time);
  }
}

}  // namespace

// `Resolve` adds requests to `incoming_`. The thread of the connection moves
// them to `waiting_`, and then all of those to `in_flight_` with one GET.
class RedisBackendResolver::Impl final : public ConnectionOwner {
 public:
  Impl(RedisOptions options, std::shared_ptr<HostLookup> lookup)
      : options_(std::move(options)),
        clock_(options_.clock != nullptr ? options_.clock : Clock::Monotonic()),
        key_name_(absl::StrCat("key \"", absl::CHexEscape(options_.backend_key),
                               "\"")),
        lookup_(std::move(lookup)),
        log_(std::make_shared<ResultLog>(options_.failure_pause,
                                         options_.stale_backend_age_max)),
        pace_(options_.gets_per_second_max),
        stale_limiter_(clock_, kStaleLogInterval),
        connection_(options_, lookup_, "backend key", "udpgate-redis-g", this) {
  }

  // First, since the thread uses the other members.
  ~Impl() override { connection_.Stop(); }

  absl::Status Start() { return connection_.Start(); }
  void Resolve(const ResolveRequest& request, Callback done);
  absl::Status Health() const;
  RedisBackendResolverStats GetStats() const;

  void OnConnected() override {
    reconnect_wait_end_nanoseconds_ = INT64_MIN;
    connection_.LogRecovery(
        absl::StrCat("connected, backends come from ", key_name_));
  }
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {
    connection_.Drop(absl::DataLossError("unexpected pub/sub message"));
  }
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;
  bool OnIdle() override;

 private:
  bool may_be_stale() const {
    return options_.stale_backend_age_max > absl::ZeroDuration();
  }
  bool has_room_for_get() const {
    return in_flight_.size() < static_cast<size_t>(options_.gets_in_flight_max);
  }

  // True if requests wait for the next connection.
  bool IsAwaitingReconnect(int64_t now_nanoseconds) const {
    return now_nanoseconds < reconnect_wait_end_nanoseconds_;
  }

  void TakeIncoming();
  // Moves the requests in flight back to `waiting_` after the connection was
  // closed.
  void Requeue(const absl::Status& why);
  // Fails the waiting requests if there is neither a connection nor an attempt,
  // and the wait for a reconnect is over.
  void FailIfDisconnected(int64_t now_nanoseconds);
  // Fails the waiting requests whose deadline is not after `until_nanoseconds`.
  void FailWaiting(int64_t until_nanoseconds, const absl::Status& why);
  // During the pause after a failure: serves stale results, or fails the
  // requests that end before the pause does.
  void ApplyRecentFailure(int64_t now_nanoseconds);
  // Serves stale results to the requests that Redis has kept waiting too long.
  void ServeStaleToLate(int64_t now_nanoseconds);
  // The earliest time of the next GET.
  int64_t NextGetNanoseconds(int64_t now_nanoseconds) const;
  void SendGet();
  void OnValue(absl::string_view value, Requests requests);
  Requests TakeOldest();
  void Fail(Requests requests, const absl::Status& why);
  // The same, while Redis is unavailable.
  void FailOrServeStale(Requests requests, const absl::Status& why);
  // Returns false, and changes nothing, if there is no recent backend.
  bool ServeStale(Requests* requests);
  void GiveStale(const ResultLog::Stale& stale, Requests requests);
  // The reply to the oldest GET holds no usable backend.
  void OnNoBackend(const absl::Status& why);
  void OnError(const absl::Status& why);
  // The reply to the oldest GET is that the connection is not logged in.
  void OnLoginRevoked(const absl::Status& why);

  const RedisOptions options_;
  const Clock* const clock_;
  const std::string key_name_;
  const std::shared_ptr<HostLookup> lookup_;
  const std::shared_ptr<ResultLog> log_;

  internal::Mutex mutex_;
  Requests incoming_ ABSL_GUARDED_BY(mutex_);
  // The thread need not be woken for a request that can wait until then. While
  // requests wait for the rate limit or for room in flight: when the thread
  // wakes up by itself. INT64_MIN after a wake-up, since one serves all
  // requests in `incoming_`. Otherwise `kNever`.
  int64_t next_iteration_nanoseconds_ ABSL_GUARDED_BY(mutex_) =
      Connection::kNever;

  // Used by the thread of the connection only.
  Requests waiting_;
  // No waiting request has an earlier deadline.
  int64_t next_deadline_nanoseconds_ = Connection::kNever;
  // No request, waiting or in flight, may get a stale result earlier.
  int64_t next_stale_nanoseconds_ = Connection::kNever;
  // See RedisOptions::reconnect_patience.
  int64_t reconnect_wait_end_nanoseconds_ = INT64_MIN;
  std::deque<Requests> in_flight_;
  GetPace pace_;
  LogRateLimiter stale_limiter_;
  Connection connection_;
};

void RedisBackendResolver::Impl::Resolve(const ResolveRequest& request,
                                         Callback done) {
  if (!log_->Admit(options_.requests_waiting_max)) {
    done(absl::ResourceExhaustedError(absl::StrCat(
        "Redis ", options_.address, ": too many pending resolutions")));
    return;
  }
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  const int64_t timeout_nanoseconds =
      absl::ToInt64Nanoseconds(std::min(request.timeout, kTimeoutMax));
  int64_t stale_nanoseconds = Connection::kNever;
  if (may_be_stale()) {
    const int64_t half = now_nanoseconds + timeout_nanoseconds / 2;
    stale_nanoseconds =
        (half / kStaleStepNanoseconds + 1) * kStaleStepNanoseconds;
  }
  const int64_t deadline_nanoseconds = now_nanoseconds + timeout_nanoseconds;
  bool must_wake;
  {
    internal::MutexLock lock(&mutex_);
    incoming_.push_back(
        {deadline_nanoseconds, stale_nanoseconds, std::move(done), 0});
    must_wake = std::min(deadline_nanoseconds, stale_nanoseconds) <
                next_iteration_nanoseconds_;
    if (must_wake) next_iteration_nanoseconds_ = INT64_MIN;
  }
  if (must_wake) connection_.Wake();
}

absl::Status RedisBackendResolver::Impl::Health() const {
  absl::Status health = connection_.Health();
  return health.ok() ? log_->last() : health;
}

RedisBackendResolverStats RedisBackendResolver::Impl::GetStats() const {
  RedisBackendResolverStats stats;
  stats.gets_sent = log_->gets_sent();
  stats.stale_answers = log_->stale_answers();
  stats.questions_refused = log_->refused();
  stats.questions_asked_again = log_->repeated();
  stats.questions_waiting = log_->waiting();
  stats.is_connected = connection_.Health().ok();
  return stats;
}

int64_t RedisBackendResolver::Impl::OnIteration(int64_t now_nanoseconds) {
  TakeIncoming();
  ServeStaleToLate(now_nanoseconds);
  FailWaiting(now_nanoseconds,
              absl::DeadlineExceededError(absl::StrCat(
                  "Redis ", options_.address, ": no reply in time")));
  ApplyRecentFailure(now_nanoseconds);
  FailIfDisconnected(now_nanoseconds);
  if (waiting_.empty()) return next_stale_nanoseconds_;
  int64_t next_nanoseconds =
      std::min(next_deadline_nanoseconds_, next_stale_nanoseconds_);
  if (IsAwaitingReconnect(now_nanoseconds)) {
    next_nanoseconds =
        std::min(next_nanoseconds, reconnect_wait_end_nanoseconds_);
  }
  if (connection_.is_connected() && has_room_for_get()) {
    const int64_t get_nanoseconds = NextGetNanoseconds(now_nanoseconds);
    if (now_nanoseconds >= get_nanoseconds) {
      SendGet();
      return next_stale_nanoseconds_;
    }
    next_nanoseconds = std::min(next_nanoseconds, get_nanoseconds);
  }
  internal::MutexLock lock(&mutex_);
  next_iteration_nanoseconds_ = next_nanoseconds;
  return next_nanoseconds;
}

void RedisBackendResolver::Impl::TakeIncoming() {
  Requests incoming;
  {
    internal::MutexLock lock(&mutex_);
    incoming.swap(incoming_);
    next_iteration_nanoseconds_ = Connection::kNever;
  }
  if (incoming.empty()) return;
  for (Request& request : incoming) {
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, request.deadline_nanoseconds);
    next_stale_nanoseconds_ =
        std::min(next_stale_nanoseconds_, request.stale_nanoseconds);
    waiting_.push_back(std::move(request));
  }
  connection_.ReconnectSoon();
  if (!connection_.is_connected()) ServeStale(&waiting_);
}

void RedisBackendResolver::Impl::FailIfDisconnected(int64_t now_nanoseconds) {
  if (waiting_.empty() || !connection_.is_waiting() ||
      IsAwaitingReconnect(now_nanoseconds)) {
    return;
  }
  Fail(std::exchange(waiting_, {}), connection_.Health());
}

void RedisBackendResolver::Impl::FailWaiting(int64_t until_nanoseconds,
                                             const absl::Status& why) {
  if (waiting_.empty() || until_nanoseconds < next_deadline_nanoseconds_) {
    return;
  }
  Requests expired;
  next_deadline_nanoseconds_ = Connection::kNever;
  MoveDue(&Request::deadline_nanoseconds, until_nanoseconds, &waiting_,
          &expired, &next_deadline_nanoseconds_);
  Fail(std::move(expired), why);
}

void RedisBackendResolver::Impl::ApplyRecentFailure(int64_t now_nanoseconds) {
  if (waiting_.empty() || !connection_.is_connected()) return;
  const auto failure = log_->FindFailure(now_nanoseconds);
  if (!failure.has_value()) return;
  if (failure->is_redis_away && ServeStale(&waiting_)) return;
  FailWaiting(failure->until_nanoseconds, failure->why);
}

// If there is room for a GET, the waiting requests wait for the rate limit or
// the pause, not for Redis.
void RedisBackendResolver::Impl::ServeStaleToLate(int64_t now_nanoseconds) {
  if (now_nanoseconds < next_stale_nanoseconds_) return;
  next_stale_nanoseconds_ = Connection::kNever;
  const auto stale = log_->FindStale(now_nanoseconds);
  if (!stale.has_value()) return;
  Requests late;
  for (Requests& requests : in_flight_) {
    MoveDue(&Request::stale_nanoseconds, now_nanoseconds, &requests, &late,
            &next_stale_nanoseconds_);
  }
  if (!has_room_for_get()) {
    MoveDue(&Request::stale_nanoseconds, now_nanoseconds, &waiting_, &late,
            &next_stale_nanoseconds_);
  }
  GiveStale(*stale, std::move(late));
}

int64_t RedisBackendResolver::Impl::NextGetNanoseconds(
    int64_t now_nanoseconds) const {
  const auto failure = log_->FindFailure(now_nanoseconds);
  return std::max(pace_.NextNanoseconds(),
                  failure.has_value() ? failure->until_nanoseconds : INT64_MIN);
}

void RedisBackendResolver::Impl::SendGet() {
  for (Request& request : waiting_) ++request.gets;
  in_flight_.push_back(std::exchange(waiting_, {}));
  next_deadline_nanoseconds_ = Connection::kNever;
  pace_.Count(clock_->NowNanoseconds());
  log_->CountGet();
  connection_.Send({"GET", options_.backend_key});
}

bool RedisBackendResolver::Impl::OnIdle() {
  // After a failure a GET shows more than a PING.
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (log_->last().ok() ||
      now_nanoseconds < NextGetNanoseconds(now_nanoseconds)) {
    return false;
  }
  SendGet();
  return true;
}

void RedisBackendResolver::Impl::OnReply(const redisReply& reply) {
  switch (reply.type) {
    case REDIS_REPLY_STRING:
      OnValue(ReplyText(reply), TakeOldest());
      return;
    case REDIS_REPLY_NIL:
      OnNoBackend(absl::NotFoundError(absl::StrCat(key_name_, " is missing")));
      return;
    case REDIS_REPLY_ERROR: {
      const absl::string_view text = ReplyText(reply);
      const absl::Status status = connection_.ErrorToStatus(reply);
      if (IsLoginRevoked(reply)) {
        OnLoginRevoked(About(key_name_, status));
        return;
      }
      // The key is wrong, not Redis.
      if (absl::StartsWith(text, "WRONGTYPE")) {
        OnNoBackend(
            About(key_name_, absl::InvalidArgumentError(status.message())));
      } else {
        OnError(About(key_name_, status));
      }
      connection_.OnErrorReply(reply);
      return;
    }
    default: {
      const absl::Status status =
          absl::DataLossError("the reply to GET is not a string");
      OnError(About(key_name_, status));
      connection_.Drop(status);
      return;
    }
  }
}

void RedisBackendResolver::Impl::OnValue(absl::string_view value,
                                         Requests requests) {
  // The latest deadline: the other requests may complete late.
  int64_t deadline_nanoseconds = INT64_MIN;
  for (const Request& request : requests) {
    deadline_nanoseconds =
        std::max(deadline_nanoseconds, request.deadline_nanoseconds);
  }
  const absl::Duration timeout =
      requests.empty()
          ? options_.command_timeout
          : absl::Nanoseconds(deadline_nanoseconds - clock_->NowNanoseconds());
  const ResultLog::ReplyId reply = log_->Begin(clock_->NowNanoseconds());
  ResolveBackendText(value, timeout, lookup_.get(),
                     [key_name = key_name_, log = log_, reply,
                      text = std::string(absl::StripAsciiWhitespace(value)),
                      requests = std::move(requests)](
                         absl::StatusOr<ResolveResult> backend) mutable {
                       if (backend.ok()) {
                         log->SetBackend(reply, *backend);
                       } else {
                         backend = About(key_name, backend.status());
                         log->SetNoBackend(reply, text, backend.status());
                       }
                       CompleteAll(std::move(requests), backend, log.get());
                     });
}

void RedisBackendResolver::Impl::Fail(Requests requests,
                                      const absl::Status& why) {
  // The codes of `BackendResolver::Resolve`: a violation of the protocol is an
  // outage.
  absl::Status status = why;
  if (absl::IsDataLoss(why) || absl::IsResourceExhausted(why)) {
    status = absl::UnavailableError(why.message());
  }
  CompleteAll(std::move(requests), status, log_.get());
}

void RedisBackendResolver::Impl::FailOrServeStale(Requests requests,
                                                  const absl::Status& why) {
  if (ServeStale(&requests)) return;
  Fail(std::move(requests), why);
}

bool RedisBackendResolver::Impl::ServeStale(Requests* requests) {
  const auto stale = log_->FindStale(clock_->NowNanoseconds());
  if (!stale.has_value()) return false;
  GiveStale(*stale, std::exchange(*requests, {}));
  return true;
}

void RedisBackendResolver::Impl::GiveStale(const ResultLog::Stale& stale,
                                           Requests requests) {
  if (requests.empty()) return;
  int64_t suppressed;
  if (options_.log_sink != nullptr && stale_limiter_.Admit(&suppressed)) {
    options_.log_sink(
        LogSeverity::kWarning,
        absl::StrCat(
            "Redis ", options_.address,
            " is unavailable: new sessions get the last known backend, ",
            stale.backend.label, ", received ", absl::ToInt64Seconds(stale.age),
            " s ago"));
  }
  log_->CountStale(requests.size());
  CompleteAll(std::move(requests), stale.backend, log_.get());
}

Requests RedisBackendResolver::Impl::TakeOldest() {
  Requests requests = std::move(in_flight_.front());
  in_flight_.pop_front();
  return requests;
}

void RedisBackendResolver::Impl::OnNoBackend(const absl::Status& why) {
  log_->SetNoBackend(log_->Begin(clock_->NowNanoseconds()), "", why);
  Fail(TakeOldest(), why);
}

void RedisBackendResolver::Impl::OnError(const absl::Status& why) {
  log_->SetRedisAway(log_->Begin(clock_->NowNanoseconds()), why);
  FailOrServeStale(TakeOldest(), why);
}

void RedisBackendResolver::Impl::OnLoginRevoked(const absl::Status& why) {
  // The requests are asked again after the next login. If that has not helped,
  // this is an error like others.
  const Requests& oldest = in_flight_.front();
  const bool is_repeated =
      std::any_of(oldest.begin(), oldest.end(),
                  [](const Request& request) { return request.gets > 1; });
  if (oldest.empty() || is_repeated) OnError(why);
  connection_.DropClosed(why);
}

void RedisBackendResolver::Impl::OnLost(const absl::Status& why) {
  // The connection ended because a value was too long: that was the reply to
  // the oldest GET.
  if (absl::IsResourceExhausted(why) && !in_flight_.empty()) {
    OnNoBackend(About(key_name_, absl::InvalidArgumentError(why.message())));
  }
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (connection_.was_closed_in_use()) {
    reconnect_wait_end_nanoseconds_ =
        now_nanoseconds + absl::ToInt64Nanoseconds(options_.reconnect_patience);
  }
  if (connection_.was_closed_in_use() && IsAwaitingReconnect(now_nanoseconds)) {
    Requeue(why);
  }
  for (Requests& requests : std::exchange(in_flight_, {})) {
    FailOrServeStale(std::move(requests), why);
  }
  if (!IsAwaitingReconnect(now_nanoseconds)) {
    FailOrServeStale(std::exchange(waiting_, {}), why);
  } else if (!waiting_.empty() && !ServeStale(&waiting_)) {
    connection_.ReconnectSoon();
  }
}

void RedisBackendResolver::Impl::Requeue(const absl::Status& why) {
  Requests again;
  Requests failed;
  for (Requests& requests : std::exchange(in_flight_, {})) {
    for (Request& request : requests) {
      (request.gets < kGetsPerRequestMax ? again : failed)
          .push_back(std::move(request));
    }
  }
  FailOrServeStale(std::move(failed), why);
  if (again.empty() || ServeStale(&again)) return;
  log_->CountRepeated(again.size());
  for (const Request& request : again) {
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, request.deadline_nanoseconds);
    next_stale_nanoseconds_ =
        std::min(next_stale_nanoseconds_, request.stale_nanoseconds);
  }
  // Older than the waiting requests.
  again.insert(again.end(), std::make_move_iterator(waiting_.begin()),
               std::make_move_iterator(waiting_.end()));
  waiting_ = std::move(again);
}

absl::StatusOr<std::shared_ptr<RedisBackendResolver>>
RedisBackendResolver::Create(RedisOptions options,
                             std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  auto impl = std::make_unique<Impl>(std::move(options), std::move(lookup));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::shared_ptr<RedisBackendResolver>(
      new RedisBackendResolver(std::move(impl)));
}

RedisBackendResolver::RedisBackendResolver(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisBackendResolver::~RedisBackendResolver() = default;

void RedisBackendResolver::Resolve(const ResolveRequest& request,
                                   Callback done) {
  impl_->Resolve(request, std::move(done));
}

absl::Status RedisBackendResolver::Health() const { return impl_->Health(); }

RedisBackendResolverStats RedisBackendResolver::GetStats() const {
  return impl_->GetStats();
}

}  // namespace udpgate
