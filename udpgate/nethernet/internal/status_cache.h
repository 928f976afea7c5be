// The backends' own answers to `GET /v1/join`, each asked for once by all who
// want it at the same time.
#ifndef UDPGATE_NETHERNET_INTERNAL_STATUS_CACHE_H_
#define UDPGATE_NETHERNET_INTERNAL_STATUS_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/http/message.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/backend_question.h"
#include "udpgate/nethernet/internal/service_context.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Asks the resolver which backend is current, one question at a time: who asks
// meanwhile shares the result. What that backend answered is shared by all who
// ask for it until it is `status_age_max` old, from the begin of the question.
//
// Threads: any. Nothing is called with the lock held.
class StatusCache : public std::enable_shared_from_this<StatusCache> {
 public:
  // The status, content type and body of a backend's response, or null without
  // one.
  using Answer = std::shared_ptr<const http::Response>;
  using Done = absl::AnyInvocable<void(const Answer&)>;

  explicit StatusCache(std::shared_ptr<ServiceContext> context)
      : context_(std::move(context)) {}

  // Calls `done` once, at once or later.
  void Get(const Asker& asker, Done done);

  // Destroys what waits, without a call.
  void Clear();

 private:
  struct Entry {
    Answer answer;
    int64_t fresh_until_nanoseconds = INT64_MIN;
    bool is_asking = false;
    std::vector<Done> waiters;
  };

  // `question` tells a late result from that of a later question.
  void Resolve(const Asker& asker, uint64_t question);
  void OnResolved(const Asker& asker, uint64_t question,
                  int64_t deadline_nanoseconds,
                  absl::StatusOr<ResolveResult> result);
  void AskBackend(const Asker& asker, const ResolveResult& backend,
                  int64_t deadline_nanoseconds);
  void OnAnswer(const SocketAddress& backend, int64_t asked_nanoseconds,
                BackendAnswer result);
  // The entry of this backend, made if there is room; null if there is none.
  Entry* FindOrMake(const SocketAddress& backend, size_t entries_max)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Call(std::vector<Done> waiters, const Answer& answer);

  const std::shared_ptr<ServiceContext> context_;
  udpgate::internal::Mutex mutex_;
  bool is_resolving_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t question_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t failed_until_nanoseconds_ ABSL_GUARDED_BY(mutex_) = INT64_MIN;
  std::vector<Done> waiters_ ABSL_GUARDED_BY(mutex_);  // for the resolver
  absl::flat_hash_map<SocketAddress, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_STATUS_CACHE_H_
