#include "udpgate/redis/redis_sentinel.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unshared_status.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/sentinel_reply.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace {

using internal::MutexLock;
using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::ReadMasterAddress;
using redis::internal::ReadSwitchMaster;
using redis::internal::ReplyText;
using redis_ranges::kSentinelsMax;

constexpr char kChannel[] = "+switch-master";

absl::Status Invalid(absl::string_view field, absl::string_view allowed) {
  return OptionError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("RedisSentinelOptions::", field),
                     absl::StrCat(" must be ", allowed));
}

// The sentinel that is next in turn.
class SentinelTurn final : public RedisAddressSource {
 public:
  explicit SentinelTurn(std::vector<std::string> sentinels)
      : sentinels_(std::move(sentinels)) {}

  std::string current() const {
    MutexLock lock(&mutex_);
    return sentinels_.front();
  }
  void Next() {
    MutexLock lock(&mutex_);
    std::rotate(sentinels_.begin(), sentinels_.begin() + 1, sentinels_.end());
  }

  void Find(absl::Duration /*timeout*/, Found found) override {
    found(current());
  }
  void Watch(std::weak_ptr<const Watcher> /*watcher*/) override {}
  void Distrust() override {}
  bool names_masters() const override { return false; }

 private:
  mutable internal::Mutex mutex_;
  std::vector<std::string> sentinels_ ABSL_GUARDED_BY(mutex_);
};

RedisOptions OptionsOfConnection(const RedisSentinelOptions& options,
                                 std::shared_ptr<RedisAddressSource> turn) {
  RedisOptions result;
  result.address = absl::StrCat("Sentinel of ", options.master);
  result.address_source = std::move(turn);
  result.username = options.username;
  result.password = options.password;
  result.password_file = options.password_file;
  result.transport = options.transport;
  result.command_timeout = options.command_timeout;
  result.reconnect_backoff_min = options.reconnect_backoff_min;
  result.reconnect_backoff_max = options.reconnect_backoff_max;
  result.ping_interval = options.ping_interval;
  result.log_sink = options.log_sink;
  result.clock = options.clock;
  return result;
}

}  // namespace

absl::Status RedisSentinelOptions::Validate() const {
  if (sentinels.empty() || sentinels.size() > kSentinelsMax) {
    return Invalid("sentinels",
                   absl::StrCat("1 to ", kSentinelsMax, " addresses"));
  }
  for (const std::string& sentinel : sentinels) {
    const absl::StatusOr<HostPort> parsed = HostPort::Parse(sentinel);
    if (!parsed.ok()) {
      return OptionError(absl::StatusCode::kInvalidArgument,
                         "RedisSentinelOptions::sentinels",
                         absl::StrCat(": ", parsed.status().message()));
    }
  }
  if (!IsRedisMasterName(master)) {
    return Invalid("master", absl::StrCat("1 to ", redis_ranges::kNameBytesMax,
                                          " printable ASCII characters "
                                          "without spaces"));
  }
  if (questions_waiting_max < 1 || questions_waiting_max > 65536) {
    return Invalid("questions_waiting_max", "1 to 65536");
  }
  return OptionsOfConnection(*this, std::make_shared<SentinelTurn>(sentinels))
      .Validate();
}

class RedisSentinel::Impl final : public ConnectionOwner {
 public:
  Impl(RedisSentinelOptions options, std::shared_ptr<HostLookup> lookup)
      : options_(std::move(options)),
        clock_(options_.clock == nullptr ? Clock::Monotonic() : options_.clock),
        turn_(std::make_shared<SentinelTurn>(options_.sentinels)),
        connection_(OptionsOfConnection(options_, turn_), std::move(lookup),
                    "master's address", "udpgate-sentin", this) {}
  ~Impl() override { connection_.Stop(); }

  absl::Status Start() { return connection_.Start(); }
  const std::string& master() const { return options_.master; }
  absl::Status Health() const;
  RedisSentinelStats GetStats() const;
  void Find(absl::Duration timeout, Found found);
  void Watch(std::weak_ptr<const Watcher> watcher);
  void Distrust() {
    is_distrusted_.store(true);
    connection_.Wake();
  }

