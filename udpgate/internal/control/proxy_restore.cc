#include "udpgate/internal/control/proxy_restore.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "udpgate/internal/control/handed_tags.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace internal {
namespace {

// Waits until all that hold its token have released it.
class Barrier {
 public:
  // Keeps the barrier alive, too: whoever releases it last still unlocks it.
  static std::shared_ptr<void> Token(std::shared_ptr<Barrier> barrier) {
    return {nullptr, [barrier = std::move(barrier)](void*) {
              MutexLock lock(&barrier->mutex_);
              barrier->is_open_ = true;
              barrier->opened_.SignalAll();
            }};
  }

  void Wait() {
    MutexLock lock(&mutex_);
    while (!is_open_) opened_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  ConditionVariable opened_;
  bool is_open_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::StatusOr<std::vector<RestoredSession>> ProxyRestore::Restore(
    absl::Span<const RestorableSession> sessions) {
  std::vector<RestoreTask> tasks(sessions.size());
  HandedTags tags;
  for (size_t i = 0; i < sessions.size(); ++i) {
    tasks[i].session = &sessions[i];
    tasks[i].tag = tags.Own(sessions[i].tag, context_->resolver.get());
  }
  if (absl::Status status = RestoreTasks(&tasks); !status.ok()) return status;
  std::vector<RestoredSession> results;
  results.reserve(tasks.size());
  for (const RestoreTask& task : tasks) results.push_back(task.result);
  return results;
}

// Sessions that keep their ports come first, in all shards: else one that lost
// its own might be given that of another.
absl::Status ProxyRestore::RestoreTasks(std::vector<RestoreTask>* tasks) {
  for (const bool takes_other_relays : {false, true}) {
    if (absl::Status status = RestorePhase(takes_other_relays, tasks);
        !status.ok()) {
      return status;
    }
  }
  return std::all_of(tasks->begin(), tasks->end(),
                     [](const RestoreTask& task) { return task.is_done; })
             ? absl::OkStatus()
             : absl::UnavailableError("the Proxy stops or is taken over");
}

absl::Status ProxyRestore::RestorePhase(bool takes_other_relays,
                                        std::vector<RestoreTask>* tasks) {
  const auto barrier = std::make_shared<Barrier>();
  {
    const std::shared_ptr<void> token = Barrier::Token(barrier);
    MutexLock lock(&life_->mutex);
    switch (life_->phase) {
      case LifeState::Phase::kCreated:
        data_plane_->Restore(takes_other_relays, tasks);
        return absl::OkStatus();
      case LifeState::Phase::kTakingOver:
        return absl::FailedPreconditionError("a takeover is under way");
      case LifeState::Phase::kRunning:
        data_plane_->PostRestore(takes_other_relays, tasks, token);
        break;
      case LifeState::Phase::kStopped:
        return absl::UnavailableError("the Proxy is stopped");
    }
  }
  barrier->Wait();
  return absl::OkStatus();
}

void ProxyRestore::SetStandby(bool is_standby) {
  // In this order: a client that a shard serves after it was told is refused.
  const bool was_standby = context_->is_standby.exchange(is_standby);
  if (is_standby && !was_standby) data_plane_->SupersedeAll();
}

void ProxyRestore::Supersede(absl::Span<const uint64_t> session_ids) {
  if (session_ids.empty()) return;
  const auto ids = std::make_shared<const absl::flat_hash_set<uint64_t>>(
      session_ids.begin(), session_ids.end());
  {
    MutexLock lock(&life_->mutex);
    if (life_->phase == LifeState::Phase::kCreated) {
      data_plane_->Supersede(*ids);
      return;
    }
    // Between the parts of a takeover the other process has the sessions.
    if (life_->phase != LifeState::Phase::kRunning) return;
  }
  for (const std::shared_ptr<Inbox>& inbox : context_->inboxes) {
    ShardMessage message;
    message.kind = ShardMessage::Kind::kSupersede;
    message.ids = ids;
    inbox->PostDisconnect(std::move(message));
  }
}

}  // namespace internal
}  // namespace udpgate
