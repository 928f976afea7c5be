#include "udpgate/admin/internal/request_workers.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/thread.h"

namespace udpgate {
namespace admin {
namespace internal {

using ::udpgate::internal::MutexLock;
using ::udpgate::internal::StartThread;
using ::udpgate::internal::ThreadRole;

RequestWorkers::RequestWorkers(int worker_count, int queue_size,
                               Handler handler)
    : worker_count_(worker_count),
      queue_size_(static_cast<size_t>(queue_size)),
      handler_(std::move(handler)) {}

RequestWorkers::~RequestWorkers() { Stop(); }

absl::Status RequestWorkers::Start() {
  for (int i = 0; i < worker_count_; ++i) {
    absl::StatusOr<std::thread> thread =
        StartThread(absl::StrCat("udpgate-adm-", i), ThreadRole::kControlPlane,
                    [this] { Work(); });
    if (!thread.ok()) {
      Stop();
      return thread.status();
    }
    threads_.push_back(*std::move(thread));
  }
  return absl::OkStatus();
}

void RequestWorkers::Stop() {
  std::deque<Job> dropped;
  {
    MutexLock lock(&mutex_);
    is_stopping_ = true;
    dropped.swap(jobs_);
    jobs_changed_.SignalAll();
  }
  dropped.clear();  // without the lock, and before the wait
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void RequestWorkers::Handle(http::Request request,
                            http::Server::Respond respond) {
  {
    MutexLock lock(&mutex_);
    if (jobs_.size() < queue_size_ && !is_stopping_) {
      jobs_.push_back({std::move(request), std::move(respond)});
      jobs_changed_.SignalOne();
      return;
    }
  }
  ++refused_;
  respond(http::JsonError(503, "too many queued requests"));
}

void RequestWorkers::Work() {
  while (true) {
    Job job;
    {
      MutexLock lock(&mutex_);
      while (jobs_.empty() && !is_stopping_) jobs_changed_.Wait(&mutex_);
      if (is_stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.respond(handler_(job.request));
  }
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
