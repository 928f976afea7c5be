// The threads of HTTP servers and clients.
//
//   auto engine = udpgate::http::Engine::Create({});
//   if (!engine.ok()) return engine.status();
//   auto server = udpgate::http::Server::Create(engine->get(), options,
//   handler);
//   ...
//   (*server)->Stop();
//   (*engine)->Stop();
#ifndef UDPGATE_HTTP_ENGINE_H_
#define UDPGATE_HTTP_ENGINE_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"

namespace udpgate {
namespace http {
namespace internal {
class IoThreads;
}  // namespace internal

struct UDPGATE_EXPORT EngineOptions {
  // 1 to 64. Each connection belongs to one thread.
  int thread_count = 1;

  // OK, or an error of option_error.h.
  absl::Status Validate() const;
};

// Threads: "udpgate-http-N", which block all signals and yield to the data
// plane. They run from `Create` until `Stop`. `Post` and `PostAfter` from any
// thread; the rest from one thread, which must not be one of these.
//
// Ownership: must outlive the servers and clients that use it.
class UDPGATE_EXPORT Engine {
 public:
  // InvalidArgument from `EngineOptions::Validate`; ResourceExhausted if there
  // are too few descriptors or threads.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(EngineOptions options);

  // Calls `Stop`.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Ends the threads. Servers and clients must have been stopped before. Tasks
  // that have not run are destroyed with the Engine. May be called twice.
  void Stop();

  // Runs `task` on one of the threads, always the same one, so that tasks run
  // in their order. It must not block.
  void Post(absl::AnyInvocable<void()> task);
  // The same, after `delay`.
  void PostAfter(absl::Duration delay, absl::AnyInvocable<void()> task);

  // For the other classes of this folder.
  internal::IoThreads* io_threads() const { return io_threads_.get(); }

 private:
  explicit Engine(std::unique_ptr<internal::IoThreads> io_threads);

  const std::unique_ptr<internal::IoThreads> io_threads_;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_ENGINE_H_
