#include "udpgate/redis/redis_disconnect_source.h"

#include <atomic>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/types/optional.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/disconnect_stream.h"
#include "udpgate/redis/internal/event_pairs.h"

namespace udpgate {
namespace {

using internal::Mutex;
using internal::MutexLock;
using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::DisconnectStream;
using redis::internal::EventPairs;
using redis::internal::ReplyText;

constexpr absl::Duration kGapLogInterval = absl::Seconds(2);

}  // namespace

class RedisDisconnectSource::Impl final : public ConnectionOwner {
 public:
  Impl(RedisOptions options, const std::shared_ptr<HostLookup>& lookup)
      : options_(RedisOptions::WithClock(std::move(options))),
        channel_name_(absl::StrCat(
            "channel \"", absl::CHexEscape(options_.disconnect_channel), "\"")),
        changed_nanoseconds_(options_.clock->NowNanoseconds()),
        pairs_(static_cast<size_t>(options_.disconnect_pairs_max)),
        gap_limiter_(options_.clock, kGapLogInterval),
        connection_(options_.ForAnyNode(), lookup, "disconnect channel",
                    "udpgate-redis-s", this) {
    if (options_.disconnect_stream.empty()) return;
    DisconnectStream::Callbacks callbacks;
    callbacks.event = [this](absl::string_view payload, absl::Duration age) {
      Deliver(EventPairs::Way::kStream, payload, age);
    };
    callbacks.invalid = [this](const absl::Status& why) { ReportInvalid(why); };
    callbacks.lost = [this](absl::Time from, absl::Time until) {
      ReportGap("disconnect stream", stream_->server(), from, until);
    };
    stream_ = std::make_unique<DisconnectStream>(options_, lookup,
                                                 std::move(callbacks));
  }

  // First, since the threads use the other members.
  ~Impl() override { Stop(); }

  absl::Status Start(Handler handler);
  void Stop() {
    connection_.Stop();
    if (stream_ != nullptr) stream_->Stop();
  }
  absl::Status Health() const;
  RedisDisconnectSourceStats GetStats() const;
  std::string stream_position() const {
    return stream_ == nullptr ? "" : stream_->position();
  }
  void ContinueStreamFrom(absl::string_view position) {
    if (stream_ != nullptr) stream_->ContinueFrom(position);
  }

  void OnConnected() override {
    connection_.Send({"SUBSCRIBE", options_.disconnect_channel});
  }
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply& message) override;
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t) override { return Connection::kNever; }
  bool takes_any_command() const override { return false; }

 private:
  absl::Status ChannelHealth() const;
  void SetSubscribed(bool is_subscribed) {
    is_subscribed_.store(is_subscribed);
    changed_nanoseconds_.store(options_.clock->NowNanoseconds());
  }
  // `age` is that of the event.
  void Deliver(EventPairs::Way way, absl::string_view payload,
               absl::Duration age);
  void ReportInvalid(const absl::Status& why);
  void ReportGap(absl::string_view what_for, absl::string_view server,
                 absl::Time from, absl::Time until);

  const RedisOptions options_;
  const std::string channel_name_;
  Handler handler_;
  std::atomic<bool> is_started_{false};
  std::atomic<bool> is_subscribed_{false};
  std::atomic<int64_t> changed_nanoseconds_;
  std::atomic<uint64_t> gaps_{0};
  // When the lost subscription was known to work; of the channel's thread.
  absl::optional<absl::Time> lost_since_;
  // One call of the handler at a time.
  mutable Mutex handler_mutex_;
  EventPairs pairs_ ABSL_GUARDED_BY(handler_mutex_);
  std::atomic<uint64_t> pair_count_{0};
  std::atomic<uint64_t> pairs_forgotten_{0};
  Mutex gap_mutex_;
  LogRateLimiter gap_limiter_ ABSL_GUARDED_BY(gap_mutex_);
  std::unique_ptr<DisconnectStream> stream_;  // null: none
  Connection connection_;
};

absl::Status RedisDisconnectSource::Impl::Start(Handler handler) {
  if (is_started_.exchange(true)) {
    return absl::FailedPreconditionError("already started");
  }
  handler_ = std::move(handler);
  if (absl::Status status = connection_.Start();
      !status.ok() || stream_ == nullptr) {
    return status;
  }
  absl::Status status = stream_->Start();
  if (!status.ok()) connection_.Stop();
  return status;
}

absl::Status RedisDisconnectSource::Impl::ChannelHealth() const {
  absl::Status health = connection_.WorkHealth();
  if (!health.ok() || is_subscribed_.load()) return health;
  return absl::UnavailableError(absl::StrCat(
      "Redis ", options_.address, ": not subscribed to ", channel_name_));
}

absl::Status RedisDisconnectSource::Impl::Health() const {
  absl::Status health = ChannelHealth();
  if (!health.ok() || stream_ == nullptr) return health;
  return stream_->Health();
}

RedisDisconnectSourceStats RedisDisconnectSource::Impl::GetStats() const {
  RedisDisconnectSourceStats stats;
  stats.is_subscribed = ChannelHealth().ok();
  stats.subscribed_age = absl::Nanoseconds(options_.clock->NowNanoseconds() -
                                           changed_nanoseconds_.load());
  stats.gaps = gaps_.load();
  stats.pairs = pair_count_.load();
  stats.pairs_forgotten = pairs_forgotten_.load();
  stats.channel_problem = connection_.problem();
  if (stream_ == nullptr) return stats;
  stats.is_reading_stream = stream_->Health().ok();
  stats.stream_entries_read = stream_->entries_read();
  stats.stream_problem = stream_->problem();
  return stats;
}

