#include "udpgate/redis/internal/session_pipe.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/unshared_status.h"
#include "udpgate/logging.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;
using udpgate::internal::Unshared;

// A command that was refused may never be sent again.
constexpr int64_t kRefusalNanoseconds = 10'000'000'000;

}  // namespace

// Redis 7: "KIND text script: SHA, on @user_script:LINE."
// Redis 6: "ERR Error running script (call to f_SHA): @user_script:LINE:
// @user_script: LINE: KIND text"
absl::string_view ErrorOfScript(absl::string_view error) {
  constexpr absl::string_view kLine = "@user_script:";
  const size_t end = error.rfind(" script: ");
  if (end != absl::string_view::npos &&
      absl::StrContains(error.substr(end), kLine)) {
    return error.substr(0, end);
  }
  if (!absl::StartsWith(error, "ERR Error running script")) return error;
  const size_t line = error.rfind(kLine);
  if (line == absl::string_view::npos) return error;
  const size_t colon = error.find(": ", line + kLine.size());
  return colon == absl::string_view::npos ? error : error.substr(colon + 2);
}

SessionPipe::SessionPipe(const RedisOptions& redis_options,
                         const SessionPipeOptions& options,
                         std::shared_ptr<HostLookup> lookup,
                         const FrameLimits& limits)
    : redis_options_(redis_options),
      options_(options),
      timeout_nanoseconds_(
          absl::ToInt64Nanoseconds(redis_options.command_timeout)),
      connection_(redis_options, std::move(lookup), "session store",
                  "udpgate-redis-s", this, limits) {}

void SessionPipe::Stop() {
  {
    MutexLock lock(&mutex_);
    is_stopped_ = true;
    is_open_ = false;
  }
  connection_.Stop();
  Queue failed;
  failed.swap(in_flight_);
  {
    MutexLock lock(&mutex_);
    for (Queue* queue : {&urgent_, &waiting_}) {
      std::move(queue->begin(), queue->end(), std::back_inserter(failed));
      queue->clear();
    }
    records_waiting_ = 0;
  }
  in_flight_count_.store(0);
  Fail(&failed, absl::CancelledError("the session store is stopped"));
}

absl::Status SessionPipe::CheckCluster() const {
  const bool is_cluster =
      redis_options_.nodes != nullptr && redis_options_.nodes->is_cluster();
  if (!is_cluster || options_.cluster_hint.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("Redis ", redis_options_.address,
                   " (session store): ", options_.cluster_hint));
}

absl::Status SessionPipe::Health() const {
  if (absl::Status status = CheckCluster(); !status.ok()) return status;
  if (absl::Status status = connection_.Health(); !status.ok()) return status;
  const int64_t now_nanoseconds = redis_options_.clock->NowNanoseconds();
  MutexLock lock(&mutex_);
  for (const auto& [what, refusal] : refused_) {
    if (now_nanoseconds < refusal.until_nanoseconds) {
      return Unshared(refusal.why);
    }
  }
  return absl::OkStatus();
}

absl::Status SessionPipe::Submit(std::vector<SessionCommand> commands) {
  if (absl::Status status = CheckCluster(); !status.ok()) return status;
  size_t records = 0;
  for (const SessionCommand& command : commands) records += command.records;
  const int64_t deadline_nanoseconds =
      redis_options_.clock->NowNanoseconds() + timeout_nanoseconds_;
  {
    MutexLock lock(&mutex_);
    if (is_stopped_) {
      return absl::CancelledError("the session store is stopped");
    }
    if (!is_open_) {
      records_refused_.fetch_add(records);
      return absl::UnavailableError(
          absl::StrCat("Redis ", redis_options_.address, " is not connected"));
    }
    if (records_waiting_ + records > options_.queue_records_max) {
      records_refused_.fetch_add(records);
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", options_.queue_records_max,
                       " records would wait for Redis"));
    }
    records_waiting_ += records;
    for (SessionCommand& command : commands) {
      (command.is_urgent ? urgent_ : waiting_)
          .push_back({std::move(command), deadline_nanoseconds, 0});
    }
  }
  connection_.Wake();
  return absl::OkStatus();
}

SessionPipeStats SessionPipe::GetStats() const {
  SessionPipeStats stats;
  stats.commands_sent = commands_sent_.load();
  stats.replies = replies_.load();
  stats.errors = errors_.load();
  stats.lost = lost_.load();
  stats.records_refused = records_refused_.load();
  stats.commands_in_flight = in_flight_count_.load();
  stats.reply_seconds = static_cast<double>(reply_nanoseconds_.load()) / 1e9;
  MutexLock lock(&mutex_);
  stats.records_waiting = static_cast<int64_t>(records_waiting_);
  return stats;
}

void SessionPipe::OnConnected() {
  MutexLock lock(&mutex_);
  is_open_ = !is_stopped_;
}

bool SessionPipe::TakeNext(Waiting* next) {
  Queue* const queue = urgent_.empty() ? &waiting_ : &urgent_;
  if (queue->empty()) return false;
  *next = std::move(queue->front());
  queue->pop_front();
  records_waiting_ -= next->command.records;
  return true;
}

int64_t SessionPipe::TakeLate(int64_t now_nanoseconds, Queue* late) {
  int64_t deadline_nanoseconds = Connection::kNever;
  for (Queue* queue : {&urgent_, &waiting_}) {
    while (!queue->empty() &&
           queue->front().deadline_nanoseconds <= now_nanoseconds) {
      records_waiting_ -= queue->front().command.records;
      late->push_back(std::move(queue->front()));
      queue->pop_front();
    }
    if (!queue->empty()) {
      deadline_nanoseconds =
          std::min(deadline_nanoseconds, queue->front().deadline_nanoseconds);
    }
  }
  return deadline_nanoseconds;
}

