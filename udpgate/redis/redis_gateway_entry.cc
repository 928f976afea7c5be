#include "udpgate/redis/redis_gateway_entry.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/entry_fields.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace {

using internal::ConditionVariable;
using internal::Mutex;
using internal::MutexLock;
using redis::internal::AddBackendFields;
using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::KeyInSlotOf;
using redis::internal::ReplyText;
using redis::internal::SessionRate;

// How soon it is noticed that the last session of a draining gateway has ended.
constexpr absl::Duration kDrainCheckInterval = absl::Milliseconds(250);

// KEYS: the index, the hash. ARGV: the lifetime in milliseconds, the id, the
// instance, 1 if the rate is unknown, fields and values. Returns 1, or the
// address of the gateway that has the hash.
//
// One script, because a field cannot expire and the hash must never be without
// an expiry, whenever the connection is lost. It sets the hash anew, so that
// no field of an earlier write remains.
constexpr char kWriteScript[] = R"(
local old = redis.call('HMGET', KEYS[2], 'instance', 'address',
                       'new_sessions_per_second')
if old[1] and old[1] > ARGV[3] then return old[2] or '' end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 5))
if ARGV[4] == '1' and old[3] then
  redis.call('HSET', KEYS[2], 'new_sessions_per_second', old[3])
end
redis.call('PEXPIRE', KEYS[2], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
)";

// KEYS as above. ARGV: the id, the instance.
constexpr char kRemoveScript[] = R"(
if redis.call('HGET', KEYS[2], 'instance') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
)";

// Later ones are greater, as texts.
std::string MakeInstance() {
  std::random_device device;
  return absl::StrCat(
      absl::Dec(absl::ToUnixMicros(absl::Now()), absl::kZeroPad20), "-",
      absl::Hex(device(), absl::kZeroPad8));
}

bool IsId(absl::string_view id) {
  return !id.empty() && id.size() <= 64 &&
         std::all_of(id.begin(), id.end(), absl::ascii_isgraph);
}

}  // namespace

absl::Status RedisGatewayEntryOptions::Validate() const {
  const auto invalid = [](absl::string_view field, absl::string_view allowed) {
    return OptionError(absl::StatusCode::kInvalidArgument,
                       absl::StrCat("RedisGatewayEntryOptions::", field),
                       absl::StrCat(" must be ", allowed));
  };
  if (key.empty() || key.size() > redis_ranges::kNameBytesMax ||
      !KeyInSlotOf(key, id).has_value()) {
    return invalid("key", absl::StrCat("1 to ", redis_ranges::kNameBytesMax,
                                       " bytes, with } only in a hash tag"));
  }
  if (!IsId(id)) {
    return invalid("id", "1 to 64 printable ASCII characters without spaces");
  }
  if (version.size() > 256) return invalid("version", "at most 256 bytes");
  if (interval < absl::Milliseconds(100) || interval > absl::Hours(1)) {
    return invalid("interval", "100 ms to 1 hour");
  }
  if (lifetime < 2 * interval || lifetime > absl::Hours(24)) {
    return invalid("lifetime", "from two intervals to 24 hours");
  }
  if (backends_max < 0 || backends_max > 1000) {
    return invalid("backends_max", "0 to 1000");
  }
  return absl::OkStatus();
}

class RedisGatewayEntry::Impl final : public ConnectionOwner {
 public:
  Impl(const RedisOptions& options, RedisGatewayEntryOptions entry_options,
       std::shared_ptr<HostLookup> lookup)
      : options_(RedisOptions::WithClock(options.ForKey(entry_options.key))),
        entry_options_(std::move(entry_options)),
        hash_key_(*KeyInSlotOf(entry_options_.key, entry_options_.id)),
        entry_name_(
            absl::StrCat("entry \"", absl::CHexEscape(hash_key_), "\"")),
        connection_(options_, std::move(lookup), "gateway entry",
                    "udpgate-redis-g", this) {}

  // First, since the thread uses the other members.
  ~Impl() override { connection_.Stop(); }

  absl::Status Start(State state) {
    state_ = std::move(state);
    return connection_.Start();
  }
  void Update() {
    is_update_wanted_.store(true);
    connection_.Wake();
  }
  void Remove(absl::Duration timeout);
  void Stop() { connection_.Stop(); }
  RedisGatewayEntryStats GetStats() const;

  void OnConnected() override;
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {}
  void OnLost(const absl::Status&) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;

 private:
  enum class Removal { kNone, kWanted, kSent, kDone };

  // True if nothing is to be written any more.
  bool RemoveIfWanted();
  void FinishRemoval();
  void CheckDrain(int64_t now_nanoseconds);
  void Write(int64_t now_nanoseconds);
  void OnError(const redisReply& reply);
  void OnOtherGateway(const redisReply& reply);
  int64_t Nanoseconds(absl::Duration time) const {
    return absl::ToInt64Nanoseconds(time);
  }