  void OnConnected() override;
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply& message) override;
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;
  bool takes_any_command() const override { return false; }

 private:
  struct Waiting {
    int64_t deadline_nanoseconds;
    Found found;
  };

  void Ask();
  void OnAddress(const redisReply& reply);
  void SetMaster(const std::string& host_port);
  // Completes those whose time is over; returns when the next one's is.
  int64_t Expire(int64_t now_nanoseconds);

  const RedisSentinelOptions options_;
  const Clock* const clock_;
  const std::shared_ptr<SentinelTurn> turn_;
  std::atomic<bool> is_distrusted_{false};
  std::atomic<bool> is_subscribed_{false};
  std::atomic<uint64_t> sentinels_failed_{0};
  std::atomic<uint64_t> master_changes_{0};
  std::atomic<uint64_t> questions_refused_{0};

  mutable internal::Mutex mutex_;
  // Why the last connection ended; not OK.
  absl::Status lost_ ABSL_GUARDED_BY(mutex_) =
      absl::UnavailableError("no Sentinel has replied yet");
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<const Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);

  // Used by the thread of the connection only. Those of `asked_` wait for a
  // reply to a question that was sent after they came.
  std::vector<Waiting> asked_;
  std::string master_;
  // Replies to come: first UNSUBSCRIBE's, if it was sent, then the address,
  // then SUBSCRIBE's.
  enum class Next { kNothing, kUnsubscribed, kAddress, kSubscribed };
  Next next_ = Next::kNothing;

  Connection connection_;
};

absl::Status RedisSentinel::Impl::Health() const {
  absl::Status health = connection_.Health();
  if (!health.ok() || is_subscribed_.load()) return health;
  MutexLock lock(&mutex_);
  return internal::Unshared(lost_);
}

RedisSentinelStats RedisSentinel::Impl::GetStats() const {
  RedisSentinelStats stats;
  stats.is_subscribed = is_subscribed_.load();
  stats.sentinels_failed = sentinels_failed_.load();
  stats.master_changes = master_changes_.load();
  stats.questions_refused = questions_refused_.load();
  stats.problem = connection_.problem();
  return stats;
}

void RedisSentinel::Impl::Find(absl::Duration timeout, Found found) {
  const int64_t deadline_nanoseconds =
      clock_->NowNanoseconds() + absl::ToInt64Nanoseconds(timeout);
  {
    MutexLock lock(&mutex_);
    if (waiting_.size() < static_cast<size_t>(options_.questions_waiting_max)) {
      waiting_.push_back({deadline_nanoseconds, std::move(found)});
      found = nullptr;
    }
  }
  if (found != nullptr) {
    questions_refused_.fetch_add(1);
    found(absl::ResourceExhaustedError("too many questions to Sentinel"));
  }
  connection_.Wake();
}

void RedisSentinel::Impl::Watch(std::weak_ptr<const Watcher> watcher) {
  MutexLock lock(&mutex_);
  watchers_.erase(
      std::remove_if(watchers_.begin(), watchers_.end(),
                     [](const auto& other) { return other.expired(); }),
      watchers_.end());
  watchers_.push_back(std::move(watcher));
}

void RedisSentinel::Impl::OnConnected() {
  is_distrusted_.store(false);  // it was about another sentinel
  Ask();
}

// A subscription takes no other command (RESP2), so it ends for the question.
// What is published meanwhile is in the reply, or comes after the next
// subscription: Sentinel executes commands that arrive together at once.
void RedisSentinel::Impl::Ask() {
  {
    MutexLock lock(&mutex_);
    std::move(waiting_.begin(), waiting_.end(), std::back_inserter(asked_));
    waiting_.clear();
  }
  next_ = Next::kAddress;
  if (is_subscribed_.load()) {
    next_ = Next::kUnsubscribed;
    connection_.Send({"UNSUBSCRIBE", kChannel});
  }
  connection_.Send({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", options_.master});
  connection_.Send({"SUBSCRIBE", kChannel});
}

void RedisSentinel::Impl::OnReply(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_ERROR) {
    connection_.DropForError(reply);
    return;
  }
  switch (next_) {
    case Next::kUnsubscribed:
      next_ = Next::kAddress;
      return;
    case Next::kAddress:
      next_ = Next::kSubscribed;
      OnAddress(reply);
      return;
    case Next::kSubscribed:
      next_ = Next::kNothing;
      is_subscribed_.store(true);
      connection_.LogRecovery(absl::StrCat(turn_->current(), " names ", master_,
                                           ", subscribed to ", kChannel));
      return;
    case Next::kNothing:
      connection_.Drop(absl::DataLossError("unexpected reply"));
  }
}

// https://redis.io/docs/reference/sentinel-clients/#step-2-ask-for-master-address
void RedisSentinel::Impl::OnAddress(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_NIL) {
    connection_.Drop(absl::UnavailableError(
        absl::StrCat(turn_->current(), " does not know the master's name")));
    return;
  }
  const std::string host_port = ReadMasterAddress(reply);
  if (host_port.empty()) {
    connection_.Drop(absl::DataLossError(absl::StrCat(
        turn_->current(), " replies with no address; is it a Sentinel?")));
    return;
  }
  SetMaster(host_port);
  for (const Waiting& asked : std::exchange(asked_, {})) asked.found(host_port);
}

