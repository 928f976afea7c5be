// The threads that handle the requests of the admin endpoint, since a handler
// may block and a thread of the HTTP server must not.
#ifndef UDPGATE_ADMIN_INTERNAL_REQUEST_WORKERS_H_
#define UDPGATE_ADMIN_INTERNAL_REQUEST_WORKERS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "udpgate/http/message.h"
#include "udpgate/http/server.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace admin {
namespace internal {

// Threads: "udpgate-adm-N". `Handle` and `refused` from any; the rest from one.
class RequestWorkers {
 public:
  // Called from several threads at once.
  using Handler = std::function<http::Response(const http::Request&)>;

  RequestWorkers(int worker_count, int queue_size, Handler handler);
  // Stops.
  ~RequestWorkers();
  RequestWorkers(const RequestWorkers&) = delete;
  RequestWorkers& operator=(const RequestWorkers&) = delete;

  absl::Status Start();
  // Returns after the last handler returned. Drops the requests that wait. May
  // be called twice.
  void Stop();

  // Passes the request to a worker. If `queue_size` requests wait already, the
  // response is a 503. Never blocks.
  void Handle(http::Request request, http::Server::Respond respond);

  // Requests that found the queue full.
  uint64_t refused() const { return refused_; }

 private:
  struct Job {
    http::Request request;
    http::Server::Respond respond;
  };

  void Work();

  const int worker_count_;
  const size_t queue_size_;
  const Handler handler_;
  std::atomic<uint64_t> refused_{0};
  udpgate::internal::Mutex mutex_;
  udpgate::internal::ConditionVariable jobs_changed_;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_REQUEST_WORKERS_H_
