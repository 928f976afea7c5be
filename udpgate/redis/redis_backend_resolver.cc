#include "udpgate/redis/redis_backend_resolver.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/dns/backend_text.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/unshared_status.h"
#include "udpgate/redis/internal/answer_log.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/get_pace.h"

namespace udpgate {
namespace {

using redis::internal::AnswerLog;
using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::GetPace;
using redis::internal::ReplyText;

constexpr absl::Duration kTimeoutMax = absl::Hours(1);

// The wait for a stale answer ends at multiples of this, so that a crowd is
// looked through now and then and not for each of its members.
constexpr int64_t kPatienceStepNanoseconds = 10'000'000;

// How many GETs a question may be part of.
constexpr int kAsksMax = 3;

constexpr absl::Duration kStaleLogInterval = absl::Seconds(10);

absl::Status About(absl::string_view name, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(name, ": ", status.message()));
}

struct Question {
  int64_t deadline_nanoseconds;
  // From then on a stale answer is better than none.
  int64_t patience_nanoseconds;
  BackendResolver::Callback done;
  int asks = 0;  // GETs that it was part of
};

// Answered by one GET. Empty where the GET only tells the health.
using Questions = std::vector<Question>;

void AnswerAll(Questions questions, const absl::StatusOr<ResolveResult>& answer,
               AnswerLog* log) {
  log->CountAnswered(questions.size());
  for (Question& question : questions) {
    question.done(internal::Unshared(answer));
  }
}

// Moves the questions whose `time` is not after `until` from one to the other.
// `next` becomes the earliest `time` of the rest, where it was later.
void MoveDue(int64_t Question::*time, int64_t until, Questions* from,
             Questions* to, int64_t* next) {
  const auto is_not_due = [&](const Question& question) {
    return question.*time > until;
  };
  const auto first_due =
      std::stable_partition(from->begin(), from->end(), is_not_due);
  to->insert(to->end(), std::make_move_iterator(first_due),
             std::make_move_iterator(from->end()));
  from->erase(first_due, from->end());
  for (const Question& question : *from) {
    *next = std::min(*next, question.*time);
  }
}

}  // namespace

// `Resolve` puts questions into `incoming_`. The thread of the connection moves
// them to `waiting_`, and from there, all that wait, into one GET.
class RedisBackendResolver::Impl final : public ConnectionOwner {
 public:
  Impl(RedisOptions options, std::shared_ptr<HostLookup> lookup)
      : options_(std::move(options)),
        clock_(options_.clock != nullptr ? options_.clock : Clock::Monotonic()),
        key_name_(absl::StrCat("key \"", absl::CHexEscape(options_.backend_key),
                               "\"")),
        lookup_(std::move(lookup)),
        log_(std::make_shared<AnswerLog>(options_.failure_pause,
                                         options_.stale_backend_age_max)),
        pace_(options_.gets_per_second_max),
        stale_limiter_(clock_, kStaleLogInterval),
        connection_(options_, lookup_, "backend key", "udpgate-redis-g", this) {
  }

  // Before the members that the thread uses go.
  ~Impl() override { connection_.Stop(); }

  absl::Status Start() { return connection_.Start(); }
  void Resolve(const ResolveRequest& request, Callback done);
  absl::Status Health() const;
  RedisBackendResolverStats GetStats() const;

  void OnConnected() override {
    patience_end_nanoseconds_ = INT64_MIN;
    connection_.LogWell(
        absl::StrCat("connected, backends come from ", key_name_));
  }
  void OnAnswer(const redisReply& answer) override;
  void OnMessage(const redisReply&) override {
    connection_.Drop(absl::DataLossError("a message of no subscription"));
  }
  void OnLost(const absl::Status& why) override;
  int64_t OnTurn(int64_t now_nanoseconds) override;
  bool OnSilence() override;

 private:
  bool may_be_stale() const {
    return options_.stale_backend_age_max > absl::ZeroDuration();
  }
  bool has_room_for_get() const {
    return in_flight_.size() < static_cast<size_t>(options_.gets_in_flight_max);
  }

  // Whether questions wait for the next connection.
  bool IsPatient(int64_t now_nanoseconds) const {
    return now_nanoseconds < patience_end_nanoseconds_;
  }

