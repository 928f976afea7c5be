// What becomes of requests: the replies to them, and the end of a connection.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/dns/backend_list.h"
#include "udpgate/internal/util/unshared_status.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/internal/slot_map.h"
#include "udpgate/redis/redis_backend_resolver_impl.h"

namespace udpgate {
namespace {

using redis::internal::IsLoginRevoked;
using redis::internal::IsRedirect;
using redis::internal::IsTemporaryError;
using redis::internal::kGetsPerRequestMax;
using redis::internal::ReplyText;
using redis::internal::Request;
using redis::internal::Requests;
using redis::internal::ResultLog;

absl::Status About(absl::string_view name, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(name, ": ", status.message()));
}

// Each client gets its own of several backends.
void CompleteAll(Requests requests, const BackendList& backends,
                 ResultLog* log) {
  log->CountCompleted(requests.size());
  for (Request& request : requests) {
    request.done(backends.Choose(request.client));
  }
}

void FailAll(Requests requests, const absl::Status& why, ResultLog* log) {
  log->CountCompleted(requests.size());
  for (Request& request : requests) request.done(internal::Unshared(why));
}

}  // namespace

void RedisBackendResolver::Impl::OnReply(const redisReply& reply) {
  const uint64_t id = on_connection_.front();
  Flight& flight = in_flight_.find(id)->second;
  const size_t index = flight.connection_replies++;
  if (reply.type != REDIS_REPLY_ERROR &&
      connection_.problem() != RedisProblem::kNone) {
    connection_.LogRecovery("replies without errors again");
  }
  if (reader_ != nullptr && reply.type == REDIS_REPLY_ERROR &&
      IsRedirect(ReplyText(reply))) {
    reader_->Ask(id, index, flight.keys->keys[index], ReplyText(reply),
                 connection_.target());
  } else if (index != flight.replies) {  // an earlier key was redirected
    flight.early.emplace(index, ResultOf(reply));
  } else {
    OnKeyReply(reply, &flight);
  }
  const auto found = in_flight_.find(id);
  if (found == in_flight_.end()) return;  // a lost connection has ended it
  const size_t key_count = found->second.keys->keys.size();
  if (found->second.connection_replies == key_count) {
    on_connection_.pop_front();
  }
  Advance(found);
}

void RedisBackendResolver::Impl::OnKeyReply(const redisReply& reply,
                                            Flight* flight) {
  const SharedKeySet keys = flight->keys;
  const std::string& key = keys->keys[flight->replies++];
  const bool is_login_revoked =
      reply.type == REDIS_REPLY_ERROR && IsLoginRevoked(reply);
  if (!is_login_revoked) was_login_revoked_ = false;
  if (flight->is_decided) {
    if (is_login_revoked) {
      connection_.DropClosed(connection_.ErrorToStatus(reply),
                             RedisProblem::kLogin);
    }
    return;
  }
  switch (reply.type) {
    case REDIS_REPLY_STRING:
      OnValue(ReplyText(reply), key, flight);
      return;
    case REDIS_REPLY_NIL:
      if (flight->replies < keys->keys.size()) return;
      OnNoBackend(absl::NotFoundError(absl::StrCat(
                      DescribeKeys(keys->keys),
                      keys->keys.size() == 1 ? " is missing" : " are missing")),
                  flight);
      return;
    case REDIS_REPLY_ERROR: {
      const absl::string_view text = ReplyText(reply);
      const absl::Status status = connection_.ErrorToStatus(reply);
      if (is_login_revoked) {
        OnLoginRevoked(About(DescribeKeys({key}), status), flight);
        return;
      }
      // The key is wrong, not Redis.
      if (absl::StartsWith(text, "WRONGTYPE")) {
        OnNoBackend(About(DescribeKeys({key}),
                          absl::InvalidArgumentError(status.message())),
                    flight);
      } else {
        // With keys of their own, some clients may get an error and others not.
        if (is_constant_ || IsTemporaryError(text)) {
          connection_.LogErrorReply("GET", reply);
        }
        OnError(About(DescribeKeys({key}), status), flight);
      }
      connection_.OnErrorReply(reply);
      return;
    }
    default: {
      const absl::Status status =
          absl::DataLossError("the reply to GET is not a string");
      OnError(About(DescribeKeys({key}), status), flight);
      connection_.Drop(status);
      return;
    }
  }
}

void RedisBackendResolver::Impl::OnValue(absl::string_view value,
                                         const std::string& key,
                                         Flight* flight) {
  const std::shared_ptr<ResultLog> result_log = flight->keys->log;
  Requests requests = Decide(flight);
  // The latest deadline: the other requests may complete late.
  int64_t deadline_nanoseconds = INT64_MIN;
  for (const Request& request : requests) {
    deadline_nanoseconds =
        std::max(deadline_nanoseconds, request.deadline_nanoseconds);
  }
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  const absl::Duration timeout =
      requests.empty()
          ? options_.command_timeout
          : absl::Nanoseconds(deadline_nanoseconds - now_nanoseconds);
  // Redis works, whatever the value is.
  if (!is_constant_) log_->SetBackend(log_->Begin(now_nanoseconds), {});
  const ResultLog::ReplyId reply = result_log->Begin(now_nanoseconds);
  ResolveBackendList(
      value, timeout, lookup_.get(),
      [key_name = DescribeKeys({key}), result_log, log = log_, reply,
       text = std::string(absl::StripAsciiWhitespace(value)),
       requests = std::move(requests)](
          absl::StatusOr<std::shared_ptr<const BackendList>> backends) mutable {
        if (backends.ok()) {
          result_log->SetBackend(reply, *backends);
          CompleteAll(std::move(requests), **backends, log.get());
          return;
        }
        const absl::Status why = About(key_name, backends.status());
        result_log->SetNoBackend(reply, text, why);
        FailAll(std::move(requests), why, log.get());
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
  FailAll(std::move(requests), status, log_.get());
}

void RedisBackendResolver::Impl::FailOrServeStale(const KeySet& keys,
                                                  Requests requests,
                                                  const absl::Status& why) {
  if (ServeStale(keys, &requests)) return;
  Fail(std::move(requests), why);
}

void RedisBackendResolver::Impl::FailOrServeStaleToWaiting(
    const absl::Status& why) {
  waiting_.ForEach([&](KeySet* keys) {
    FailOrServeStale(*keys, std::exchange(keys->waiting, {}), why);
  });
}

bool RedisBackendResolver::Impl::ServeStale(const KeySet& keys,
                                            Requests* requests) {
  const auto stale = keys.log->FindStale(clock_->NowNanoseconds());
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
            stale.backends->text(), ", received ",
            absl::ToInt64Seconds(stale.age), " s ago"));
  }
  log_->CountStale(requests.size());
  CompleteAll(std::move(requests), *stale.backends, log_.get());
}

