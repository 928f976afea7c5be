#include "udpgate/redis/redis_backend_resolver.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/dns/backend_text.h"
#include "udpgate/dns/unshared_status.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/redis/internal/connection.h"

namespace udpgate {
namespace {

constexpr absl::Duration kTimeoutMax = absl::Hours(1);

// What the callbacks of a HostLookup use; they may outlive the resolver.
class AnswerLog {
 public:
  // False where `max` questions have no answer yet.
  bool Admit(int max) {
    if (unanswered_.fetch_add(1) < max) return true;
    unanswered_.fetch_sub(1);
    return false;
  }
  void CountAnswered(size_t count) {
    unanswered_.fetch_sub(static_cast<int>(count));
  }

  void SetLast(const absl::Status& status) {
    internal::MutexLock lock(&mutex_);
    last_ = internal::Unshared(status);
  }
  absl::Status last() const {
    internal::MutexLock lock(&mutex_);
    return internal::Unshared(last_);
  }

 private:
  std::atomic<int> unanswered_{0};
  mutable internal::Mutex mutex_;
  absl::Status last_ ABSL_GUARDED_BY(mutex_);
};

absl::Status About(absl::string_view name, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(name, ": ", status.message()));
}

struct Question {
  int64_t deadline_nanoseconds;
  BackendResolver::Callback done;
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

}  // namespace

// `Resolve` puts questions into `incoming_`. The thread of the connection moves
// them to `waiting_`, and from there, all that wait, into one GET.
class RedisBackendResolver::Impl final : public internal::ConnectionOwner {
 public:
  Impl(RedisOptions options, std::shared_ptr<HostLookup> lookup)
      : options_(std::move(options)),
        clock_(options_.clock != nullptr ? options_.clock : Clock::Monotonic()),
        key_name_(absl::StrCat("key \"", absl::CHexEscape(options_.backend_key),
                               "\"")),
        lookup_(std::move(lookup)),
        connection_(options_, lookup_, "backend key", "udpgate-redis-g", this) {
  }

  // Before the members that the thread uses go.
  ~Impl() override { connection_.Stop(); }

  absl::Status Start() { return connection_.Start(); }
  void Resolve(const ResolveRequest& request, Callback done);
  absl::Status Health() const;

  void OnConnected() override {
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
  void TakeIncoming();
  void ExpireWaiting(int64_t now_nanoseconds);
  void SendGet();
  void OnValue(absl::string_view value, Questions questions);
  void Fail(Questions questions, const absl::Status& why);
  // The oldest GET got an answer, and it is of no use.
  void FailOldest(const absl::Status& why);

  const RedisOptions options_;
  const Clock* const clock_;
  const std::string key_name_;
  const std::shared_ptr<HostLookup> lookup_;
  const std::shared_ptr<AnswerLog> log_ = std::make_shared<AnswerLog>();

  internal::Mutex mutex_;
  Questions incoming_ ABSL_GUARDED_BY(mutex_);

  // Of the thread of the connection.
  Questions waiting_;
  // No question that waits has an earlier deadline.
  int64_t next_deadline_nanoseconds_ = internal::Connection::kNever;
  std::deque<Questions> in_flight_;
  internal::Connection connection_;
};

void RedisBackendResolver::Impl::Resolve(const ResolveRequest& request,
                                         Callback done) {
  if (!log_->Admit(options_.requests_waiting_max)) {
    done(absl::ResourceExhaustedError(absl::StrCat(
        "Redis ", options_.address, ": too many questions wait already")));
    return;
  }
  const int64_t deadline_nanoseconds =
      clock_->NowNanoseconds() +
      absl::ToInt64Nanoseconds(std::min(request.timeout, kTimeoutMax));
  bool is_first;
  {
    internal::MutexLock lock(&mutex_);
    incoming_.push_back({deadline_nanoseconds, std::move(done)});
    is_first = incoming_.size() == 1;
  }
  // One ring serves all that the thread has not taken yet.
  if (is_first) connection_.Wake();
}

absl::Status RedisBackendResolver::Impl::Health() const {
  absl::Status health = connection_.Health();
  return health.ok() ? log_->last() : health;
}

int64_t RedisBackendResolver::Impl::OnTurn(int64_t now_nanoseconds) {
  TakeIncoming();
  ExpireWaiting(now_nanoseconds);
  if (connection_.is_connected() && !waiting_.empty() &&
      in_flight_.size() < static_cast<size_t>(options_.gets_in_flight_max)) {
    SendGet();
  }
  return waiting_.empty() ? internal::Connection::kNever
                          : next_deadline_nanoseconds_;
}

void RedisBackendResolver::Impl::TakeIncoming() {
  Questions incoming;
  {
    internal::MutexLock lock(&mutex_);
    incoming.swap(incoming_);
  }
  if (incoming.empty()) return;
  for (Question& question : incoming) {
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, question.deadline_nanoseconds);
    waiting_.push_back(std::move(question));
  }
  connection_.HurryUp();
  // Redis is away, and the next attempt is not due yet.
  if (connection_.is_waiting()) {
    Fail(std::exchange(waiting_, {}), connection_.Health());
  }
}

void RedisBackendResolver::Impl::ExpireWaiting(int64_t now_nanoseconds) {
  if (waiting_.empty() || now_nanoseconds < next_deadline_nanoseconds_) return;
  Questions expired;
  Questions still_waiting;
  next_deadline_nanoseconds_ = internal::Connection::kNever;
  for (Question& question : waiting_) {
    if (question.deadline_nanoseconds <= now_nanoseconds) {
      expired.push_back(std::move(question));
      continue;
    }
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, question.deadline_nanoseconds);
    still_waiting.push_back(std::move(question));
  }
  waiting_ = std::move(still_waiting);
  AnswerAll(std::move(expired),
            absl::DeadlineExceededError(absl::StrCat("Redis ", options_.address,
                                                     ": no answer in time")),
            log_.get());
}

