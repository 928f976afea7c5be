#include "udpgate/redis/redis_stream.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/clock.h"
#include "udpgate/logging.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/stream_reply.h"
#include "udpgate/redis/internal/stream_writer.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace {

using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::FrameLimits;
using redis::internal::ReadRedisTime;
using redis::internal::ReadStreamReply;
using redis::internal::StreamEntry;
using redis::internal::StreamWriter;
using redis::internal::StreamWriterOptions;
using redis::internal::StreamWriterStats;

// Entries of one reply to XREAD.
constexpr int kEntriesPerRead = 64;
// The name of the only field of an entry.
constexpr char kField[] = "e";
constexpr absl::Duration kBlockMax = absl::Seconds(1);

// The reply to XREAD: streams, a stream, its entries, an entry, its fields.
FrameLimits ReadLimits(const RedisStreamOptions& options) {
  constexpr int64_t kBytesBesideText = 256;
  FrameLimits limits;
  limits.frame_bytes_max =
      kEntriesPerRead *
          (static_cast<int64_t>(options.entry_bytes_max) + kBytesBesideText) +
      static_cast<int64_t>(options.key.size()) + kBytesBesideText;
  limits.elements_max = kEntriesPerRead;
  limits.depth_max = 5;
  return limits;
}

StreamWriterOptions WriterOptions(const RedisStreamOptions& options) {
  StreamWriterOptions writer;
  writer.key = options.key;
  writer.entries_max = options.entries_max;
  writer.key_lifetime = options.key_lifetime;
  writer.queue_entries_max = static_cast<size_t>(options.queue_entries_max);
  return writer;
}

std::string RandomText() {
  std::random_device device;
  return absl::StrCat(
      absl::Hex((uint64_t{device()} << 32) | device(), absl::kZeroPad16));
}

}  // namespace

absl::Status RedisStreamOptions::Validate() const {
  const auto invalid = [](absl::string_view field, absl::string_view allowed) {
    return OptionError(absl::StatusCode::kInvalidArgument,
                       absl::StrCat("RedisStreamOptions::", field),
                       absl::StrCat(" must be ", allowed));
  };
  if (key.empty() || key.size() > redis_ranges::kNameBytesMax) {
    return invalid(
        "key", absl::StrCat("1 to ", redis_ranges::kNameBytesMax, " bytes"));
  }
  if (entries_max < 1 || entries_max > 10'000'000) {
    return invalid("entries_max", "1 to 10000000");
  }
  if (backlog < absl::ZeroDuration() || backlog > absl::Hours(1)) {
    return invalid("backlog", "0 to 1 hour");
  }
  if (key_lifetime < absl::Minutes(1) || key_lifetime > absl::Hours(24)) {
    return invalid("key_lifetime", "1 minute to 24 hours");
  }
  if (entry_bytes_max < 1 || entry_bytes_max > 16384) {
    return invalid("entry_bytes_max", "1 to 16384");
  }
  if (queue_entries_max < 1 || queue_entries_max > 1'000'000) {
    return invalid("queue_entries_max", "1 to 1000000");
  }
  return absl::OkStatus();
}

class RedisStream::Impl {
 public:
  Impl(const RedisOptions& options, RedisStreamOptions stream_options,
       const std::shared_ptr<HostLookup>& lookup)
      : options_(RedisOptions::WithClock(options.ForKey(stream_options.key))),
        stream_options_(std::move(stream_options)),
        key_name_(absl::StrCat("stream \"",
                               absl::CHexEscape(stream_options_.key), "\"")),
        reader_(this, lookup),
        writer_(options_, WriterOptions(stream_options_), lookup,
                "stream, writing", "udpgate-redis-w") {}

  absl::Status Start(Handler handler) {
    handler_ = std::move(handler);
    absl::Status status = reader_.connection.Start();
    return status.ok() ? writer_.Start() : status;
  }
  void Stop() {
    reader_.connection.Stop();
    writer_.Stop();
  }
  bool Append(absl::string_view entry);
  RedisStreamStats GetStats() const;
  absl::Status Health() const {
    absl::Status health = reader_.connection.WorkHealth();
    return health.ok() ? writer_.Health() : health;
  }

 private:
  struct Reader final : public ConnectionOwner {
    Reader(Impl* impl, std::shared_ptr<HostLookup> lookup)
        : owner(impl),
          connection(impl->options_, std::move(lookup), "stream, reading",
                     "udpgate-redis-r", this,
                     ReadLimits(impl->stream_options_)) {}
    void OnConnected() override {
      is_reading = false;
      has_read = false;
      connection.Send({"TIME"});
    }
    void OnReply(const redisReply& reply) override;
    void OnMessage(const redisReply&) override {}
    void OnLost(const absl::Status& why) override;
    int64_t OnIteration(int64_t) override { return Connection::kNever; }

    // False if the reply is not one of TIME or XREAD.
    bool ReadTime(const redisReply& reply);
    bool ReadStreams(const redisReply& reply);
    void TakeEntry(const StreamEntry& entry);
    void SendRead();
    int64_t Now() const { return owner->options_.clock->NowNanoseconds(); }

    Impl* const owner;
    bool is_reading = false;  // the reply to TIME has come
    bool has_read = false;    // and one to XREAD
    // The time of Redis, and when it was so.
    int64_t redis_milliseconds = 0;
    int64_t redis_time_nanoseconds = 0;
    std::string last_id;
    // The entries of the backlog have made a reply that is too long.
    bool skips_backlog = false;
    Connection connection;
  };

