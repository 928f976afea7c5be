#include "udpgate/http/engine.h"

#include <utility>

#include "udpgate/http/internal/io_threads.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace http {

absl::Status EngineOptions::Validate() const {
  return IntegerRange{"thread_count", 1, 64}.Check(thread_count);
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(EngineOptions options) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<internal::IoThreads>> io_threads =
      internal::IoThreads::Create(options.thread_count);
  if (!io_threads.ok()) return io_threads.status();
  return std::unique_ptr<Engine>(new Engine(*std::move(io_threads)));
}

Engine::Engine(std::unique_ptr<internal::IoThreads> io_threads)
    : io_threads_(std::move(io_threads)) {}

Engine::~Engine() { Stop(); }

void Engine::Stop() { io_threads_->Stop(); }

void Engine::Post(absl::AnyInvocable<void()> task) {
  io_threads_->Post(std::move(task));
}

void Engine::PostAfter(absl::Duration delay, absl::AnyInvocable<void()> task) {
  io_threads_->PostAfter(delay, std::move(task));
}

}  // namespace http
}  // namespace udpgate