void RedisBackendResolver::Impl::SendGet() {
  in_flight_.push_back(std::exchange(waiting_, {}));
  next_deadline_nanoseconds_ = internal::Connection::kNever;
  connection_.Send({"GET", options_.backend_key});
}

bool RedisBackendResolver::Impl::OnSilence() {
  // Tells more than a PING, where somebody waits for better news.
  if (log_->last().ok()) return false;
  SendGet();
  return true;
}

void RedisBackendResolver::Impl::OnAnswer(const redisReply& answer) {
  switch (answer.type) {
    case REDIS_REPLY_STRING: {
      Questions questions = std::move(in_flight_.front());
      in_flight_.pop_front();
      OnValue(internal::ReplyText(answer), std::move(questions));
      return;
    }
    case REDIS_REPLY_NIL:
      FailOldest(absl::NotFoundError(absl::StrCat(key_name_, " is missing")));
      return;
    case REDIS_REPLY_ERROR: {
      const absl::Status status = connection_.ErrorToStatus(answer);
      FailOldest(About(key_name_, status));
      // The log-in was taken back: only a new one helps.
      if (absl::StartsWith(internal::ReplyText(answer), "NOAUTH")) {
        connection_.Drop(status);
      }
      return;
    }
    default: {
      const absl::Status status =
          absl::DataLossError("the answer to GET is no string");
      FailOldest(About(key_name_, status));
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
  ResolveBackendText(
      value, timeout, lookup_.get(),
      [key_name = key_name_, log = log_, questions = std::move(questions)](
          absl::StatusOr<ResolveResult> backend) mutable {
        if (!backend.ok()) {
          backend = About(key_name, backend.status());
        }
        log->SetLast(backend.status());
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

void RedisBackendResolver::Impl::FailOldest(const absl::Status& why) {
  Questions questions = std::move(in_flight_.front());
  in_flight_.pop_front();
  log_->SetLast(why);
  Fail(std::move(questions), why);
}

void RedisBackendResolver::Impl::OnLost(const absl::Status& why) {
  // A value far too long for a backend ended the connection: the oldest GET
  // has got an answer in that.
  if (absl::IsResourceExhausted(why) && !in_flight_.empty()) {
    FailOldest(About(key_name_, absl::InvalidArgumentError(why.message())));
  }
  for (Questions& questions : std::exchange(in_flight_, {})) {
    Fail(std::move(questions), why);
  }
  Fail(std::exchange(waiting_, {}), why);
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

}  // namespace udpgate
