#include "udpgate/redis/redis_outage_log.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace {

using internal::MutexLock;

int64_t GatherNanoseconds() {
  return absl::ToInt64Nanoseconds(RedisOutageLog::kGatherTime);
}

// Each connection notices in its own way and time that nobody is there.
bool IsAway(RedisProblem problem) {
  return problem == RedisProblem::kUnreachable ||
         problem == RedisProblem::kClosed || problem == RedisProblem::kSilent;
}

}  // namespace

class RedisOutageLog::Impl {
 public:
  Impl(const Clock* clock, LogSink sink)
      : clock_(clock), sink_(std::move(sink)) {}
  ~Impl() { FlushAt(kNever - 1); }

  size_t Add(absl::string_view subject, absl::string_view name);
  void Remove(size_t connection);
  void Lost(size_t connection, RedisProblem problem, absl::string_view why);
  void Recovered(size_t connection, absl::string_view what);
  int64_t FlushAt(int64_t now_nanoseconds);
  int64_t Now() const { return clock_->NowNanoseconds(); }

 private:
  struct Connection {
    std::string subject;
    std::string name;
    bool is_lost = false;
    bool was_reported = false;  // lost or recovered
    bool is_away = false;       // lost, and nobody replies
    std::string why;            // not empty: to be logged
    std::string what;           // not empty: the recovery is to be logged
    std::string logged;         // the reason that is in the log; or empty
    bool is_part_of_outage = false;
  };
  // Of one subject.
  struct Subject {
    // Of the line that says that Redis is away, while a connection is.
    bool is_outage_logged = false;
    int64_t lost_due_nanoseconds = kNever;
    int64_t recovered_due_nanoseconds = kNever;
    int64_t recovered_nanoseconds = kNever;  // the first one that waits
    int64_t outage_nanoseconds = kNever;     // its begin
  };
  struct Line {
    LogSeverity severity;
    std::string text;
  };

  void CollectLost(const std::string& name, Subject* subject,
                   std::vector<Line>* lines)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CollectRecovered(const std::string& name, Subject* subject,
                        int64_t now_nanoseconds, std::vector<Line>* lines)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasLostOfOutage(const std::string& subject) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const Clock* const clock_;
  const LogSink sink_;
  mutable internal::Mutex mutex_;
  size_t next_connection_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<size_t, Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Subject> subjects_ ABSL_GUARDED_BY(mutex_);
};

size_t RedisOutageLog::Impl::Add(absl::string_view subject,
                                 absl::string_view name) {
  MutexLock lock(&mutex_);
  Connection& connection = connections_[next_connection_];
  connection.subject = std::string(subject);
  connection.name = std::string(name);
  return next_connection_++;
}

void RedisOutageLog::Impl::Remove(size_t connection) {
  MutexLock lock(&mutex_);
  connections_.erase(connection);
}

void RedisOutageLog::Impl::Lost(size_t connection, RedisProblem problem,
                                absl::string_view why) {
  MutexLock lock(&mutex_);
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  Connection& lost = connections_[connection];
  Subject& subject = subjects_[lost.subject];
  lost.what.clear();
  lost.is_lost = true;
  lost.was_reported = true;
  lost.is_away = IsAway(problem);
  if (lost.is_away) {
    lost.is_part_of_outage = true;
    subject.outage_nanoseconds =
        std::min(subject.outage_nanoseconds, now_nanoseconds);
  }
  const bool is_logged =
      lost.is_away ? subject.is_outage_logged : lost.logged == why;
  lost.why = is_logged ? "" : std::string(why);
  if (is_logged) return;
  subject.lost_due_nanoseconds = std::min(
      subject.lost_due_nanoseconds, now_nanoseconds + GatherNanoseconds());
}

void RedisOutageLog::Impl::Recovered(size_t connection,
                                     absl::string_view what) {
  MutexLock lock(&mutex_);
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  Connection& recovered = connections_[connection];
  Subject& subject = subjects_[recovered.subject];
  if (recovered.was_reported && !recovered.is_lost) return;
  recovered.was_reported = true;
  recovered.is_lost = false;
  recovered.is_away = false;
  recovered.what = std::string(what);
  subject.recovered_nanoseconds =
      std::min(subject.recovered_nanoseconds, now_nanoseconds);
  subject.recovered_due_nanoseconds = now_nanoseconds + GatherNanoseconds();
}