void RedisSentinel::Impl::OnMessage(const redisReply& message) {
  if (message.elements != 3) return;
  const std::string host_port =
      ReadSwitchMaster(ReplyText(*message.element[2]), options_.master);
  if (!host_port.empty()) SetMaster(host_port);
}

void RedisSentinel::Impl::SetMaster(const std::string& host_port) {
  const std::string before = std::exchange(master_, host_port);
  if (before == host_port) return;
  if (!before.empty()) master_changes_.fetch_add(1);
  if (!before.empty() && options_.log_sink != nullptr) {
    options_.log_sink(
        LogSeverity::kInfo,
        absl::StrCat("Redis Sentinel: the master ", options_.master, " is ",
                     host_port, " now, no longer ", before));
  }
  std::vector<std::weak_ptr<const Watcher>> watchers;
  {
    MutexLock lock(&mutex_);
    watchers = watchers_;
  }
  for (const auto& weak : watchers) {
    if (const auto watcher = weak.lock()) (*watcher)(host_port);
  }
}

void RedisSentinel::Impl::OnLost(const absl::Status& why) {
  is_subscribed_.store(false);
  is_distrusted_.store(false);
  next_ = Next::kNothing;
  turn_->Next();
  sentinels_failed_.fetch_add(1);
  MutexLock lock(&mutex_);
  lost_ = internal::Unshared(why);
  std::move(asked_.begin(), asked_.end(), std::back_inserter(waiting_));
  asked_.clear();
}

int64_t RedisSentinel::Impl::OnIteration(int64_t now_nanoseconds) {
  bool must_ask;
  {
    MutexLock lock(&mutex_);
    must_ask = !waiting_.empty();
  }
  if (connection_.is_connected() && is_distrusted_.exchange(false)) {
    connection_.Drop(absl::UnavailableError(absl::StrCat(
        turn_->current(), " names ", master_, ", which is not a master")));
  }
  if (must_ask && connection_.is_connected() && next_ == Next::kNothing) Ask();
  if (must_ask) connection_.ReconnectSoon();
  return Expire(now_nanoseconds);
}

int64_t RedisSentinel::Impl::Expire(int64_t now_nanoseconds) {
  std::vector<Waiting> expired;
  int64_t next_nanoseconds = Connection::kNever;
  {
    MutexLock lock(&mutex_);
    for (std::vector<Waiting>* list : {&waiting_, &asked_}) {
      const auto end = std::partition(
          list->begin(), list->end(), [&](const Waiting& waiting) {
            return waiting.deadline_nanoseconds > now_nanoseconds;
          });
      std::move(end, list->end(), std::back_inserter(expired));
      list->erase(end, list->end());
      for (const Waiting& waiting : *list) {
        next_nanoseconds =
            std::min(next_nanoseconds, waiting.deadline_nanoseconds);
      }
    }
  }
  if (expired.empty()) return next_nanoseconds;
  const absl::Status health = Health();
  const absl::Status why = absl::UnavailableError(
      absl::StrCat("no Sentinel has named the master",
                   health.ok() ? " in time" : ": ", health.message()));
  for (const Waiting& waiting : expired) waiting.found(why);
  return next_nanoseconds;
}

absl::StatusOr<std::shared_ptr<RedisSentinel>> RedisSentinel::Create(
    RedisSentinelOptions options, std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  auto impl = std::make_unique<Impl>(std::move(options), std::move(lookup));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::shared_ptr<RedisSentinel>(new RedisSentinel(std::move(impl)));
}

RedisSentinel::RedisSentinel(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisSentinel::~RedisSentinel() = default;

void RedisSentinel::SetSource(std::shared_ptr<RedisSentinel> sentinel,
                              RedisOptions* options) {
  options->address = absl::StrCat("master ", sentinel->impl_->master());
  options->address_source = std::move(sentinel);
}

absl::Status RedisSentinel::Health() const { return impl_->Health(); }

RedisSentinelStats RedisSentinel::GetStats() const { return impl_->GetStats(); }

void RedisSentinel::Find(absl::Duration timeout, Found found) {
  impl_->Find(timeout, std::move(found));
}

void RedisSentinel::Watch(std::weak_ptr<const Watcher> watcher) {
  impl_->Watch(std::move(watcher));
}

void RedisSentinel::Distrust() { impl_->Distrust(); }

}  // namespace udpgate
