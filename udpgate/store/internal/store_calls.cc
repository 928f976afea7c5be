#include "udpgate/store/internal/store_calls.h"

#include <algorithm>

#include "absl/time/time.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

constexpr absl::Duration kBackoffMin = absl::Milliseconds(50);
constexpr absl::Duration kBackoffMax = absl::Seconds(2);
constexpr absl::Duration kRateWait = absl::Milliseconds(10);

// The store must give a result for each argument.
template <typename T>
bool HasCount(const std::vector<T>& results, size_t count) {
  return results.size() == count;
}
template <typename T>
bool HasCount(const T& /*result*/, size_t /*count*/) {
  return true;
}

}  // namespace

// What the store gets as `done`. Destroyed uncalled, the call has failed.
template <typename T>
class StoreCalls::Reply {
 public:
  Reply(Post post, absl::AnyInvocable<void(absl::StatusOr<T>)> result)
      : post_(std::move(post)), result_(std::move(result)) {}
  Reply(Reply&& other) noexcept = default;
  Reply& operator=(Reply&&) = delete;
  ~Reply() {
    if (result_ != nullptr) {
      (*this)(absl::UnavailableError("the store has given no result"));
    }
  }

  void operator()(absl::StatusOr<T> given) {
    post_([result = std::exchange(result_, nullptr),
           given = std::move(given)]() mutable { result(std::move(given)); });
  }

 private:
  Post post_;
  absl::AnyInvocable<void(absl::StatusOr<T>)> result_;
};

StoreCalls::StoreCalls(KeeperContext* context,
                       std::shared_ptr<SessionStore> store, Post post)
    : context_(context),
      store_(std::move(store)),
      post_(std::move(post)),
      change_rate_(context->options->calls_per_second_max),
      backoff_(kBackoffMin) {}

int StoreCalls::LimitOf(Kind kind) const {
  const int limit = context_->options->calls_in_flight_max;
  return kind == Kind::kChange ? limit : std::max(1, limit / 2);
}

bool StoreCalls::Admit(Kind kind) {
  if (kind == Kind::kOther) return true;
  const int64_t now = context_->now_nanoseconds;
  if (in_flight_[static_cast<size_t>(kind)] >= LimitOf(kind)) return false;
  if (kind == Kind::kFind) return true;
  if (now < retry_nanoseconds_) return false;
  is_limited_by_rate_ = !change_rate_.Fits(now, &changes_full_nanoseconds_);
  return !is_limited_by_rate_;
}

int64_t StoreCalls::next_nanoseconds() const {
  int64_t next = kNever;
  if (is_limited_by_rate_) next = context_->After(kRateWait);
  if (retry_nanoseconds_ > context_->now_nanoseconds) {
    next = std::min(next, retry_nanoseconds_);
  }
  for (const auto& [id, call] : calls_) {
    next = std::min(next, call.end_nanoseconds);
  }
  return next;
}

template <typename T>
SessionStore::Done<T> StoreCalls::Begin(Kind kind, size_t count, bool is_change,
                                        Result<T> result,
                                        absl::Duration timeout) {
  const uint64_t id = next_id_++;
  if (first_call_nanoseconds_ == kNever) {
    first_call_nanoseconds_ = context_->now_nanoseconds;
  }
  ++context_->stats.calls;
  ++in_flight_[static_cast<size_t>(kind)];
  auto shared = std::make_shared<Result<T>>(std::move(result));
  calls_.emplace(
      id,
      Call{kind, context_->now_nanoseconds, context_->After(timeout), is_change,
           [shared](absl::Status status) { (*shared)(std::move(status)); }});
  return Reply<T>(post_, [this, id, count, shared](absl::StatusOr<T> given) {
    if (given.ok() && count != kAnyCount && !HasCount(*given, count)) {
      given = absl::InternalError(
          "the store has given more or fewer results than it was asked for");
    }
    if (End(id, given.status())) (*shared)(std::move(given));
  });
}

bool StoreCalls::End(uint64_t id, const absl::Status& status) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return false;
  const Call& call = found->second;
  --in_flight_[static_cast<size_t>(call.kind)];
  if (status.ok()) {
    is_available_ = true;
    has_replied_ = true;
    backoff_ = kBackoffMin;
    retry_nanoseconds_ = 0;
    const double seconds = absl::ToDoubleSeconds(
        absl::Nanoseconds(context_->now_nanoseconds - call.start_nanoseconds));
    size_t bucket = 0;
    while (bucket < kStoreSecondsBounds.size() &&
           seconds > kStoreSecondsBounds[bucket]) {
      ++bucket;
    }
    ++context_->stats.calls_by_duration[bucket];
    context_->stats.calls_seconds_total += seconds;
  } else {
    Fail(call, status);
  }
  calls_.erase(found);
  return true;
}