int64_t RedisOutageLog::Impl::FlushAt(int64_t now_nanoseconds) {
  std::vector<Line> lines;
  int64_t next_nanoseconds = kNever;
  {
    MutexLock lock(&mutex_);
    for (auto& [name, subject] : subjects_) {
      if (now_nanoseconds >= subject.lost_due_nanoseconds) {
        subject.lost_due_nanoseconds = kNever;
        CollectLost(name, &subject, &lines);
      }
      if (now_nanoseconds >= subject.recovered_due_nanoseconds) {
        CollectRecovered(name, &subject, now_nanoseconds, &lines);
      }
      next_nanoseconds =
          std::min({next_nanoseconds, subject.lost_due_nanoseconds,
                    subject.recovered_due_nanoseconds});
    }
  }
  if (sink_ != nullptr) {
    for (const Line& line : lines) sink_(line.severity, line.text);
  }
  return next_nanoseconds;
}

void RedisOutageLog::Impl::CollectLost(const std::string& name,
                                       Subject* subject,
                                       std::vector<Line>* lines) {
  // The connections by reason; those that are away have the reason of the last
  // of them.
  std::map<std::string, std::string> names;
  std::string away_names;
  std::string away_why;
  for (auto& [number, connection] : connections_) {
    if (connection.subject != name || !connection.is_lost) continue;
    const std::string why = std::exchange(connection.why, "");
    if (why.empty() && !connection.is_away) continue;
    std::string& list = connection.is_away ? away_names : names[why];
    absl::StrAppend(&list, list.empty() ? "" : ", ", connection.name);
    if (!connection.is_away) connection.logged = why;
    if (connection.is_away && !why.empty()) away_why = why;
  }
  if (!away_why.empty() && !std::exchange(subject->is_outage_logged, true)) {
    names[away_why] = away_names;
  }
  for (const auto& [why, list] : names) {
    lines->push_back(
        {LogSeverity::kWarning,
         absl::StrCat(name, " (", list, "): ", why, "; retrying")});
  }
}

bool RedisOutageLog::Impl::HasLostOfOutage(const std::string& subject) const {
  return std::any_of(
      connections_.begin(), connections_.end(), [&](const auto& entry) {
        return entry.second.subject == subject && entry.second.is_away;
      });
}

void RedisOutageLog::Impl::CollectRecovered(const std::string& name,
                                            Subject* subject,
                                            int64_t now_nanoseconds,
                                            std::vector<Line>* lines) {
  const bool is_over = !HasLostOfOutage(name);
  const int64_t wait_end_nanoseconds =
      subject->recovered_nanoseconds +
      absl::ToInt64Nanoseconds(kRecoveryWaitMax);
  if (!is_over && now_nanoseconds < wait_end_nanoseconds) {
    subject->recovered_due_nanoseconds = wait_end_nanoseconds;
    return;
  }
  std::string parts;
  bool was_outage = false;
  for (auto& [number, connection] : connections_) {
    if (connection.subject != name || connection.what.empty()) continue;
    // A loss that ended before it was logged needs no line, but the first
    // connection does.
    was_outage = was_outage || connection.is_part_of_outage;
    absl::StrAppend(&parts, parts.empty() ? "" : "; ", connection.name, ": ",
                    connection.what);
    connection.what.clear();
    connection.logged.clear();
    connection.is_part_of_outage = false;
  }
  subject->recovered_due_nanoseconds = kNever;
  subject->recovered_nanoseconds = kNever;
  std::string after;
  if (was_outage && subject->outage_nanoseconds != kNever) {
    const absl::Duration time = absl::Nanoseconds(clock_->NowNanoseconds() -
                                                  subject->outage_nanoseconds);
    after = absl::StrCat(" after ", absl::FormatDuration(absl::Trunc(
                                        time, absl::Milliseconds(100))));
  }
  if (is_over) {
    subject->is_outage_logged = false;
    subject->outage_nanoseconds = kNever;
  }
  if (parts.empty()) return;
  lines->push_back(
      {LogSeverity::kInfo, absl::StrCat(name, " works", after, ": ", parts)});
}

RedisOutageLog::RedisOutageLog(const Clock* clock, LogSink sink)
    : impl_(std::make_unique<Impl>(clock, std::move(sink))) {}

RedisOutageLog::~RedisOutageLog() = default;

size_t RedisOutageLog::Add(absl::string_view subject, absl::string_view name) {
  return impl_->Add(subject, name);
}

void RedisOutageLog::Remove(size_t connection) { impl_->Remove(connection); }

void RedisOutageLog::Lost(size_t connection, RedisProblem problem,
                          absl::string_view why) {
  impl_->Lost(connection, problem, why);
}

void RedisOutageLog::Recovered(size_t connection, absl::string_view what) {
  impl_->Recovered(connection, what);
}

int64_t RedisOutageLog::Flush() { return impl_->FlushAt(impl_->Now()); }

}  // namespace udpgate