  void TakeIncoming();
  // Puts those back that wait for an answer of a connection that is gone.
  void AskAgain(const absl::Status& why);
  // Answers all who wait, where nobody connects and they are to wait no longer.
  void EndPatience(int64_t now_nanoseconds);
  // Answers with `why` who waits and has no time after `until_nanoseconds`.
  void FailWaiting(int64_t until_nanoseconds, const absl::Status& why);
  // What becomes of those who wait while the last failure is fresh.
  void HeedFailure(int64_t now_nanoseconds);
  // Gives a stale answer to those whose time runs out while Redis owes one.
  void ServeImpatient(int64_t now_nanoseconds);
  // From when on a GET may be sent.
  int64_t NextGetNanoseconds(int64_t now_nanoseconds) const;
  void SendGet();
  void OnValue(absl::string_view value, Questions questions);
  Questions TakeOldest();
  void Fail(Questions questions, const absl::Status& why);
  // The same, while Redis is away.
  void FailOrServeStale(Questions questions, const absl::Status& why);
  // False, and nothing happens, where there is no backend that may be given
  // now.
  bool ServeStale(Questions* questions);
  void GiveStale(const AnswerLog::Stale& stale, Questions questions);
  // The oldest GET got an answer, and it is of no use.
  void OnNoBackend(const absl::Status& why);
  void OnError(const absl::Status& why);

  const RedisOptions options_;
  const Clock* const clock_;
  const std::string key_name_;
  const std::shared_ptr<HostLookup> lookup_;
  const std::shared_ptr<AnswerLog> log_;

  internal::Mutex mutex_;
  Questions incoming_ ABSL_GUARDED_BY(mutex_);
  // Whoever can wait until then needs no ring: where some wait for the pace or
  // for room, the time at which the thread wakes by itself, if not for an
  // answer before; INT64_MIN once it has been rung, since one ring serves all
  // that it has not taken yet; else `kNever`.
  int64_t next_turn_nanoseconds_ ABSL_GUARDED_BY(mutex_) = Connection::kNever;

  // Of the thread of the connection.
  Questions waiting_;
  // No question that waits has an earlier deadline.
  int64_t next_deadline_nanoseconds_ = Connection::kNever;
  // No question, waiting or in flight, loses its patience earlier.
  int64_t next_patience_nanoseconds_ = Connection::kNever;
  // See RedisOptions::reconnect_patience.
  int64_t patience_end_nanoseconds_ = INT64_MIN;
  std::deque<Questions> in_flight_;
  GetPace pace_;
  LogRateLimiter stale_limiter_;
  Connection connection_;
};

void RedisBackendResolver::Impl::Resolve(const ResolveRequest& request,
                                         Callback done) {
  if (!log_->Admit(options_.requests_waiting_max)) {
    done(absl::ResourceExhaustedError(absl::StrCat(
        "Redis ", options_.address, ": too many questions wait already")));
    return;
  }
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  const int64_t timeout_nanoseconds =
      absl::ToInt64Nanoseconds(std::min(request.timeout, kTimeoutMax));
  int64_t patience_nanoseconds = Connection::kNever;
  if (may_be_stale()) {
    const int64_t half = now_nanoseconds + timeout_nanoseconds / 2;
    patience_nanoseconds =
        (half / kPatienceStepNanoseconds + 1) * kPatienceStepNanoseconds;
  }
  const int64_t deadline_nanoseconds = now_nanoseconds + timeout_nanoseconds;
  bool must_ring;
  {
    internal::MutexLock lock(&mutex_);
    incoming_.push_back(
        {deadline_nanoseconds, patience_nanoseconds, std::move(done), 0});
    must_ring = std::min(deadline_nanoseconds, patience_nanoseconds) <
                next_turn_nanoseconds_;
    if (must_ring) next_turn_nanoseconds_ = INT64_MIN;
  }
  if (must_ring) connection_.Wake();
}

absl::Status RedisBackendResolver::Impl::Health() const {
  absl::Status health = connection_.Health();
  return health.ok() ? log_->last() : health;
}

