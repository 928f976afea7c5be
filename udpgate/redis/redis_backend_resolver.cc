#include "udpgate/redis/redis_backend_resolver.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/internal/key_sets.h"
#include "udpgate/redis/key_templates.h"
#include "udpgate/redis/redis_backend_resolver_impl.h"

namespace udpgate {
namespace {

using redis::internal::MoveDue;

constexpr absl::Duration kTimeoutMax = absl::Hours(1);

// The wait for a stale result ends at multiples of this, so that one scan of
// the pending requests serves many of them.
constexpr int64_t kStaleStepNanoseconds = 10'000'000;

constexpr absl::Duration kStaleLogInterval = absl::Seconds(10);

}  // namespace

RedisBackendResolver::Impl::Impl(RedisOptions options,
                                 std::shared_ptr<HostLookup> lookup)
    : options_(RedisOptions::WithClock(options.ForAnyNode())),
      clock_(options_.clock),
      templates_(*KeyTemplates::Parse(options_.backend_key)),
      is_constant_(templates_.is_constant()),
      lookup_(std::move(lookup)),
      log_(std::make_shared<ResultLog>(
          options_.failure_pause, is_constant_ ? options_.stale_backend_age_max
                                               : absl::ZeroDuration())),
      key_sets_(options_.key_sets_max, options_.failure_pause,
                options_.stale_backend_age_max),
      pace_(options_.gets_per_second_max),
      stale_limiter_(clock_, kStaleLogInterval),
      connection_(options_, lookup_, "backend key", "udpgate-redis-g", this) {
  if (is_constant_) {
    constant_keys_ =
        std::make_shared<KeySet>(templates_.Fill(ResolveRequest()), log_);
    health_keys_ = constant_keys_;
  }
  if (options_.nodes == nullptr) return;
  reader_ = std::make_unique<redis::internal::ClusterReader>(
      options_, lookup_, [this] { connection_.Wake(); },
      [this](uint64_t question, size_t key_index,
             redis::internal::KeyResult result) {
        OnKeyResult(question, key_index, std::move(result));
      });
}

void RedisBackendResolver::Impl::OnConnected() {
  reconnect_wait_end_nanoseconds_ = INT64_MIN;
  connection_.LogRecovery(absl::StrCat(
      "connected, backends come from ",
      is_constant_ ? DescribeKeys(constant_keys_->keys)
                   : DescribeKeys(absl::StrSplit(options_.backend_key,
                                                 absl::ByAnyChar(" \t\r\n\v\f"),
                                                 absl::SkipEmpty()))));
}

void RedisBackendResolver::Impl::Resolve(const ResolveRequest& request,
                                         Callback done) {
  std::vector<std::string> keys;
  if (!is_constant_) {
    keys = templates_.Fill(request);
    if (keys.empty()) {
      done(absl::NotFoundError("no key can be filled in for this client"));
      return;
    }
  }
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
    incoming_.push_back({std::move(keys),
                         {deadline_nanoseconds, stale_nanoseconds,
                          request.client, std::move(done)}});
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
  stats.key_sets = key_sets_.size();
  stats.key_sets_forgotten = key_sets_.forgotten();
  stats.is_connected = connection_.Health().ok();
  stats.problem = connection_.problem();
  if (reader_ != nullptr) {
    const auto nodes = reader_->GetStats();
    stats.gets_sent += nodes.gets_sent_again;
    stats.nodes_connected = nodes.nodes_connected;
    stats.nodes_refused = nodes.nodes_refused;
  }
  return stats;
}

int64_t RedisBackendResolver::Impl::OnIteration(int64_t now_nanoseconds) {
  const int64_t reader_nanoseconds =
      reader_ == nullptr ? Connection::kNever
                         : reader_->OnIteration(now_nanoseconds);
  TakeIncoming(now_nanoseconds);
  ServeStaleToLate(now_nanoseconds);
  Fail(waiting_.TakeExpired(now_nanoseconds),
       absl::DeadlineExceededError(
           absl::StrCat("Redis ", options_.address, ": no reply in time")));
  ApplyRecentFailures(now_nanoseconds);
  FailIfDisconnected(now_nanoseconds);
  bool any_may_be_sent = false;
  const int64_t get_nanoseconds = SendGets(now_nanoseconds, &any_may_be_sent);
  int64_t next_nanoseconds =
      std::min(next_stale_nanoseconds_, reader_nanoseconds);
  if (waiting_.is_empty()) return next_nanoseconds;
  next_nanoseconds = std::min({waiting_.next_deadline_nanoseconds(),
                               next_nanoseconds, get_nanoseconds});
  if (IsAwaitingReconnect(now_nanoseconds)) {
    next_nanoseconds =
        std::min(next_nanoseconds, reconnect_wait_end_nanoseconds_);
  }
  if (any_may_be_sent) return next_nanoseconds;
  internal::MutexLock lock(&mutex_);
  next_iteration_nanoseconds_ = next_nanoseconds;
  return next_nanoseconds;
}

void RedisBackendResolver::Impl::TakeIncoming(int64_t now_nanoseconds) {
  std::vector<Incoming> incoming;
  {
    internal::MutexLock lock(&mutex_);
    incoming.swap(incoming_);
    next_iteration_nanoseconds_ = Connection::kNever;
  }
  if (incoming.empty()) return;
  std::vector<SharedKeySet> new_sets;
  for (Incoming& one : incoming) {
    SharedKeySet keys =
        one.keys.empty() ? constant_keys_
                         : key_sets_.Find(std::move(one.keys), now_nanoseconds);
    next_stale_nanoseconds_ =
        std::min(next_stale_nanoseconds_, one.request.stale_nanoseconds);
    waiting_.Add(keys, std::move(one.request), now_nanoseconds);
    if (new_sets.empty() || new_sets.back() != keys) {
      new_sets.push_back(std::move(keys));
    }
  }
  connection_.ReconnectSoon();
  for (const SharedKeySet& keys : new_sets) {
    if (!can_ask()) {
      ServeStale(*keys, &keys->waiting);
    } else if (!is_constant_) {
      ApplyRecentFailure(now_nanoseconds, keys.get());
    }
    waiting_.Prune(keys.get());
  }
}

void RedisBackendResolver::Impl::FailIfDisconnected(int64_t now_nanoseconds) {
  if (waiting_.is_empty() || !connection_.is_waiting() || uses_cluster() ||
      IsAwaitingReconnect(now_nanoseconds)) {
    return;
  }
  Fail(waiting_.TakeAll(), connection_.Health());
}

void RedisBackendResolver::Impl::ApplyRecentFailure(int64_t now_nanoseconds,
                                                    KeySet* keys) {
  auto failure = keys->log->FindFailure(now_nanoseconds);
  if (!failure.has_value()) failure = log_->FindFailure(now_nanoseconds);
  if (!failure.has_value()) return;
  if (failure->is_redis_away && ServeStale(*keys, &keys->waiting)) return;
  Requests failed;
  int64_t next_nanoseconds = Connection::kNever;
  MoveDue(&Request::deadline_nanoseconds, failure->until_nanoseconds,
          &keys->waiting, &failed, &next_nanoseconds);
  Fail(std::move(failed), failure->why);
}

// With keys of their own, there may be many sets: those that come, and those
// whose question fails, are looked at then. An error concerns all.
void RedisBackendResolver::Impl::ApplyRecentFailures(int64_t now_nanoseconds) {
  const bool must_apply = is_constant_ || has_new_error_;
  has_new_error_ = false;
  if (!must_apply || !can_ask()) return;
  waiting_.ForEach(
      [&](KeySet* keys) { ApplyRecentFailure(now_nanoseconds, keys); });
}

// If there is room for a GET, the waiting requests wait for the rate limit or
// the pause, not for Redis.
void RedisBackendResolver::Impl::ServeStaleToLate(int64_t now_nanoseconds) {
  if (now_nanoseconds < next_stale_nanoseconds_) return;
  next_stale_nanoseconds_ = Connection::kNever;
  const auto serve = [&](const KeySet& keys, Requests* requests) {
    const auto stale = keys.log->FindStale(now_nanoseconds);
    if (!stale.has_value()) return;
    Requests late;
    MoveDue(&Request::stale_nanoseconds, now_nanoseconds, requests, &late,
            &next_stale_nanoseconds_);
    GiveStale(*stale, std::move(late));
  };
  for (auto& flight : in_flight_) {
    serve(*flight.second.keys, &flight.second.requests);
  }
  if (has_room_for_get()) return;
  waiting_.ForEach([&](KeySet* keys) { serve(*keys, &keys->waiting); });
}

int64_t RedisBackendResolver::Impl::NextGetNanoseconds(
    int64_t now_nanoseconds) const {
  const auto failure = log_->FindFailure(now_nanoseconds);
  return std::max(pace_.NextNanoseconds(),
                  failure.has_value() ? failure->until_nanoseconds : INT64_MIN);
}

int64_t RedisBackendResolver::Impl::SendGets(int64_t now_nanoseconds,
                                             bool* any_may_be_sent) {
  // The sets that may be asked for now are one batch, which counts once.
  bool is_counted = false;
  while (!waiting_.is_empty()) {
    if (!can_ask() || !has_room_for_get()) {
      return Connection::kNever;
    }
    const int64_t any_nanoseconds =
        is_counted ? INT64_MIN : NextGetNanoseconds(now_nanoseconds);
    const int64_t get_nanoseconds =
        std::max(any_nanoseconds, waiting_.NextNanoseconds());
    if (now_nanoseconds < get_nanoseconds) {
      *any_may_be_sent = !is_constant_ && now_nanoseconds >= any_nanoseconds;
      return get_nanoseconds;
    }
    Requests requests;
    SharedKeySet keys = waiting_.TakeFirst(now_nanoseconds, &requests);
    if (keys == nullptr) continue;
    if (!is_counted) pace_.Count(clock_->NowNanoseconds());
    is_counted = true;
    SendGet(std::move(keys), std::move(requests));
  }
  return Connection::kNever;
}

void RedisBackendResolver::Impl::SendGet(SharedKeySet keys, Requests requests) {
  for (Request& request : requests) ++request.gets;
  const uint64_t id = ++last_flight_;
  const bool by_reader = uses_cluster();
  for (size_t i = 0; i < keys->keys.size(); ++i) {
    log_->CountGet();
    if (by_reader) {
      reader_->Ask(id, i, keys->keys[i], "", "");
    } else {
      connection_.Send({"GET", keys->keys[i]});
    }
  }
  if (!by_reader) on_connection_.push_back(id);
  Flight& flight = in_flight_[id];
  flight.keys = std::move(keys);
  flight.requests = std::move(requests);
}

bool RedisBackendResolver::Impl::OnIdle() {
  // After a failure a GET shows more than a PING.
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (log_->last().ok() || health_keys_ == nullptr ||
      now_nanoseconds < NextGetNanoseconds(now_nanoseconds)) {
    return false;
  }
  pace_.Count(clock_->NowNanoseconds());
  SendGet(health_keys_, {});
  return !uses_cluster();
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
