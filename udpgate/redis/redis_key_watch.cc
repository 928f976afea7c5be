#include "udpgate/redis/redis_key_watch.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/clock.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace {

using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::FrameLimits;
using redis::internal::ReplyText;

// Of a reply, beside the value.
constexpr int64_t kReplyBytesExtra = 1024;

FrameLimits LimitsFor(const RedisKeyWatchOptions& options) {
  FrameLimits limits;
  limits.frame_bytes_max =
      static_cast<int64_t>(options.value_bytes_max) + kReplyBytesExtra;
  return limits;
}

}  // namespace

absl::Status RedisKeyWatchOptions::Validate() const {
  const auto invalid = [](absl::string_view field, absl::string_view allowed) {
    return OptionError(absl::StatusCode::kInvalidArgument,
                       absl::StrCat("RedisKeyWatchOptions::", field),
                       absl::StrCat(" must be ", allowed));
  };
  if (key.empty() || key.size() > redis_ranges::kNameBytesMax) {
    return invalid(
        "key", absl::StrCat("1 to ", redis_ranges::kNameBytesMax, " bytes"));
  }
  if (interval < absl::Milliseconds(10) || interval > absl::Hours(1)) {
    return invalid("interval", "10 ms to 1 hour");
  }
  if (stale_max < absl::ZeroDuration() || stale_max > absl::Hours(24)) {
    return invalid("stale_max", "0 to 24 hours");
  }
  if (value_bytes_max < 1 || value_bytes_max > size_t{1} << 20) {
    return invalid("value_bytes_max", "1 byte to 1 MiB");
  }
  return absl::OkStatus();
}

class RedisKeyWatch::Impl final : public ConnectionOwner {
 public:
  Impl(const RedisOptions& options, RedisKeyWatchOptions watch_options,
       std::shared_ptr<HostLookup> lookup)
      : options_(RedisOptions::WithClock(options.ForKey(watch_options.key))),
        watch_options_(std::move(watch_options)),
        key_name_(
            absl::StrCat("key \"", absl::CHexEscape(watch_options_.key), "\"")),
        last_byte_(absl::StrCat(watch_options_.value_bytes_max)),
        connection_(options_, std::move(lookup), "status key",
                    "udpgate-redis-k", this, LimitsFor(watch_options_)) {}

  // First, since the thread uses the other members.
  ~Impl() override { connection_.Stop(); }

  absl::Status Start(Handler handler) {
    handler_ = std::move(handler);
    return connection_.Start();
  }
  void Stop() { connection_.Stop(); }
  absl::Status Health() const { return connection_.WorkHealth(); }
  RedisKeyWatchStats GetStats() const {
    return {connection_.Health().ok(), reads_.load(), values_refused_.load(),
            connection_.problem()};
  }

  void OnConnected() override { is_asking_ = false; }
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {}
  void OnLost(const absl::Status&) override { is_asking_ = false; }
  int64_t OnIteration(int64_t now_nanoseconds) override;

 private:
  void Refuse(absl::string_view why);
  void Report(absl::optional<std::string> value);

  const RedisOptions options_;
  const RedisKeyWatchOptions watch_options_;
  const std::string key_name_;
  // The index after the last byte that is allowed: a longer value shows.
  const std::string last_byte_;
  std::atomic<uint64_t> reads_{0};
  std::atomic<uint64_t> values_refused_{0};

  // Used by the thread only.
  Handler handler_;
  bool is_asking_ = false;
  int64_t next_read_nanoseconds_ = INT64_MIN;
  int64_t read_nanoseconds_ = 0;  // of the value
  absl::optional<std::string> value_;
  bool is_refusal_logged_ = false;
  Connection connection_;
};

int64_t RedisKeyWatch::Impl::OnIteration(int64_t now_nanoseconds) {
  const int64_t stale_nanoseconds =
      read_nanoseconds_ + absl::ToInt64Nanoseconds(watch_options_.stale_max);
  if (!connection_.is_connected()) {
    if (!value_.has_value()) return Connection::kNever;
    if (now_nanoseconds < stale_nanoseconds) return stale_nanoseconds;
    Report(absl::nullopt);
    return Connection::kNever;
  }
  // The connection has a time limit on the reply.
  if (is_asking_) return Connection::kNever;
  if (now_nanoseconds < next_read_nanoseconds_) return next_read_nanoseconds_;
  is_asking_ = true;
  next_read_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(watch_options_.interval);
  connection_.Send({"GETRANGE", watch_options_.key, "0", last_byte_});
  return Connection::kNever;
}

void RedisKeyWatch::Impl::OnReply(const redisReply& reply) {
  is_asking_ = false;
  if (reply.type == REDIS_REPLY_ERROR &&
      ReplyText(reply).substr(0, 9) != "WRONGTYPE") {
    // Temporary, or a permission that is missing: as if it were not there.
    connection_.DropForError(reply);
    return;
  }
  if (reply.type != REDIS_REPLY_STRING && reply.type != REDIS_REPLY_ERROR) {
    connection_.Drop(absl::DataLossError("unexpected reply to GETRANGE"));
    return;
  }
  connection_.LogRecovery(absl::StrCat("reads ", key_name_));
  reads_.fetch_add(1);
  read_nanoseconds_ = options_.clock->NowNanoseconds();
  if (reply.type == REDIS_REPLY_ERROR) {
    Refuse("is not a string");
    return;
  }
  const absl::string_view text = ReplyText(reply);
  if (text.size() > watch_options_.value_bytes_max) {
    Refuse(absl::StrCat("is longer than ", watch_options_.value_bytes_max,
                        " bytes"));
    return;
  }
  is_refusal_logged_ = false;
  Report(text.empty() ? absl::optional<std::string>()
                      : absl::optional<std::string>(std::string(text)));
}

void RedisKeyWatch::Impl::Refuse(absl::string_view why) {
  values_refused_.fetch_add(1);
  if (!is_refusal_logged_ && options_.log_sink != nullptr) {
    options_.log_sink(LogSeverity::kWarning,
                      absl::StrCat("Redis ", options_.address, ": ", key_name_,
                                   " ", why, ": it counts as missing"));
  }
  is_refusal_logged_ = true;
  Report(absl::nullopt);
}

void RedisKeyWatch::Impl::Report(absl::optional<std::string> value) {
  if (value == value_) return;
  value_ = value;
  handler_(std::move(value));
}

absl::StatusOr<std::unique_ptr<RedisKeyWatch>> RedisKeyWatch::Create(
    RedisOptions options, RedisKeyWatchOptions watch_options,
    std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  if (absl::Status status = watch_options.Validate(); !status.ok()) {
    return status;
  }
  return std::unique_ptr<RedisKeyWatch>(
      new RedisKeyWatch(std::make_unique<Impl>(
          options, std::move(watch_options), std::move(lookup))));
}

RedisKeyWatch::RedisKeyWatch(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisKeyWatch::~RedisKeyWatch() = default;

absl::Status RedisKeyWatch::Start(Handler handler) {
  return impl_->Start(std::move(handler));
}

void RedisKeyWatch::Stop() { impl_->Stop(); }

RedisKeyWatchStats RedisKeyWatch::GetStats() const { return impl_->GetStats(); }

absl::Status RedisKeyWatch::Health() const { return impl_->Health(); }

}  // namespace udpgate