  const RedisOptions options_;
  const RedisGatewayEntryOptions entry_options_;
  const std::string hash_key_;
  const std::string entry_name_;
  const std::string instance_ = MakeInstance();
  std::atomic<bool> is_update_wanted_{false};
  std::atomic<int64_t> current_until_nanoseconds_{INT64_MIN};
  std::atomic<uint64_t> writes_{0};
  std::atomic<uint64_t> writes_skipped_{0};
  std::atomic<uint64_t> writes_refused_{0};
  Mutex removal_mutex_;
  ConditionVariable removal_changed_;
  Removal removal_ ABSL_GUARDED_BY(removal_mutex_) = Removal::kNone;

  // Used by the thread only.
  State state_;
  SessionRate rate_;
  bool is_writing_ = false;       // a write has no reply yet
  int64_t sent_nanoseconds_ = 0;  // the last write
  int writes_without_reply_ = 0;  // connections that ended so, in a row
  int others_in_a_row_ = 0;       // replies that name another gateway
  bool is_draining_ = false;      // in the last write, with sessions left
  int64_t next_write_nanoseconds_ = INT64_MIN;
  int64_t next_drain_check_nanoseconds_ = 0;
  bool is_other_logged_ = false;
  Connection connection_;
};

void RedisGatewayEntry::Impl::OnConnected() {
  // A server or a proxy that closes the connection at this command gets no
  // more of them than one that replies.
  if (writes_without_reply_ < 2) is_update_wanted_.store(true);
}

void RedisGatewayEntry::Impl::OnLost(const absl::Status&) {
  if (std::exchange(is_writing_, false)) ++writes_without_reply_;
  MutexLock lock(&removal_mutex_);
  if (removal_ == Removal::kNone) return;
  removal_ = Removal::kDone;  // the hash expires
  removal_changed_.SignalAll();
}

int64_t RedisGatewayEntry::Impl::OnIteration(int64_t now_nanoseconds) {
  if (RemoveIfWanted()) return Connection::kNever;
  CheckDrain(now_nanoseconds);
  const bool is_due = now_nanoseconds >= next_write_nanoseconds_;
  const bool can_write = connection_.is_connected() && !is_writing_;
  if (can_write && (is_due || is_update_wanted_.load())) {
    is_update_wanted_.store(false);
    Write(now_nanoseconds);
  } else if (is_due) {
    if (next_write_nanoseconds_ == INT64_MIN) {
      // Connecting. The first sample of the rate.
      rate_.Note(now_nanoseconds, state_().sessions_created,
                 Nanoseconds(entry_options_.interval));
    } else {
      writes_skipped_.fetch_add(1);
    }
    next_write_nanoseconds_ =
        now_nanoseconds + Nanoseconds(entry_options_.interval);
  }
  return is_draining_
             ? std::min(next_write_nanoseconds_, next_drain_check_nanoseconds_)
             : next_write_nanoseconds_;
}

bool RedisGatewayEntry::Impl::RemoveIfWanted() {
  MutexLock lock(&removal_mutex_);
  if (removal_ != Removal::kWanted) return removal_ != Removal::kNone;
  if (!connection_.is_connected()) {
    removal_ = Removal::kDone;
    removal_changed_.SignalAll();
    return true;
  }
  removal_ = Removal::kSent;
  connection_.Send({"EVAL", kRemoveScript, "2", entry_options_.key, hash_key_,
                    entry_options_.id, instance_});
  return true;
}

void RedisGatewayEntry::Impl::Remove(absl::Duration timeout) {
  const int64_t deadline_nanoseconds =
      Clock::Monotonic()->NowNanoseconds() + Nanoseconds(timeout);
  MutexLock lock(&removal_mutex_);
  if (removal_ == Removal::kNone) removal_ = Removal::kWanted;
  connection_.Wake();
  while (removal_ != Removal::kDone) {
    const int64_t left_nanoseconds =
        deadline_nanoseconds - Clock::Monotonic()->NowNanoseconds();
    if (left_nanoseconds <= 0) return;
    removal_changed_.WaitFor(&removal_mutex_,
                             std::chrono::nanoseconds(left_nanoseconds));
  }
}

void RedisGatewayEntry::Impl::FinishRemoval() {
  current_until_nanoseconds_.store(INT64_MIN);
  MutexLock lock(&removal_mutex_);
  removal_ = Removal::kDone;
  removal_changed_.SignalAll();
}

void RedisGatewayEntry::Impl::CheckDrain(int64_t now_nanoseconds) {
  if (!is_draining_ || now_nanoseconds < next_drain_check_nanoseconds_) return;
  next_drain_check_nanoseconds_ =
      now_nanoseconds + Nanoseconds(kDrainCheckInterval);
  const RedisGatewayState state = state_();
  if (state.sessions + state.sessions_pending > 0) return;
  is_draining_ = false;
  is_update_wanted_.store(true);
}

