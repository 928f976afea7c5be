#include "udpgate/redis/internal/disconnect_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;

// Entries of one reply to XREAD.
constexpr int kEntriesPerRead = 64;
constexpr absl::Duration kBlockMax = absl::Seconds(1);

// The reply to XREAD: streams, a stream, its entries, an entry, its fields.
FrameLimits ReadLimits(const RedisOptions& options) {
  constexpr int64_t kBytesBesidePayload = 512;
  FrameLimits limits;
  limits.frame_bytes_max =
      kEntriesPerRead *
          (options.disconnect_payload_bytes_max + kBytesBesidePayload) +
      static_cast<int64_t>(options.disconnect_stream.size()) +
      kBytesBesidePayload;
  limits.elements_max = kEntriesPerRead;
  limits.depth_max = 5;
  return limits;
}

// XREAD returns what follows an id; the first id of a millisecond is N-0.
StreamId LastIdBefore(uint64_t milliseconds) {
  if (milliseconds == 0) return {};
  return {milliseconds - 1, std::numeric_limits<uint64_t>::max()};
}

}  // namespace

DisconnectStream::DisconnectStream(RedisOptions options,
                                   std::shared_ptr<HostLookup> lookup,
                                   Callbacks callbacks)
    : options_(std::move(options)),
      key_name_(absl::StrCat(
          "stream \"", absl::CHexEscape(options_.disconnect_stream), "\"")),
      callbacks_(std::move(callbacks)),
      connection_(options_.ForKey(options_.disconnect_stream),
                  std::move(lookup), "disconnect stream", "udpgate-redis-d",
                  this, ReadLimits(options_)) {}

absl::Status DisconnectStream::Health() const {
  absl::Status health = connection_.WorkHealth();
  if (!health.ok() || is_reading_.load()) return health;
  return absl::UnavailableError(absl::StrCat(
      "Redis ", options_.address, ": does not read ", key_name_, " yet"));
}

std::string DisconnectStream::position() const {
  MutexLock lock(&mutex_);
  return position_.has_value() ? position_->ToString() : "";
}

void DisconnectStream::ContinueFrom(absl::string_view position) {
  StreamId id;
  if (!id.Parse(position)) return;
  MutexLock lock(&mutex_);
  continuation_ = id;
}

void DisconnectStream::Send(
    Command command, std::initializer_list<absl::string_view> arguments) {
  pending_.push_back(command);
  connection_.Send(arguments);
}

void DisconnectStream::OnConnected() {
  pending_.clear();
  SendTime();
  SendInfo();
  SendOldest();
}

void DisconnectStream::SendInfo() {
  info_.reset();
  const bool must_ask =
      position().empty() && !asks_no_info_ &&
      (!last_id_.has_value() || entries_added_first_.has_value());
  if (!must_ask) return;
  Send(Command::kInfo, {"XINFO", "STREAM", options_.disconnect_stream});
}

void DisconnectStream::TakeInfo(const redisReply& reply) {
  StreamInfo info;
  if (reply.type == REDIS_REPLY_ERROR
          ? absl::StartsWith(ReplyText(reply), "ERR no such key")
          : ReadStreamInfo(reply, &info)) {
    info_ = info;
  }
}

bool DisconnectStream::HasLostUnread() const {
  return info_.has_value() && entries_added_first_.has_value() &&
         info_->entries_added >= *entries_added_first_ &&
         info_->length < info_->entries_added - *entries_added_first_;
}

void DisconnectStream::SendOldest() {
  if (std::exchange(knows_no_oldest_, false)) {
    Send(Command::kOldest,
         {"XRANGE", options_.disconnect_stream, "-", "-", "COUNT", "1"});
    return;
  }
  Send(Command::kOldest,
       {"XRANGE", options_.disconnect_stream, "-", "+", "COUNT", "1"});
}

// The time is asked for each time, since the clock of Redis may be set.
void DisconnectStream::SendRead() {
  SendTime();
  const std::string count = absl::StrCat(reads_one_ ? 1 : kEntriesPerRead);
  // The first reply comes at once, since it shows whether Redis allows the
  // command.
  if (!is_reading_.load()) {
    Send(Command::kRead, {"XREAD", "COUNT", count, "STREAMS",
                          options_.disconnect_stream, last_id_->ToString()});
    return;
  }
  // It must return before the connection gives up.
  const absl::Duration block = std::clamp(options_.command_timeout / 2,
                                          absl::Milliseconds(1), kBlockMax);
  Send(Command::kRead,
       {"XREAD", "COUNT", count, "BLOCK",
        absl::StrCat(absl::ToInt64Milliseconds(block)), "STREAMS",
        options_.disconnect_stream, last_id_->ToString()});
}

void DisconnectStream::OnReply(const redisReply& reply) {
  const Command command = pending_.front();
  if (command == Command::kInfo) {
    // Not needed: a user may lack the permission.
    TakeInfo(reply);
    pending_.pop_front();
    return;
  }
  if (reply.type == REDIS_REPLY_ERROR) {
    connection_.DropForError(reply);
    return;
  }
  if (!TakeReply(command, reply)) {
    connection_.Drop(absl::DataLossError("unexpected reply"));
    return;
  }
  pending_.pop_front();
  if (command == Command::kTime) return;
  if (TakeContinuation()) {
    SendOldest();
  } else {
    SendRead();
  }
}

