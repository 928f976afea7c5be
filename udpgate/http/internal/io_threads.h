// The io_contexts of an `Engine`, and their threads.
#ifndef UDPGATE_HTTP_INTERNAL_IO_THREADS_H_
#define UDPGATE_HTTP_INTERNAL_IO_THREADS_H_

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace udpgate {
namespace http {
namespace internal {

// One io_context a thread, so that what belongs to one io_context needs neither
// a lock nor a strand.
//
// Threads: any, except `Stop`.
class IoThreads {
 public:
  static absl::StatusOr<std::unique_ptr<IoThreads>> Create(int thread_count);
  ~IoThreads();
  IoThreads(const IoThreads&) = delete;
  IoThreads& operator=(const IoThreads&) = delete;

  void Stop();
  // By the thread that calls `Stop`.
  bool is_running() const { return !threads_.empty(); }

  size_t size() const { return contexts_.size(); }
  boost::asio::io_context& context(size_t index) { return *contexts_[index]; }
  // Each of them in turn: for a new connection.
  boost::asio::io_context& NextContext() {
    return *contexts_[next_.fetch_add(1, std::memory_order_relaxed) %
                      contexts_.size()];
  }

  // On the first thread.
  void Post(absl::AnyInvocable<void()> task);
  void PostAfter(absl::Duration delay, absl::AnyInvocable<void()> task);

 private:
  using WorkGuard =
      boost::asio::executor_work_guard<boost::asio::io_context::executor_type>;

  IoThreads() = default;

  std::vector<std::unique_ptr<boost::asio::io_context>> contexts_;
  std::vector<WorkGuard> work_guards_;
  std::vector<std::thread> threads_;
  std::atomic<size_t> next_{0};
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_IO_THREADS_H_