void RedisDisconnectSource::Impl::OnReply(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_ERROR) {
    connection_.DropForError(reply);
    return;
  }
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 3) {
    connection_.Drop(absl::DataLossError("unexpected reply to SUBSCRIBE"));
    return;
  }
  connection_.LogRecovery(absl::StrCat("subscribed to ", channel_name_));
  if (lost_since_.has_value()) {
    ReportGap("disconnect channel", connection_.server(), *lost_since_,
              absl::Now());
    lost_since_.reset();
  }
  // Last, so that who sees it sees the gap as well.
  SetSubscribed(true);
}

void RedisDisconnectSource::Impl::OnLost(const absl::Status& why) {
  if (!is_subscribed_.load()) return;
  SetSubscribed(false);
  // Not now: a dead connection is noticed late.
  const int64_t silent_nanoseconds =
      options_.clock->NowNanoseconds() - connection_.replied_nanoseconds();
  lost_since_ = absl::Now() - absl::Nanoseconds(silent_nanoseconds);
  // The connection ended because a payload was too long: an invalid event.
  if (absl::IsResourceExhausted(why)) {
    ReportInvalid(absl::InvalidArgumentError(why.message()));
  }
}

// https://redis.io/docs/manual/pubsub/#format-of-pushed-messages
void RedisDisconnectSource::Impl::OnMessage(const redisReply& message) {
  if (message.elements != 3 || message.element[2]->type != REDIS_REPLY_STRING) {
    connection_.Drop(absl::DataLossError("pub/sub message without payload"));
    return;
  }
  Deliver(EventPairs::Way::kChannel, ReplyText(*message.element[2]),
          absl::ZeroDuration());
}

void RedisDisconnectSource::Impl::Deliver(EventPairs::Way way,
                                          absl::string_view payload,
                                          absl::Duration age) {
  if (payload.size() >
      static_cast<size_t>(options_.disconnect_payload_bytes_max)) {
    ReportInvalid(absl::InvalidArgumentError(
        absl::StrCat("payload of ", payload.size(), " bytes; the maximum is ",
                     options_.disconnect_payload_bytes_max)));
    return;
  }
  absl::StatusOr<DisconnectTarget> target = DisconnectTarget::Parse(payload);
  const int64_t happened_nanoseconds =
      options_.clock->NowNanoseconds() - absl::ToInt64Nanoseconds(age);
  MutexLock lock(&handler_mutex_);
  if (target.ok() && stream_ != nullptr) {
    const int64_t first_nanoseconds =
        pairs_.Match(way, payload, happened_nanoseconds);
    pair_count_.store(pairs_.pair_count());
    pairs_forgotten_.store(pairs_.forgotten_count());
    // What the other thread's event took counts too.
    target->set_age(absl::Nanoseconds(options_.clock->NowNanoseconds() -
                                      first_nanoseconds));
  }
  handler_(std::move(target));
}

void RedisDisconnectSource::Impl::ReportInvalid(const absl::Status& why) {
  MutexLock lock(&handler_mutex_);
  handler_(why);
}

void RedisDisconnectSource::Impl::ReportGap(absl::string_view what_for,
                                            absl::string_view server,
                                            absl::Time from, absl::Time until) {
  gaps_.fetch_add(1);
  if (options_.log_sink == nullptr) return;
  int64_t more = 0;
  {
    MutexLock lock(&gap_mutex_);
    if (!gap_limiter_.Admit(&more)) return;
  }
  constexpr char kFormat[] = "%Y-%m-%dT%H:%M:%E3SZ";
  const absl::TimeZone utc = absl::UTCTimeZone();
  options_.log_sink(
      LogSeverity::kWarning,
      absl::StrCat("Redis ", server, " (", what_for, "): events between ",
                   absl::FormatTime(kFormat, from, utc), " and ",
                   absl::FormatTime(kFormat, until, utc), " may be lost",
                   more == 0 ? ""
                             : absl::StrCat(" (and ", more,
                                            " more gaps since the last such "
                                            "line)")));
}

absl::StatusOr<std::shared_ptr<RedisDisconnectSource>>
RedisDisconnectSource::Create(RedisOptions options,
                              std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  return std::shared_ptr<RedisDisconnectSource>(new RedisDisconnectSource(
      std::make_unique<Impl>(std::move(options), std::move(lookup))));
}

RedisDisconnectSource::RedisDisconnectSource(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisDisconnectSource::~RedisDisconnectSource() = default;

absl::Status RedisDisconnectSource::Start(Handler handler) {
  return impl_->Start(std::move(handler));
}

void RedisDisconnectSource::Stop() { impl_->Stop(); }

absl::Status RedisDisconnectSource::Health() const { return impl_->Health(); }

RedisDisconnectSourceStats RedisDisconnectSource::GetStats() const {
  return impl_->GetStats();
}

std::string RedisDisconnectSource::stream_position() const {
  return impl_->stream_position();
}

void RedisDisconnectSource::ContinueStreamFrom(absl::string_view position) {
  impl_->ContinueStreamFrom(position);
}

}  // namespace udpgate