void StoreCalls::Fail(const Call& call, const absl::Status& status) {
  ++context_->stats.calls_failed;
  // Too much waits: it is there, and changes must slow down.
  if (!absl::IsResourceExhausted(status)) is_available_ = false;
  if (call.is_change) uncertain_nanoseconds_ = context_->now_nanoseconds;
  retry_nanoseconds_ = context_->After(backoff_);
  backoff_ = std::min(backoff_ * 2, kBackoffMax);
  // At a start the store may not be connected yet.
  if (!has_replied_ &&
      absl::Nanoseconds(context_->now_nanoseconds - first_call_nanoseconds_) <
          context_->options->recovery_connect_timeout) {
    return;
  }
  context_->Log(
      LogSeverity::kWarning, LogTopic::kStore,
      absl::StrCat("session store: ", status.message(),
                   "; sessions go on, their records are written later"));
}

void StoreCalls::Tick() {
  const auto is_due = [now = context_->now_nanoseconds](const auto& entry) {
    return entry.second.end_nanoseconds <= now;
  };
  while (true) {
    const auto due = std::find_if(calls_.begin(), calls_.end(), is_due);
    if (due == calls_.end()) return;
    auto fail = std::move(due->second.fail);
    absl::Status status = absl::UnavailableError("no result in time");
    End(due->first, status);
    fail(std::move(status));
  }
}

void StoreCalls::Write(std::vector<StoredSession> sessions,
                       Result<Outcomes> result) {
  auto done =
      Begin<Outcomes>(Kind::kChange, sessions.size(), true, std::move(result));
  store_->Write(std::move(sessions), context_->options->record_lifetime,
                std::move(done));
}

void StoreCalls::Refresh(std::vector<SessionStore::SessionKey> keys,
                         Result<Outcomes> result) {
  auto done =
      Begin<Outcomes>(Kind::kChange, keys.size(), false, std::move(result));
  store_->Refresh(std::move(keys), context_->options->record_lifetime,
                  std::move(done));
}

void StoreCalls::Remove(std::vector<SessionStore::SessionKey> keys,
                        Result<Outcomes> result) {
  auto done =
      Begin<Outcomes>(Kind::kChange, keys.size(), true, std::move(result));
  store_->Remove(std::move(keys), std::move(done));
}

void StoreCalls::Adopt(std::vector<SessionStore::Adoption> adoptions,
                       Result<Outcomes> result, Kind kind) {
  auto done = Begin<Outcomes>(kind, adoptions.size(), true, std::move(result));
  store_->Adopt(std::move(adoptions), context_->options->record_lifetime,
                std::move(done));
}

void StoreCalls::Find(std::vector<SocketAddress> clients,
                      Result<std::vector<SessionStore::Found>> result,
                      Kind kind) {
  auto done = Begin<std::vector<SessionStore::Found>>(kind, clients.size(),
                                                      false, std::move(result));
  store_->Find(std::move(clients), std::move(done));
}

void StoreCalls::List(const std::string& gateway_id,
                      Result<std::vector<StoredSession>> result) {
  store_->List(gateway_id, Begin<std::vector<StoredSession>>(
                               Kind::kOther, kAnyCount, false,
                               std::move(result), kListTimeout));
}

void StoreCalls::ListClients(const std::string& gateway_id,
                             Result<std::vector<SocketAddress>> result) {
  store_->ListClients(
      gateway_id, Begin<std::vector<SocketAddress>>(Kind::kOther, kAnyCount,
                                                    false, std::move(result)));
}

void StoreCalls::ListGateways(
    Result<std::vector<SessionStore::Gateway>> result) {
  store_->ListGateways(Begin<std::vector<SessionStore::Gateway>>(
      Kind::kOther, kAnyCount, false, std::move(result)));
}

void StoreCalls::RenewLease(GatewayLease lease, absl::Duration lifetime,
                            Result<absl::optional<GatewayLease>> result) {
  store_->RenewLease(std::move(lease), lifetime,
                     Begin<absl::optional<GatewayLease>>(
                         Kind::kOther, kAnyCount, false, std::move(result)));
}

void StoreCalls::EndLease(const GatewayLease& lease,
                          Result<SessionStore::Outcome> result) {
  store_->EndLease(lease,
                   Begin<SessionStore::Outcome>(Kind::kOther, kAnyCount, false,
                                                std::move(result)));
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
