#include "udpgate/nethernet/internal/status_cache.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using ::udpgate::internal::MutexLock;

constexpr char kStatusPath[] = "/v1/join";

}  // namespace

void StatusCache::Get(const Asker& asker, Done done) {
  const auto options = context_->options();
  JoinCounters& counters = context_->counters;
  uint64_t question = 0;
  {
    MutexLock lock(&mutex_);
    const bool is_full =
        counters.status_waiters.load() >= int64_t{options->status_waiters_max};
    const bool has_failed =
        context_->clock->NowNanoseconds() < failed_until_nanoseconds_;
    if (is_full) ++counters.status_waiters_refused;
    if (!is_full && !has_failed) {
      ++counters.status_waiters;
      waiters_.push_back(std::move(done));
      done = nullptr;
      if (is_resolving_) return;
      is_resolving_ = true;
      question = ++question_;
    }
  }
  if (done != nullptr) {
    done(nullptr);
  } else {
    Resolve(asker, question);
  }
}

void StatusCache::Resolve(const Asker& asker, uint64_t question) {
  const absl::Duration timeout = context_->options()->status_timeout;
  const int64_t deadline_nanoseconds =
      context_->clock->NowNanoseconds() + absl::ToInt64Nanoseconds(timeout);
  auto self = shared_from_this();
  const auto on_resolved = [self, asker, question, deadline_nanoseconds](
                               absl::StatusOr<ResolveResult> result) {
    self->OnResolved(asker, question, deadline_nanoseconds, std::move(result));
  };
  const Deadlines::Key key =
      context_->deadlines->Add(deadline_nanoseconds, [on_resolved] {
        on_resolved(absl::DeadlineExceededError("no result in time"));
      });
  ResolveRequest request;
  request.client = asker.client;
  request.timeout = timeout;
  request.reason = ResolveRequest::Reason::kStatus;
  context_->resolver->Resolve(
      request, [on_resolved, key,
                context = context_](absl::StatusOr<ResolveResult> result) {
        context->deadlines->Remove(key);
        on_resolved(std::move(result));
      });
}

void StatusCache::OnResolved(const Asker& asker, uint64_t question,
                             int64_t deadline_nanoseconds,
                             absl::StatusOr<ResolveResult> result) {
  const auto options = context_->options();
  std::vector<Done> waiters;
  Answer answer;
  bool asks = false;
  {
    MutexLock lock(&mutex_);
    if (!is_resolving_ || question != question_) return;
    is_resolving_ = false;
    waiters.swap(waiters_);
    const int64_t now_nanoseconds = context_->clock->NowNanoseconds();
    Entry* entry = nullptr;
    if (result.ok() && result->backend.is_valid()) {
      entry = FindOrMake(result->backend,
                         static_cast<size_t>(options->status_backends_max));
    } else {
      failed_until_nanoseconds_ =
          now_nanoseconds +
          absl::ToInt64Nanoseconds(options->status_failure_age_max);
    }
    if (entry != nullptr && now_nanoseconds < entry->fresh_until_nanoseconds) {
      answer = entry->answer;
    } else if (entry != nullptr) {
      std::move(waiters.begin(), waiters.end(),
                std::back_inserter(entry->waiters));
      waiters.clear();
      asks = !entry->is_asking;
      entry->is_asking = true;
    }
  }
  Call(std::move(waiters), answer);
  if (asks) AskBackend(asker, *result, deadline_nanoseconds);
}

StatusCache::Entry* StatusCache::FindOrMake(const SocketAddress& backend,
                                            size_t entries_max) {
  const auto found = entries_.find(backend);
  if (found != entries_.end()) return &found->second;
  while (entries_.size() >= entries_max) {
    auto oldest = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->second.is_asking) continue;
      if (oldest == entries_.end() ||
          entry->second.fresh_until_nanoseconds <
              oldest->second.fresh_until_nanoseconds) {
        oldest = entry;
      }
    }
    if (oldest == entries_.end()) return nullptr;
    entries_.erase(oldest);
  }
  return &entries_[backend];
}

void StatusCache::AskBackend(const Asker& asker, const ResolveResult& backend,
                             int64_t deadline_nanoseconds) {
  const auto options = context_->options();
  BackendQuestion question;
  question.addresses = SignalingAddresses(backend, options->backend_port);
  question.asker = asker;
  question.forward_client = options->forward_client;
  question.method = "GET";
  question.target = kStatusPath;
  question.response_bytes_max = options->status_bytes_max;
  question.deadline_nanoseconds = deadline_nanoseconds;
  // The age counts from here on: what the resolver took makes nothing older.
  const int64_t asked_nanoseconds = context_->clock->NowNanoseconds();
  auto self = shared_from_this();
  Ask(context_, std::move(question),
      [self, asked_nanoseconds,
       address = backend.backend](BackendAnswer answer) {
        self->OnAnswer(address, asked_nanoseconds, std::move(answer));
      });
}

void StatusCache::OnAnswer(const SocketAddress& backend,
                           int64_t asked_nanoseconds, BackendAnswer result) {
  const auto options = context_->options();
  Answer answer;
  int64_t fresh_until_nanoseconds;
  if (result.response.ok()) {
    ++context_->counters.status_questions_answered;
    auto response =
        std::make_shared<http::Response>(*std::move(result.response));
    response->headers.clear();
    answer = std::move(response);
    fresh_until_nanoseconds =
        asked_nanoseconds + absl::ToInt64Nanoseconds(options->status_age_max);
  } else {
    ++context_->counters.status_questions_failed;
    fresh_until_nanoseconds =
        context_->clock->NowNanoseconds() +
        absl::ToInt64Nanoseconds(options->status_failure_age_max);
  }
  std::vector<Done> waiters;
  {
    MutexLock lock(&mutex_);
    const auto entry = entries_.find(backend);
    if (entry == entries_.end()) return;
    entry->second.answer = answer;
    entry->second.fresh_until_nanoseconds = fresh_until_nanoseconds;
    entry->second.is_asking = false;
    waiters.swap(entry->second.waiters);
  }
  Call(std::move(waiters), answer);
}

void StatusCache::Call(std::vector<Done> waiters, const Answer& answer) {
  context_->counters.status_waiters -= static_cast<int64_t>(waiters.size());
  for (Done& done : waiters) done(answer);
}

void StatusCache::Clear() {
  std::vector<Done> waiters;
  absl::flat_hash_map<SocketAddress, Entry> entries;
  MutexLock lock(&mutex_);
  is_resolving_ = false;
  waiters.swap(waiters_);
  entries.swap(entries_);
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