void RedisGatewayEntry::Impl::Write(int64_t now_nanoseconds) {
  const RedisGatewayState state = state_();
  rate_.Note(now_nanoseconds, state.sessions_created,
             Nanoseconds(entry_options_.interval));
  std::vector<std::string> arguments = {
      "EVAL",
      kWriteScript,
      "2",
      entry_options_.key,
      hash_key_,
      absl::StrCat(absl::ToInt64Milliseconds(entry_options_.lifetime)),
      entry_options_.id,
      instance_,
      rate_.is_known() ? "0" : "1",
      "id",
      entry_options_.id,
      "address",
      state.address,
      "version",
      entry_options_.version,
      "instance",
      instance_,
      "sessions",
      absl::StrCat(state.sessions),
      "sessions_pending",
      absl::StrCat(state.sessions_pending),
      "sessions_confirmed",
      absl::StrCat(state.sessions_confirmed),
      "sessions_max",
      absl::StrCat(state.sessions_max),
      "new_sessions_per_second",
      rate_.ToString(),
      "draining",
      state.is_draining ? "1" : "0",
      "backends",
      absl::StrCat(state.backends.size())};
  AddBackendFields(state.backends, entry_options_.backends_max, &arguments);
  const std::vector<absl::string_view> views(arguments.begin(),
                                             arguments.end());
  connection_.Send(views);
  is_writing_ = true;
  sent_nanoseconds_ = now_nanoseconds;
  next_write_nanoseconds_ =
      now_nanoseconds + Nanoseconds(entry_options_.interval);
  is_draining_ =
      state.is_draining && state.sessions + state.sessions_pending > 0;
  next_drain_check_nanoseconds_ =
      now_nanoseconds + Nanoseconds(kDrainCheckInterval);
}

void RedisGatewayEntry::Impl::OnReply(const redisReply& reply) {
  if (!is_writing_) {  // that of a removal
    FinishRemoval();
    return;
  }
  is_writing_ = false;
  writes_without_reply_ = 0;
  if (reply.type == REDIS_REPLY_ERROR) {
    OnError(reply);
  } else if (reply.type == REDIS_REPLY_STRING) {
    OnOtherGateway(reply);
  } else if (reply.type == REDIS_REPLY_INTEGER) {
    writes_.fetch_add(1);
    others_in_a_row_ = 0;
    current_until_nanoseconds_.store(sent_nanoseconds_ +
                                     Nanoseconds(entry_options_.lifetime));
    is_other_logged_ = false;
    connection_.LogRecovery(absl::StrCat("writes ", entry_name_));
  } else {
    connection_.Drop(absl::DataLossError("unexpected reply to EVAL"));
  }
}

void RedisGatewayEntry::Impl::OnError(const redisReply& reply) {
  writes_refused_.fetch_add(1);
  connection_.LogErrorReply(
      absl::StrCat("a write of ", entry_name_,
                   " by EVAL: autoscalers do not see this gateway"),
      reply);
  connection_.OnErrorReply(reply);
}

void RedisGatewayEntry::Impl::OnOtherGateway(const redisReply& reply) {
  writes_refused_.fetch_add(1);
  // The first time it may be the process that has taken over from this one.
  if (++others_in_a_row_ < 2 || std::exchange(is_other_logged_, true) ||
      options_.log_sink == nullptr) {
    return;
  }
  options_.log_sink(
      LogSeverity::kWarning,
      absl::StrCat("Redis ", options_.address, ": the gateway at ",
                   absl::CHexEscape(ReplyText(reply)), " writes ", entry_name_,
                   ", too, and was started later; each gateway needs an id of "
                   "its own"));
}

RedisGatewayEntryStats RedisGatewayEntry::Impl::GetStats() const {
  RedisGatewayEntryStats stats;
  stats.is_current =
      options_.clock->NowNanoseconds() < current_until_nanoseconds_.load();
  stats.writes = writes_.load();
  stats.writes_skipped = writes_skipped_.load();
  stats.writes_refused = writes_refused_.load();
  stats.problem = connection_.problem();
  return stats;
}

absl::StatusOr<std::unique_ptr<RedisGatewayEntry>> RedisGatewayEntry::Create(
    RedisOptions options, RedisGatewayEntryOptions entry_options,
    std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  if (absl::Status status = entry_options.Validate(); !status.ok()) {
    return status;
  }
  return std::unique_ptr<RedisGatewayEntry>(
      new RedisGatewayEntry(std::make_unique<Impl>(
          options, std::move(entry_options), std::move(lookup))));
}

RedisGatewayEntry::RedisGatewayEntry(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisGatewayEntry::~RedisGatewayEntry() = default;

absl::Status RedisGatewayEntry::Start(State state) {
  return impl_->Start(std::move(state));
}

void RedisGatewayEntry::Update() { impl_->Update(); }

void RedisGatewayEntry::Remove(absl::Duration timeout) {
  impl_->Remove(timeout);
}

void RedisGatewayEntry::Stop() { impl_->Stop(); }

RedisGatewayEntryStats RedisGatewayEntry::GetStats() const {
  return impl_->GetStats();
}

}  // namespace udpgate
