#include "udpgate/redis/redis_event_stream.h"

#include <cmath>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "udpgate/clock.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/stream_writer.h"
#include "udpgate/redis/redis_option_ranges.h"
#include "udpgate/session_event_fields.h"

namespace udpgate {
namespace {

using redis::internal::StreamWriter;
using redis::internal::StreamWriterOptions;
using redis::internal::StreamWriterStats;

// Enough for the rate of a login storm over a link of 50 ms.
constexpr size_t kInFlightMax = 1024;

StreamWriterOptions WriterOptions(const RedisEventStreamOptions& options) {
  StreamWriterOptions writer;
  writer.key = options.key;
  writer.entries_max = options.entries_max;
  writer.queue_entries_max = static_cast<size_t>(options.queue_events_max);
  writer.in_flight_max = kInFlightMax;
  return writer;
}

struct ToText {
  std::string operator()(const std::string& value) const { return value; }
  std::string operator()(uint64_t value) const { return absl::StrCat(value); }
  // The only one is a duration in whole milliseconds.
  std::string operator()(double value) const {
    const int64_t milliseconds = std::llround(value * 1000);
    return absl::StrCat(milliseconds / 1000, ".",
                        absl::Dec(milliseconds % 1000, absl::kZeroPad3));
  }
};

}  // namespace

absl::Status RedisEventStreamOptions::Validate() const {
  const auto invalid = [](absl::string_view field, absl::string_view allowed) {
    return OptionError(absl::StatusCode::kInvalidArgument,
                       absl::StrCat("RedisEventStreamOptions::", field),
                       absl::StrCat(" must be ", allowed));
  };
  if (key.empty() || key.size() > redis_ranges::kNameBytesMax) {
    return invalid(
        "key", absl::StrCat("1 to ", redis_ranges::kNameBytesMax, " bytes"));
  }
  if (gateway_id.size() > 256) {
    return invalid("gateway_id", "at most 256 bytes");
  }
  const IntegerRange& entries = redis_ranges::kEventStreamEntriesMax;
  if (entries_max < entries.minimum || entries_max > entries.maximum) {
    return invalid("entries_max",
                   absl::StrCat(entries.minimum, " to ", entries.maximum));
  }
  if (queue_events_max < 1 || queue_events_max > 1'000'000) {
    return invalid("queue_events_max", "1 to 1000000");
  }
  return absl::OkStatus();
}

class RedisEventStream::Impl {
 public:
  Impl(const RedisOptions& options, RedisEventStreamOptions stream_options,
       std::shared_ptr<HostLookup> lookup)
      : gateway_id_(stream_options.gateway_id),
        writer_(RedisOptions::WithClock(options.ForKey(stream_options.key)),
                WriterOptions(stream_options), std::move(lookup),
                "event stream", "udpgate-redis-e") {}

  void Observe(const SessionEvent& event) {
    const std::vector<SessionEventField> fields = SessionEventFields(event);
    StreamWriter::Entry entry;
    entry.reserve(4 + 2 * fields.size());
    entry.push_back("time");
    entry.push_back(absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ",
                                     absl::Now() - event.delay,
                                     absl::UTCTimeZone()));
    entry.push_back("gateway");
    entry.push_back(gateway_id_);
    for (const SessionEventField& field : fields) {
      entry.push_back(field.name);
      entry.push_back(std::visit(ToText(), field.value));
    }
    writer_.Append(std::move(entry));
  }

  StreamWriter& writer() { return writer_; }

 private:
  const std::string gateway_id_;
  StreamWriter writer_;
};

absl::StatusOr<std::shared_ptr<RedisEventStream>> RedisEventStream::Create(
    RedisOptions options, RedisEventStreamOptions stream_options,
    std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  if (absl::Status status = stream_options.Validate(); !status.ok()) {
    return status;
  }
  return std::shared_ptr<RedisEventStream>(
      new RedisEventStream(std::make_unique<Impl>(
          options, std::move(stream_options), std::move(lookup))));
}

RedisEventStream::RedisEventStream(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisEventStream::~RedisEventStream() = default;

absl::Status RedisEventStream::Start() { return impl_->writer().Start(); }

void RedisEventStream::Stop() { impl_->writer().Stop(); }

bool RedisEventStream::Flush(absl::Duration timeout) {
  return impl_->writer().Flush(timeout);
}

void RedisEventStream::Observe(const SessionEvent& event) {
  impl_->Observe(event);
}

RedisEventStreamStats RedisEventStream::GetStats() const {
  const StreamWriterStats written = impl_->writer().GetStats();
  RedisEventStreamStats stats;
  stats.is_writing = written.is_writing;
  stats.events_written = written.entries_written;
  stats.events_dropped = written.entries_dropped;
  stats.events_waiting = written.entries_waiting;
  stats.problem = written.problem;
  return stats;
}

}  // namespace udpgate
