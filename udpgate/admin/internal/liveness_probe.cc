#include "udpgate/admin/internal/liveness_probe.h"

#include "absl/status/statusor.h"
#include "udpgate/internal/thread.h"

namespace udpgate {
namespace admin {
namespace internal {

using ::udpgate::internal::MutexLock;

absl::Status LivenessProbe::Start() {
  absl::StatusOr<std::thread> thread =
      udpgate::internal::StartThread("udpgate-adm-liv", [this] { Run(); });
  if (thread.ok()) thread_ = *std::move(thread);
  return thread.status();
}

void LivenessProbe::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool LivenessProbe::IsAlive(absl::Duration timeout) {
  const auto begin = std::chrono::steady_clock::now();
  const auto deadline = begin + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&mutex_);
  if (completed_ > 0 && begin - completed_at_ < std::chrono::seconds(1)) {
    return true;
  }
  const uint64_t before = completed_;
  wanted_ = true;
  changed_.SignalAll();
  while (completed_ == before && !stopping_) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    changed_.WaitFor(&mutex_, deadline - now);
  }
  return completed_ != before;
}

void LivenessProbe::Run() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      while (!wanted_ && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
      wanted_ = false;
    }
    visit_all_();
    MutexLock lock(&mutex_);
    ++completed_;
    completed_at_ = std::chrono::steady_clock::now();
    changed_.SignalAll();
  }
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
