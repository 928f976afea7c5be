#include "udpgate/http/internal/io_threads.h"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/system_error.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/thread.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

namespace asio = ::boost::asio;
using ::boost::system::error_code;
using ::udpgate::internal::StartThread;
using ::udpgate::internal::ThreadRole;

}  // namespace

absl::StatusOr<std::unique_ptr<IoThreads>> IoThreads::Create(int thread_count) {
  std::unique_ptr<IoThreads> threads(new IoThreads());
  for (int i = 0; i < thread_count; ++i) {
    // The only way to learn that epoll_create(2) or eventfd(2) failed. Here the
    // reactor is created as well, so that nothing can throw later.
    try {
      // One thread runs it; others may post.
      threads->contexts_.push_back(std::make_unique<asio::io_context>(1));
      asio::steady_timer create_reactor(*threads->contexts_.back());
    } catch (const boost::system::system_error& error) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "cannot create an event loop for HTTP: ", error.code().message()));
    }
    threads->work_guards_.push_back(
        asio::make_work_guard(*threads->contexts_.back()));
  }
  for (int i = 0; i < thread_count; ++i) {
    asio::io_context* const context = threads->contexts_[i].get();
    absl::StatusOr<std::thread> thread =
        StartThread(absl::StrCat("udpgate-http-", i), ThreadRole::kControlPlane,
                    [context] { context->run(); });
    if (!thread.ok()) return thread.status();
    threads->threads_.push_back(*std::move(thread));
  }
  return threads;
}

IoThreads::~IoThreads() { Stop(); }

void IoThreads::Stop() {
  work_guards_.clear();
  for (const auto& context : contexts_) context->stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void IoThreads::Post(absl::AnyInvocable<void()> task) {
  asio::post(*contexts_[0], [task = std::move(task)]() mutable { task(); });
}

void IoThreads::PostAfter(absl::Duration delay,
                          absl::AnyInvocable<void()> task) {
  auto timer = std::make_unique<asio::steady_timer>(*contexts_[0]);
  asio::steady_timer* const pointer = timer.get();
  pointer->expires_after(absl::ToChronoNanoseconds(delay));
  pointer->async_wait([timer = std::move(timer), task = std::move(task)](
                          const error_code& error) mutable {
    if (!error) task();
  });
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