bool DisconnectStream::TakeReply(Command command, const redisReply& reply) {
  std::vector<StreamEntry> entries;
  switch (command) {
    case Command::kTime:
      if (!ReadRedisTime(reply, &redis_milliseconds_)) return false;
      redis_time_nanoseconds_ = options_.clock->NowNanoseconds();
      return true;
    case Command::kOldest:
      if (!ReadStreamEntries(reply, &entries) || entries.size() > 1) {
        return false;
      }
      ChoosePosition(entries.empty() ? absl::optional<StreamId>()
                                     : absl::optional<StreamId>(entries[0].id));
      return true;
    case Command::kInfo:
    case Command::kRead:
      break;
  }
  if (!ReadStreamReply(reply, &entries)) return false;
  if (!entries.empty() && !(*last_id_ < entries[0].id)) return false;
  for (const StreamEntry& entry : entries) TakeEntry(entry);
  if (entries.empty()) reads_one_ = false;
  if (!is_reading_.exchange(true)) {
    connection_.LogRecovery(absl::StrCat("reads ", key_name_));
  }
  return true;
}

void DisconnectStream::ChoosePosition(const absl::optional<StreamId>& oldest) {
  TakeContinuation();
  const auto now_milliseconds = static_cast<uint64_t>(RedisMilliseconds());
  const auto age_max_milliseconds = static_cast<uint64_t>(
      absl::ToInt64Milliseconds(options_.disconnect_age_max));
  const StreamId start = LastIdBefore(
      now_milliseconds - std::min(age_max_milliseconds, now_milliseconds));
  if (std::exchange(skips_, false)) {
    ReportLost(last_id_.has_value() ? last_id_->milliseconds
                                    : now_milliseconds);
    last_id_ = LastIdBefore(now_milliseconds);
    return;
  }
  if (!last_id_.has_value()) {
    last_id_ = start;
    if (info_.has_value()) entries_added_first_ = info_->entries_added;
    return;
  }
  // Another stream, of which ids are smaller, or a clock that was set back. It
  // does no harm to read an entry again.
  if (last_id_->milliseconds > now_milliseconds) {
    last_id_ = start;
    return;
  }
  if (!oldest.has_value() || !(*last_id_ < *oldest)) return;
  // The entry that was read last is gone, and maybe others after it.
  bool has_position;
  {
    MutexLock lock(&mutex_);
    has_position = position_.has_value();
  }
  if (has_position || HasLostUnread()) ReportLost(last_id_->milliseconds);
  if (*last_id_ < start) last_id_ = start;
}

bool DisconnectStream::TakeContinuation() {
  MutexLock lock(&mutex_);
  if (!continuation_.has_value()) return false;
  const StreamId id = *continuation_;
  continuation_.reset();
  if (last_id_.has_value() && !(id < *last_id_)) return false;
  last_id_ = id;
  position_ = id;
  return true;
}

void DisconnectStream::TakeEntry(const StreamEntry& entry) {
  absl::string_view payload;
  entries_read_.fetch_add(1);
  if (!entry.Find(kField, &payload)) {
    callbacks_.invalid(absl::InvalidArgumentError(
        absl::StrCat("entry ", entry.id.ToString(), " of ", key_name_,
                     " has no field \"", kField, "\"")));
  } else {
    // Ids that Redis did not choose may be of any time.
    const auto milliseconds = static_cast<int64_t>(std::min(
        entry.id.milliseconds, static_cast<uint64_t>(RedisMilliseconds())));
    callbacks_.event(payload,
                     absl::Milliseconds(RedisMilliseconds() - milliseconds));
  }
  // Afterwards, so that an event is not lost if the process ends meanwhile.
  last_id_ = entry.id;
  MutexLock lock(&mutex_);
  position_ = entry.id;
}

int64_t DisconnectStream::RedisMilliseconds() const {
  return redis_milliseconds_ +
         (options_.clock->NowNanoseconds() - redis_time_nanoseconds_) /
             absl::ToInt64Nanoseconds(absl::Milliseconds(1));
}

void DisconnectStream::ReportLost(uint64_t from_milliseconds) {
  callbacks_.lost(absl::FromUnixMillis(static_cast<int64_t>(from_milliseconds)),
                  absl::FromUnixMillis(RedisMilliseconds()));
}

void DisconnectStream::OnLost(const absl::Status& why) {
  is_reading_.store(false);
  const bool is_unreadable =
      absl::IsResourceExhausted(why) || absl::IsDataLoss(why);
  if (is_unreadable && !pending_.empty()) {
    if (pending_.front() == Command::kInfo) {
      asks_no_info_ = true;
    } else if (pending_.front() == Command::kOldest) {
      knows_no_oldest_ = true;
    } else if (reads_one_) {
      skips_ = true;
      callbacks_.invalid(absl::InvalidArgumentError(why.message()));
    } else {
      reads_one_ = true;
    }
  }
  pending_.clear();
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