RedisBackendResolverStats RedisBackendResolver::Impl::GetStats() const {
  RedisBackendResolverStats stats;
  stats.gets_sent = log_->gets_sent();
  stats.stale_answers = log_->stale_answers();
  stats.questions_refused = log_->refused();
  stats.questions_asked_again = log_->asked_again();
  stats.questions_waiting = log_->waiting();
  stats.is_connected = connection_.Health().ok();
  return stats;
}

int64_t RedisBackendResolver::Impl::OnTurn(int64_t now_nanoseconds) {
  TakeIncoming();
  ServeImpatient(now_nanoseconds);
  FailWaiting(now_nanoseconds,
              absl::DeadlineExceededError(absl::StrCat(
                  "Redis ", options_.address, ": no answer in time")));
  HeedFailure(now_nanoseconds);
  EndPatience(now_nanoseconds);
  if (waiting_.empty()) return next_patience_nanoseconds_;
  int64_t next_nanoseconds =
      std::min(next_deadline_nanoseconds_, next_patience_nanoseconds_);
  if (IsPatient(now_nanoseconds)) {
    next_nanoseconds = std::min(next_nanoseconds, patience_end_nanoseconds_);
  }
  if (connection_.is_connected() && has_room_for_get()) {
    const int64_t get_nanoseconds = NextGetNanoseconds(now_nanoseconds);
    if (now_nanoseconds >= get_nanoseconds) {
      SendGet();
      return next_patience_nanoseconds_;
    }
    next_nanoseconds = std::min(next_nanoseconds, get_nanoseconds);
  }
  internal::MutexLock lock(&mutex_);
  next_turn_nanoseconds_ = next_nanoseconds;
  return next_nanoseconds;
}

void RedisBackendResolver::Impl::TakeIncoming() {
  Questions incoming;
  {
    internal::MutexLock lock(&mutex_);
    incoming.swap(incoming_);
    next_turn_nanoseconds_ = Connection::kNever;
  }
  if (incoming.empty()) return;
  for (Question& question : incoming) {
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, question.deadline_nanoseconds);
    next_patience_nanoseconds_ =
        std::min(next_patience_nanoseconds_, question.patience_nanoseconds);
    waiting_.push_back(std::move(question));
  }
  connection_.HurryUp();
  if (!connection_.is_connected()) ServeStale(&waiting_);
}

// Redis is away, and the next attempt is not due yet.
void RedisBackendResolver::Impl::EndPatience(int64_t now_nanoseconds) {
  if (waiting_.empty() || !connection_.is_waiting() ||
      IsPatient(now_nanoseconds)) {
    return;
  }
  Fail(std::exchange(waiting_, {}), connection_.Health());
}

void RedisBackendResolver::Impl::FailWaiting(int64_t until_nanoseconds,
                                             const absl::Status& why) {
  if (waiting_.empty() || until_nanoseconds < next_deadline_nanoseconds_) {
    return;
  }
  Questions expired;
  next_deadline_nanoseconds_ = Connection::kNever;
  MoveDue(&Question::deadline_nanoseconds, until_nanoseconds, &waiting_,
          &expired, &next_deadline_nanoseconds_);
  Fail(std::move(expired), why);
}

void RedisBackendResolver::Impl::HeedFailure(int64_t now_nanoseconds) {
  if (waiting_.empty() || !connection_.is_connected()) return;
  const auto failure = log_->FindFailure(now_nanoseconds);
  if (!failure.has_value()) return;
  if (failure->is_redis_away && ServeStale(&waiting_)) return;
  FailWaiting(failure->until_nanoseconds, failure->why);
}

// Where a GET could be sent, it is the pace or the pause that those who wait
// are waiting for; Redis is not to blame for that.
void RedisBackendResolver::Impl::ServeImpatient(int64_t now_nanoseconds) {
  if (now_nanoseconds < next_patience_nanoseconds_) return;
  next_patience_nanoseconds_ = Connection::kNever;
  const auto stale = log_->FindStale(now_nanoseconds);
  if (!stale.has_value()) return;
  Questions impatient;
  for (Questions& questions : in_flight_) {
    MoveDue(&Question::patience_nanoseconds, now_nanoseconds, &questions,
            &impatient, &next_patience_nanoseconds_);
  }
  if (!has_room_for_get()) {
    MoveDue(&Question::patience_nanoseconds, now_nanoseconds, &waiting_,
            &impatient, &next_patience_nanoseconds_);
  }
  GiveStale(*stale, std::move(impatient));
}