int64_t SessionPipe::OnIteration(int64_t now_nanoseconds) {
  if (const absl::Status status = CheckCluster();
      !status.ok() && !std::exchange(is_cluster_said_, true) &&
      redis_options_.log_sink != nullptr) {
    redis_options_.log_sink(LogSeverity::kError, status.message());
  }
  Queue late;
  int64_t deadline_nanoseconds;
  {
    MutexLock lock(&mutex_);
    deadline_nanoseconds = TakeLate(now_nanoseconds, &late);
  }
  Fail(&late,
       absl::UnavailableError(absl::StrCat(
           "Redis ", redis_options_.address, " is too slow: not sent within ",
           absl::FormatDuration(redis_options_.command_timeout))));
  while (connection_.is_connected() &&
         in_flight_.size() < options_.commands_in_flight_max) {
    Waiting next;
    {
      MutexLock lock(&mutex_);
      if (!TakeNext(&next)) return Connection::kNever;
    }
    Send(std::move(next), now_nanoseconds);
  }
  return deadline_nanoseconds;
}

void SessionPipe::Send(Waiting next, int64_t now_nanoseconds) {
  const std::vector<absl::string_view> arguments(next.command.arguments.begin(),
                                                 next.command.arguments.end());
  connection_.Send(arguments);
  next.command.arguments.clear();
  next.sent_nanoseconds = now_nanoseconds;
  in_flight_.push_back(std::move(next));
  commands_sent_.fetch_add(1);
  in_flight_count_.store(static_cast<int64_t>(in_flight_.size()));
}

void SessionPipe::OnReply(const redisReply& reply) {
  if (in_flight_.empty()) {
    connection_.Drop(absl::DataLossError("unexpected reply"));
    return;
  }
  Waiting answered = std::move(in_flight_.front());
  in_flight_.pop_front();
  in_flight_count_.store(static_cast<int64_t>(in_flight_.size()));
  SessionCommand& command = answered.command;
  reply_nanoseconds_.fetch_add(static_cast<uint64_t>(std::max<int64_t>(
      redis_options_.clock->NowNanoseconds() - answered.sent_nanoseconds, 0)));
  if (reply.type == REDIS_REPLY_ERROR) {
    TakeError(&command, reply);
    return;
  }
  replies_.fetch_add(1);
  if (!command.done(&reply)) {
    connection_.Drop(absl::DataLossError(
        absl::StrCat("unexpected reply to: ", command.what)));
    return;
  }
  Recover(command.what);
}

absl::Status SessionPipe::ErrorOf(const redisReply& error) const {
  const absl::string_view text = ReplyText(error);
  absl::Status status = connection_.ErrorToStatus(error);
  const bool is_of_cluster =
      absl::StartsWith(text, "CROSSSLOT") || absl::StartsWith(text, "MOVED");
  if (!is_of_cluster || options_.cluster_hint.empty()) return status;
  return absl::Status(status.code(), absl::StrCat(status.message(), "; ",
                                                  options_.cluster_hint));
}

void SessionPipe::TakeError(SessionCommand* command, const redisReply& reply) {
  redisReply error = reply;
  const absl::string_view text = ErrorOfScript(ReplyText(reply));
  error.str = const_cast<char*>(text.data());
  error.len = text.size();
  const absl::Status why = ErrorOf(error);
  errors_.fetch_add(1);
  has_refused_ = true;
  {
    MutexLock lock(&mutex_);
    refused_[command->what] = {
        absl::Status(why.code(),
                     absl::StrCat(why.message(), " to: ", command->what)),
        redis_options_.clock->NowNanoseconds() + kRefusalNanoseconds};
  }
  // One line tells of what is refused to several commands.
  if (why.message() != error_text_) {
    error_text_ = std::string(why.message());
    error_about_ = std::string(command->what);
    if (!options_.cluster_hint.empty() &&
        absl::EndsWith(error_text_, options_.cluster_hint)) {
      absl::StrAppend(&error_about_, "; ", options_.cluster_hint);
    }
  }
  connection_.LogErrorReply(error_about_, error);
  command->done(Unshared(why));
  if (IsLoginRevoked(reply)) {
    connection_.DropClosed(why, RedisProblem::kLogin);
    connection_.ReconnectSoon();
    return;
  }
  connection_.OnErrorReply(error);
}

void SessionPipe::Recover(absl::string_view what) {
  if (has_refused_) {
    {
      MutexLock lock(&mutex_);
      refused_.erase(what);
    }
    if (!Health().ok()) return;
  } else if (connection_.problem() == RedisProblem::kNone && has_recovered_) {
    return;
  }
  has_refused_ = false;
  has_recovered_ = true;
  error_text_.clear();
  connection_.LogRecovery("keeps sessions");
}

void SessionPipe::OnLost(const absl::Status& why) {
  Queue failed;
  failed.swap(in_flight_);
  in_flight_count_.store(0);
  {
    MutexLock lock(&mutex_);
    is_open_ = false;
    for (Queue* queue : {&urgent_, &waiting_}) {
      std::move(queue->begin(), queue->end(), std::back_inserter(failed));
      queue->clear();
    }
    records_waiting_ = 0;
    refused_.clear();
  }
  has_recovered_ = false;
  Fail(&failed, absl::UnavailableError(why.message()));
}

void SessionPipe::Fail(Queue* failed, const absl::Status& why) {
  lost_.fetch_add(failed->size());
  for (Waiting& waiting : *failed) waiting.command.done(Unshared(why));
  failed->clear();
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