  const RedisOptions options_;
  const RedisStreamOptions stream_options_;
  const std::string key_name_;
  // Begins each entry of this process.
  const std::string prefix_ = RandomText() + " ";
  Handler handler_;
  std::atomic<uint64_t> entries_read_{0};
  std::atomic<uint64_t> entries_too_long_{0};
  std::atomic<uint64_t> entries_invalid_{0};
  Reader reader_;
  StreamWriter writer_;
};

RedisStreamStats RedisStream::Impl::GetStats() const {
  const StreamWriterStats written = writer_.GetStats();
  RedisStreamStats stats;
  stats.read_problem = reader_.connection.problem();
  stats.write_problem = written.problem;
  stats.is_reading = reader_.connection.Health().ok() &&
                     stats.read_problem == RedisProblem::kNone;
  stats.is_writing = written.is_writing;
  stats.entries_written = written.entries_written;
  stats.entries_read = entries_read_.load();
  stats.entries_dropped = written.entries_dropped + entries_too_long_.load();
  stats.entries_invalid = entries_invalid_.load();
  stats.entries_waiting = written.entries_waiting;
  return stats;
}

void RedisStream::Impl::Reader::OnReply(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_ERROR) {
    connection.DropForError(reply);
    return;
  }
  if (!is_reading) {
    if (!ReadTime(reply)) {
      connection.Drop(absl::DataLossError("unexpected reply to TIME"));
      return;
    }
    is_reading = true;
    // At once, since it shows whether the command is supported.
    connection.Send({"XREAD", "COUNT", absl::StrCat(kEntriesPerRead), "STREAMS",
                     owner->stream_options_.key, last_id});
    return;
  }
  if (!ReadStreams(reply)) {
    connection.Drop(absl::DataLossError("unexpected reply to XREAD"));
    return;
  }
  if (!std::exchange(has_read, true)) {
    connection.LogRecovery(absl::StrCat("reads ", owner->key_name_));
  }
  SendRead();
}

// https://redis.io/commands/time/
bool RedisStream::Impl::Reader::ReadTime(const redisReply& reply) {
  if (!ReadRedisTime(reply, &redis_milliseconds)) return false;
  redis_time_nanoseconds = Now();
  const int64_t backlog =
      skips_backlog ? 0
                    : absl::ToInt64Milliseconds(owner->stream_options_.backlog);
  skips_backlog = false;
  // The first id of a time is that with -0.
  last_id =
      absl::StrCat(std::max<int64_t>(redis_milliseconds - backlog, 0), "-0");
  return true;
}

void RedisStream::Impl::Reader::SendRead() {
  // It must return before the connection gives up.
  const absl::Duration block = std::clamp(owner->options_.command_timeout / 2,
                                          absl::Milliseconds(1), kBlockMax);
  connection.Send({"XREAD", "COUNT", absl::StrCat(kEntriesPerRead), "BLOCK",
                   absl::StrCat(absl::ToInt64Milliseconds(block)), "STREAMS",
                   owner->stream_options_.key, last_id});
}

bool RedisStream::Impl::Reader::ReadStreams(const redisReply& reply) {
  std::vector<StreamEntry> entries;
  if (!ReadStreamReply(reply, &entries)) return false;
  for (const StreamEntry& entry : entries) TakeEntry(entry);
  return true;
}

void RedisStream::Impl::Reader::TakeEntry(const StreamEntry& entry) {
  last_id = entry.id.ToString();
  absl::string_view text;
  if (entry.fields.size() == 2 && entry.fields[0] == kField) {
    text = entry.fields[1];
  }
  if (absl::StartsWith(text, owner->prefix_)) return;
  const size_t begin = text.find(' ');
  if (begin != owner->prefix_.size() - 1 ||
      text.size() - owner->prefix_.size() >
          owner->stream_options_.entry_bytes_max) {
    owner->entries_invalid_.fetch_add(1);
    return;
  }
  owner->entries_read_.fetch_add(1);
  const int64_t passed = (Now() - redis_time_nanoseconds) /
                         absl::ToInt64Nanoseconds(absl::Milliseconds(1));
  const absl::Duration age =
      absl::Milliseconds(redis_milliseconds + passed) -
      absl::Milliseconds(static_cast<int64_t>(
          std::min<uint64_t>(entry.id.milliseconds, INT64_MAX)));
  owner->handler_(text.substr(begin + 1), std::max(age, absl::ZeroDuration()));
}

void RedisStream::Impl::Reader::OnLost(const absl::Status& why) {
  is_reading = false;
  if (!absl::IsResourceExhausted(why)) return;
  skips_backlog = true;
  owner->entries_invalid_.fetch_add(1);
}

bool RedisStream::Impl::Append(absl::string_view entry) {
  if (entry.size() > stream_options_.entry_bytes_max) {
    entries_too_long_.fetch_add(1);
    return false;
  }
  return writer_.Append({kField, absl::StrCat(prefix_, entry)});
}

absl::StatusOr<std::unique_ptr<RedisStream>> RedisStream::Create(
    RedisOptions options, RedisStreamOptions stream_options,
    std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  if (absl::Status status = stream_options.Validate(); !status.ok()) {
    return status;
  }
  return std::unique_ptr<RedisStream>(new RedisStream(
      std::make_unique<Impl>(options, std::move(stream_options), lookup)));
}

RedisStream::RedisStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

RedisStream::~RedisStream() { Stop(); }

absl::Status RedisStream::Start(Handler handler) {
  return impl_->Start(std::move(handler));
}

void RedisStream::Stop() { impl_->Stop(); }

bool RedisStream::Append(absl::string_view entry) {
  return impl_->Append(entry);
}

RedisStreamStats RedisStream::GetStats() const { return impl_->GetStats(); }

absl::Status RedisStream::Health() const { return impl_->Health(); }

}  // namespace udpgate