int64_t RedisBackendResolver::Impl::NextGetNanoseconds(
    int64_t now_nanoseconds) const {
  const auto failure = log_->FindFailure(now_nanoseconds);
  return std::max(pace_.NextNanoseconds(),
                  failure.has_value() ? failure->until_nanoseconds : INT64_MIN);
}

void RedisBackendResolver::Impl::SendGet() {
  for (Question& question : waiting_) ++question.asks;
  in_flight_.push_back(std::exchange(waiting_, {}));
  next_deadline_nanoseconds_ = Connection::kNever;
  pace_.Count(clock_->NowNanoseconds());
  log_->CountGet();
  connection_.Send({"GET", options_.backend_key});
}

bool RedisBackendResolver::Impl::OnSilence() {
  // Tells more than a PING, where somebody waits for better news.
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (log_->last().ok() ||
      now_nanoseconds < NextGetNanoseconds(now_nanoseconds)) {
    return false;
  }
  SendGet();
  return true;
}

void RedisBackendResolver::Impl::OnAnswer(const redisReply& answer) {
  switch (answer.type) {
    case REDIS_REPLY_STRING:
      OnValue(ReplyText(answer), TakeOldest());
      return;
    case REDIS_REPLY_NIL:
      OnNoBackend(absl::NotFoundError(absl::StrCat(key_name_, " is missing")));
      return;
    case REDIS_REPLY_ERROR: {
      const absl::string_view text = ReplyText(answer);
      const absl::Status status = connection_.ErrorToStatus(answer);
      // It is the key that is wrong there, and not Redis.
      if (absl::StartsWith(text, "WRONGTYPE")) {
        OnNoBackend(
            About(key_name_, absl::InvalidArgumentError(status.message())));
      } else {
        OnError(About(key_name_, status));
      }
      connection_.NoteError(answer);
      // The log-in was taken back: only a new one helps.
      if (absl::StartsWith(text, "NOAUTH")) connection_.Drop(status);
      return;
    }
    default: {
      const absl::Status status =
          absl::DataLossError("the answer to GET is no string");
      OnError(About(key_name_, status));
      connection_.Drop(status);
      return;
    }
  }
}

void RedisBackendResolver::Impl::OnValue(absl::string_view value,
                                         Questions questions) {
  // The patience of the most patient; the others' answers may come late.
  int64_t deadline_nanoseconds = INT64_MIN;
  for (const Question& question : questions) {
    deadline_nanoseconds =
        std::max(deadline_nanoseconds, question.deadline_nanoseconds);
  }
  const absl::Duration timeout =
      questions.empty()
          ? options_.command_timeout
          : absl::Nanoseconds(deadline_nanoseconds - clock_->NowNanoseconds());
  const AnswerLog::Answer answer = log_->Begin(clock_->NowNanoseconds());
  ResolveBackendText(value, timeout, lookup_.get(),
                     [key_name = key_name_, log = log_, answer,
                      text = std::string(absl::StripAsciiWhitespace(value)),
                      questions = std::move(questions)](
                         absl::StatusOr<ResolveResult> backend) mutable {
                       if (backend.ok()) {
                         log->SetBackend(answer, *backend);
                       } else {
                         backend = About(key_name, backend.status());
                         log->SetNoBackend(answer, text, backend.status());
                       }
                       AnswerAll(std::move(questions), backend, log.get());
                     });
}

void RedisBackendResolver::Impl::Fail(Questions questions,
                                      const absl::Status& why) {
  // The callers read the code as `BackendResolver::Resolve` says, where a
  // protocol that is not Redis' means: failing.
  absl::Status status = why;
  if (absl::IsDataLoss(why) || absl::IsResourceExhausted(why)) {
    status = absl::UnavailableError(why.message());
  }
  AnswerAll(std::move(questions), status, log_.get());
}

void RedisBackendResolver::Impl::FailOrServeStale(Questions questions,
                                                  const absl::Status& why) {
  if (ServeStale(&questions)) return;
  Fail(std::move(questions), why);
}

