#include "udpgate/redis/internal/stream_writer.h"

#include <chrono>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;

constexpr absl::Duration kExpireInterval = absl::Seconds(30);
constexpr absl::Duration kExpireRetryInterval = absl::Seconds(1);

}  // namespace

StreamWriter::StreamWriter(const RedisOptions& options,
                           StreamWriterOptions writer_options,
                           std::shared_ptr<HostLookup> lookup,
                           absl::string_view what_for,
                           absl::string_view thread_name)
    : options_(std::move(writer_options)),
      clock_(options.clock),
      key_name_(
          absl::StrCat("stream \"", absl::CHexEscape(options_.key), "\"")),
      entries_max_text_(absl::StrCat(options_.entries_max)),
      connection_(options, std::move(lookup), what_for, thread_name, this) {}

void StreamWriter::Stop() {
  connection_.Stop();
  MutexLock lock(&mutex_);
  entries_dropped_.fetch_add(queue_.size());
  queue_.clear();
}

bool StreamWriter::Append(Entry entry) {
  bool was_empty;
  {
    MutexLock lock(&mutex_);
    if (queue_.size() >= options_.queue_entries_max) {
      entries_dropped_.fetch_add(1);
      return false;
    }
    was_empty = queue_.empty();
    queue_.push_back(std::move(entry));
  }
  // Otherwise the thread has been woken, or waits for replies, after which it
  // looks at the queue anyway.
  if (was_empty) connection_.Wake();
  return true;
}

bool StreamWriter::Flush(absl::Duration timeout) {
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&mutex_);
  while (!queue_.empty() || !in_flight_.empty()) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero() || !connection_.Health().ok()) return false;
    flushed_.WaitFor(&mutex_, left);
  }
  return true;
}

StreamWriterStats StreamWriter::GetStats() const {
  StreamWriterStats stats;
  stats.problem = connection_.problem();
  stats.is_writing =
      connection_.Health().ok() && stats.problem == RedisProblem::kNone;
  stats.entries_written = entries_written_.load();
  stats.entries_dropped = entries_dropped_.load();
  MutexLock lock(&mutex_);
  stats.entries_waiting = static_cast<int64_t>(queue_.size());
  return stats;
}

void StreamWriter::OnConnected() {
  next_expire_nanoseconds_ = INT64_MIN;
  connection_.LogRecovery(absl::StrCat("writes ", key_name_));
}

int64_t StreamWriter::OnIteration(int64_t now_nanoseconds) {
  MutexLock lock(&mutex_);
  bool has_written = false;
  while (connection_.is_connected() && !queue_.empty() &&
         in_flight_.size() < options_.in_flight_max) {
    in_flight_.push_back(std::move(queue_.front()));
    queue_.pop_front();
    Write(in_flight_.back());
    has_written = true;
  }
  if (has_written && options_.key_lifetime != absl::InfiniteDuration() &&
      now_nanoseconds >= next_expire_nanoseconds_) {
    WriteLifetime(now_nanoseconds);
    in_flight_.emplace_back();
  }
  return Connection::kNever;
}

void StreamWriter::Write(const Entry& entry) {
  arguments_ = {"XADD", options_.key, "MAXLEN", "~", entries_max_text_, "*"};
  arguments_.insert(arguments_.end(), entry.begin(), entry.end());
  connection_.Send(arguments_);
}

void StreamWriter::WriteLifetime(int64_t now_nanoseconds) {
  next_expire_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(kExpireInterval);
  connection_.Send(
      {"PEXPIRE", options_.key,
       absl::StrCat(absl::ToInt64Milliseconds(options_.key_lifetime))});
}

absl::optional<StreamWriter::Entry> StreamWriter::TakeWritten() {
  MutexLock lock(&mutex_);
  if (in_flight_.empty()) return absl::nullopt;
  Entry written = std::move(in_flight_.front());
  in_flight_.pop_front();
  if (queue_.empty() && in_flight_.empty()) flushed_.SignalAll();
  return written;
}

void StreamWriter::OnReply(const redisReply& reply) {
  absl::optional<Entry> written = TakeWritten();
  if (!written.has_value()) {
    connection_.Drop(absl::DataLossError("unexpected reply"));
    return;
  }
  const bool is_entry = !written->empty();
  const bool is_error = reply.type == REDIS_REPLY_ERROR;
  (is_entry ? has_entry_error_ : has_expire_error_) = is_error;
  if (is_entry) {
    (is_error ? entries_dropped_ : entries_written_).fetch_add(1);
  }
  if (is_error) {
    connection_.LogErrorReply(absl::StrCat("a write of ", key_name_), reply);
    connection_.OnErrorReply(reply);
    // Not only after the usual interval.
    if (!is_entry) {
      next_expire_nanoseconds_ = clock_->NowNanoseconds() +
                                 absl::ToInt64Nanoseconds(kExpireRetryInterval);
    }
  } else if (!has_entry_error_ && !has_expire_error_ &&
             connection_.problem() != RedisProblem::kNone) {
    connection_.LogRecovery(absl::StrCat("writes ", key_name_));
  }
}

void StreamWriter::OnLost(const absl::Status&) {
  MutexLock lock(&mutex_);
  while (!in_flight_.empty()) {
    if (!in_flight_.back().empty()) {
      queue_.push_front(std::move(in_flight_.back()));
    }
    in_flight_.pop_back();
  }
  flushed_.SignalAll();
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
