#include "udpgate/store/internal/store_resolver.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

using udpgate::internal::Mutex;
using udpgate::internal::MutexLock;

// One resolution, which both sides answer. Threads: any.
class Question {
 public:
  Question(std::shared_ptr<BackendResolver> inner,
           BackendResolver::Callback done)
      : inner_(std::move(inner)), done_(std::move(done)) {}

  void SetResult(absl::StatusOr<ResolveResult> result) {
    {
      MutexLock lock(&mutex_);
      result_ = std::move(result);
    }
    MaybeFinish();
  }

  void SetVerdict(Verdict verdict) {
    {
      MutexLock lock(&mutex_);
      verdict_ = std::move(verdict);
    }
    MaybeFinish();
  }

 private:
  void MaybeFinish() {
    BackendResolver::Callback done;
    absl::optional<absl::StatusOr<ResolveResult>> result;
    absl::optional<Verdict> verdict;
    {
      MutexLock lock(&mutex_);
      if (!verdict_.has_value() || done_ == nullptr) return;
      if (verdict_->kind == Verdict::Kind::kNothing && !result_.has_value()) {
        return;
      }
      done = std::exchange(done_, nullptr);
      result = std::move(result_);
      verdict = std::move(verdict_);
    }
    done(Choose(std::move(result), *verdict));
  }

  absl::StatusOr<ResolveResult> Choose(
      absl::optional<absl::StatusOr<ResolveResult>> result,
      const Verdict& verdict) const {
    if (verdict.kind == Verdict::Kind::kNothing) return *std::move(result);
    const StoredSession& record = verdict.record;
    const bool is_adopted = verdict.kind == Verdict::Kind::kAdopted;
    if (result.has_value() && result->ok() && (*result)->tag != nullptr) {
      ResolveResult known = **std::move(result);
      if (is_adopted && known.backend == record.backend &&
          !known.relay.is_valid()) {
        known.relay = record.relay;
      }
      return known;
    }
    ResolveResult of_record;
    of_record.backend = record.backend;
    of_record.label = record.label;
    of_record.age = verdict.age;
    of_record.forward_to = verdict.forward_to;
    if (!is_adopted) return of_record;
    // Whoever forges the address of a client of a dead gateway gets nothing
    // that its backend would not have sent there anyway.
    of_record.is_client_proven = true;
    of_record.relay = record.relay;
    if (!record.tag_key.empty()) {
      of_record.tag =
          inner_->RestoreTag(SessionTag(record.tag_key, record.tag_text));
    }
    return of_record;
  }

  const std::shared_ptr<BackendResolver> inner_;
  Mutex mutex_;
  BackendResolver::Callback done_ ABSL_GUARDED_BY(mutex_);
  absl::optional<absl::StatusOr<ResolveResult>> result_ ABSL_GUARDED_BY(mutex_);
  absl::optional<Verdict> verdict_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

void StoreResolver::Resolve(const ResolveRequest& request, Callback done) {
  if (request.reason != ResolveRequest::Reason::kDatagram) {
    return inner_->Resolve(request, std::move(done));
  }
  const auto question = std::make_shared<Question>(inner_, std::move(done));
  source_->Ask(request.client,
               timeout_ > absl::ZeroDuration() ? timeout_ : request.timeout / 2,
               [question](Verdict verdict) {
                 question->SetVerdict(std::move(verdict));
               });
  inner_->Resolve(request, [question](absl::StatusOr<ResolveResult> result) {
    question->SetResult(std::move(result));
  });
}

std::vector<SocketAddress> StoreResolver::HandleDisconnect(
    const DisconnectTarget& target) {
  source_->OnDisconnect(target);
  std::vector<SocketAddress> clients = inner_->HandleDisconnect(target);
  for (const SocketAddress& client : clients) {
    DisconnectTarget also = DisconnectTarget::ForClient(client);
    also.set_age(target.age());
    source_->OnDisconnect(also);
  }
  return clients;
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