Requests RedisBackendResolver::Impl::Decide(Flight* flight) {
  flight->is_decided = true;
  return std::exchange(flight->requests, {});
}

void RedisBackendResolver::Impl::OnNoBackend(const absl::Status& why,
                                             Flight* flight) {
  const SharedKeySet keys = flight->keys;
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  keys->log->SetNoBackend(keys->log->Begin(now_nanoseconds), "", why);
  Fail(Decide(flight), why);
  if (is_constant_) return;
  // Redis works.
  log_->SetBackend(log_->Begin(now_nanoseconds), {});
  ApplyRecentFailure(now_nanoseconds, keys.get());
  waiting_.Prune(keys.get());
}

void RedisBackendResolver::Impl::OnError(const absl::Status& why,
                                         Flight* flight) {
  const SharedKeySet keys = flight->keys;
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (uses_cluster() && !is_constant_) {
    // Nodes that own other keys may work.
    keys->log->SetRedisAway(keys->log->Begin(now_nanoseconds), why);
    FailOrServeStale(*keys, Decide(flight), why);
    ApplyRecentFailure(now_nanoseconds, keys.get());
    waiting_.Prune(keys.get());
    return;
  }
  log_->SetRedisAway(log_->Begin(now_nanoseconds), why);
  health_keys_ = keys;
  has_new_error_ = true;
  FailOrServeStale(*keys, Decide(flight), why);
}

void RedisBackendResolver::Impl::OnLoginRevoked(const absl::Status& why,
                                                Flight* flight) {
  // The requests are asked again after the next login. If that has not helped,
  // this is an error like others. Those that get a stale result are not asked
  // again, so what the last login has brought counts, too.
  const Requests& oldest = flight->requests;
  const bool is_repeated =
      std::exchange(was_login_revoked_, true) ||
      std::any_of(oldest.begin(), oldest.end(),
                  [](const Request& request) { return request.gets > 1; });
  if (oldest.empty() || is_repeated) OnError(why, flight);
  connection_.DropClosed(why, RedisProblem::kLogin);
}

void RedisBackendResolver::Impl::OnLost(const absl::Status& why) {
  // The connection ended because a value was too long: that was the reply to
  // the oldest GET.
  if (absl::IsResourceExhausted(why) && !on_connection_.empty()) {
    Flight& oldest = in_flight_.find(on_connection_.front())->second;
    if (!oldest.is_decided) {
      OnNoBackend(
          About(DescribeKeys({oldest.keys->keys[oldest.connection_replies]}),
                absl::InvalidArgumentError(why.message())),
          &oldest);
    }
  }
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (connection_.was_closed_in_use()) {
    reconnect_wait_end_nanoseconds_ =
        now_nanoseconds + absl::ToInt64Nanoseconds(options_.reconnect_patience);
  }
  const bool is_requeued = (connection_.was_closed_in_use() &&
                            IsAwaitingReconnect(now_nanoseconds)) ||
                           uses_cluster();
  Flights lost;
  for (const uint64_t id : std::exchange(on_connection_, {})) {
    lost.insert(in_flight_.extract(id));
  }
  if (is_requeued) {
    Requeue(&lost, why);
  } else {
    for (auto& flight : lost) {
      FailOrServeStale(*flight.second.keys, std::move(flight.second.requests),
                       why);
    }
  }
  if (uses_cluster()) return;
  if (!IsAwaitingReconnect(now_nanoseconds)) {
    FailOrServeStaleToWaiting(why);
    return;
  }
  waiting_.ForEach([&](KeySet* keys) { ServeStale(*keys, &keys->waiting); });
  if (!waiting_.is_empty()) connection_.ReconnectSoon();
}

void RedisBackendResolver::Impl::Requeue(Flights* flights,
                                         const absl::Status& why) {
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  // The oldest come first.
  for (auto flight = flights->rbegin(); flight != flights->rend(); ++flight) {
    Requests again;
    Requests failed;
    for (Request& request : flight->second.requests) {
      (request.gets < kGetsPerRequestMax ? again : failed)
          .push_back(std::move(request));
    }
    const SharedKeySet& keys = flight->second.keys;
    FailOrServeStale(*keys, std::move(failed), why);
    if (again.empty() || ServeStale(*keys, &again)) continue;
    log_->CountRepeated(again.size());
    for (const Request& request : again) {
      next_stale_nanoseconds_ =
          std::min(next_stale_nanoseconds_, request.stale_nanoseconds);
    }
    waiting_.AddInFront(keys, std::move(again), now_nanoseconds);
  }
}

}  // namespace udpgate