bool RedisBackendResolver::Impl::ServeStale(Questions* questions) {
  const auto stale = log_->FindStale(clock_->NowNanoseconds());
  if (!stale.has_value()) return false;
  GiveStale(*stale, std::exchange(*questions, {}));
  return true;
}

void RedisBackendResolver::Impl::GiveStale(const AnswerLog::Stale& stale,
                                           Questions questions) {
  if (questions.empty()) return;
  int64_t suppressed;
  if (options_.log_sink != nullptr && stale_limiter_.Admit(&suppressed)) {
    options_.log_sink(
        LogSeverity::kWarning,
        absl::StrCat("Redis ", options_.address,
                     " is away: new clients get the last backend known, ",
                     stale.backend.label, ", which Redis gave ",
                     absl::ToInt64Seconds(stale.age), " s ago"));
  }
  log_->CountStale(questions.size());
  AnswerAll(std::move(questions), stale.backend, log_.get());
}

Questions RedisBackendResolver::Impl::TakeOldest() {
  Questions questions = std::move(in_flight_.front());
  in_flight_.pop_front();
  return questions;
}

void RedisBackendResolver::Impl::OnNoBackend(const absl::Status& why) {
  log_->SetNoBackend(log_->Begin(clock_->NowNanoseconds()), "", why);
  Fail(TakeOldest(), why);
}

void RedisBackendResolver::Impl::OnError(const absl::Status& why) {
  log_->SetRedisAway(log_->Begin(clock_->NowNanoseconds()), why);
  FailOrServeStale(TakeOldest(), why);
}

void RedisBackendResolver::Impl::OnLost(const absl::Status& why) {
  // A value far too long for a backend ended the connection: the oldest GET
  // has got an answer in that.
  if (absl::IsResourceExhausted(why) && !in_flight_.empty()) {
    OnNoBackend(About(key_name_, absl::InvalidArgumentError(why.message())));
  }
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (connection_.was_closed_in_use()) {
    patience_end_nanoseconds_ =
        now_nanoseconds + absl::ToInt64Nanoseconds(options_.reconnect_patience);
  }
  if (connection_.was_closed_in_use() && IsPatient(now_nanoseconds)) {
    AskAgain(why);
  }
  for (Questions& questions : std::exchange(in_flight_, {})) {
    FailOrServeStale(std::move(questions), why);
  }
  if (!IsPatient(now_nanoseconds)) {
    FailOrServeStale(std::exchange(waiting_, {}), why);
  } else if (!waiting_.empty() && !ServeStale(&waiting_)) {
    connection_.HurryUp();
  }
}

void RedisBackendResolver::Impl::AskAgain(const absl::Status& why) {
  Questions again;
  Questions failed;
  for (Questions& questions : std::exchange(in_flight_, {})) {
    for (Question& question : questions) {
      (question.asks < kAsksMax ? again : failed)
          .push_back(std::move(question));
    }
  }
  FailOrServeStale(std::move(failed), why);
  if (again.empty() || ServeStale(&again)) return;
  log_->CountAskedAgain(again.size());
  for (const Question& question : again) {
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, question.deadline_nanoseconds);
    next_patience_nanoseconds_ =
        std::min(next_patience_nanoseconds_, question.patience_nanoseconds);
  }
  // Older than those who wait.
  again.insert(again.end(), std::make_move_iterator(waiting_.begin()),
               std::make_move_iterator(waiting_.end()));
  waiting_ = std::move(again);
}

absl::StatusOr<std::shared_ptr<RedisBackendResolver>>
RedisBackendResolver::Create(RedisOptions options,
                             std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  auto impl = std::make_unique<Impl>(std::move(options), std::move(lookup));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::shared_ptr<RedisBackendResolver>(
      new RedisBackendResolver(std::move(impl)));
}

RedisBackendResolver::RedisBackendResolver(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisBackendResolver::~RedisBackendResolver() = default;

void RedisBackendResolver::Resolve(const ResolveRequest& request,
                                   Callback done) {
  impl_->Resolve(request, std::move(done));
}

absl::Status RedisBackendResolver::Health() const { return impl_->Health(); }

RedisBackendResolverStats RedisBackendResolver::GetStats() const {
  return impl_->GetStats();
}

}  // namespace udpgate
