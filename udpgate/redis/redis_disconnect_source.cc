#include "udpgate/redis/redis_disconnect_source.h"

#include <atomic>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/redis/internal/connection.h"

namespace udpgate {
namespace {

using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::ReplyText;

}  // namespace

class RedisDisconnectSource::Impl final : public ConnectionOwner {
 public:
  Impl(RedisOptions options, std::shared_ptr<HostLookup> lookup)
      : options_(std::move(options)),
        channel_name_(absl::StrCat(
            "channel \"", absl::CHexEscape(options_.disconnect_channel), "\"")),
        connection_(options_, std::move(lookup), "disconnect channel",
                    "udpgate-redis-s", this) {}

  // First, since the thread uses the other members.
  ~Impl() override { connection_.Stop(); }

  absl::Status Start(Handler handler);
  void Stop() { connection_.Stop(); }
  absl::Status Health() const;

  void OnConnected() override {
    connection_.Send({"SUBSCRIBE", options_.disconnect_channel});
  }
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply& message) override;
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t) override { return Connection::kNever; }
  bool takes_any_command() const override { return false; }

 private:
  const RedisOptions options_;
  const std::string channel_name_;
  Handler handler_;
  std::atomic<bool> is_started_{false};
  std::atomic<bool> is_subscribed_{false};
  Connection connection_;
};

absl::Status RedisDisconnectSource::Impl::Start(Handler handler) {
  if (is_started_.exchange(true)) {
    return absl::FailedPreconditionError("already started");
  }
  handler_ = std::move(handler);
  return connection_.Start();
}

absl::Status RedisDisconnectSource::Impl::Health() const {
  absl::Status health = connection_.Health();
  if (!health.ok() || is_subscribed_.load()) return health;
  return absl::UnavailableError(absl::StrCat(
      "Redis ", options_.address, ": not subscribed to ", channel_name_));
}

void RedisDisconnectSource::Impl::OnReply(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_ERROR) {
    connection_.Drop(connection_.ErrorToStatus(reply));
    return;
  }
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 3) {
    connection_.Drop(absl::DataLossError("unexpected reply to SUBSCRIBE"));
    return;
  }
  is_subscribed_.store(true);
  connection_.LogRecovery(absl::StrCat("subscribed to ", channel_name_));
}

void RedisDisconnectSource::Impl::OnLost(const absl::Status& why) {
  // The connection ended because a payload was too long: an invalid event.
  if (is_subscribed_.exchange(false) && absl::IsResourceExhausted(why)) {
    handler_(absl::InvalidArgumentError(why.message()));
  }
}

// https://redis.io/docs/manual/pubsub/#format-of-pushed-messages
void RedisDisconnectSource::Impl::OnMessage(const redisReply& message) {
  if (message.elements != 3 || message.element[2]->type != REDIS_REPLY_STRING) {
    connection_.Drop(absl::DataLossError("pub/sub message without payload"));
    return;
  }
  const absl::string_view payload = ReplyText(*message.element[2]);
  if (payload.size() >
      static_cast<size_t>(options_.disconnect_payload_bytes_max)) {
    handler_(absl::InvalidArgumentError(
        absl::StrCat("payload of ", payload.size(), " bytes; the maximum is ",
                     options_.disconnect_payload_bytes_max)));
    return;
  }
  handler_(DisconnectTarget::Parse(payload));
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

}  // namespace udpgate
