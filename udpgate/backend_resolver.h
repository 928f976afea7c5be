// Chooses the backend of a new session. A `Proxy` resolves once per session.
//
// Implementations: `StaticBackendResolver` (one fixed address, for tests and
// small set-ups) and `RedisBackendResolver` (//udpgate/redis). Implement the
// interface to connect your own orchestrator. `MockBackendResolver` (//testing)
// is for unit tests.
#ifndef UDPGATE_BACKEND_RESOLVER_H_
#define UDPGATE_BACKEND_RESOLVER_H_

#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// What is known about the client. A struct, so that fields can be added without
// breaking implementations.
struct ResolveRequest {
  SocketAddress client;
  // The client's first datagram. Valid only during `Resolve`; copy what you
  // need later.
  absl::Span<const char> first_datagram;
  // A result after this time is ignored; the session has ended by then.
  absl::Duration timeout;
};

struct ResolveResult {
  // Where the client's datagrams are sent. It identifies the backend: two names
  // for the same address are the same backend.
  SocketAddress backend;
  // The backend as the operator configured it, for logs:
  // `lobby-3.internal:19132`.
  std::string label;
  // Further addresses of the same backend, in order of preference. The next one
  // is used if an address recently refused or stopped replying (see
  // `ProxyOptions::backend_holdoff`). May be empty.
  std::vector<SocketAddress> alternatives = {};
};

//   class RoundRobinResolver final : public udpgate::BackendResolver {
//    public:
//     explicit RoundRobinResolver(std::vector<udpgate::SocketAddress> backends)
//         : backends_(std::move(backends)) {}
//     void Resolve(const udpgate::ResolveRequest& request,
//                  Callback done) override {
//       const auto& backend = backends_[next_++ % backends_.size()];
//       done(udpgate::ResolveResult{backend, backend.ToString()});
//     }
//
//    private:
//     const std::vector<udpgate::SocketAddress> backends_;
//     std::atomic<size_t> next_{0};  // Resolve runs on several threads
//   };
//
// examples/late_resolver.cc completes asynchronously, from its own thread.
//
// Threads: `Resolve` and `Health` are called from several threads at once.
// Ownership: a `Proxy` holds a shared pointer and drops it in its destructor.
class BackendResolver {
 public:
  using Callback = absl::AnyInvocable<void(absl::StatusOr<ResolveResult>)>;

  virtual ~BackendResolver() = default;

  // Finds the backend of a new client and calls `done` with it.
  //
  // Called on a data-plane thread, once per session, and again if a disconnect
  // event makes a pending resolution stale. It must return within microseconds:
  // do not wait for a network, a disk or a contended lock. Queue the request
  // and call `done` from another thread instead.
  //
  // `done` may be called inline or later, from any thread, at most once. A late
  // result is ignored. If `done` is destroyed without a call, the session ends
  // with the resolve timeout. `done` may outlive the Proxy.
  //
  // The error code decides the reason under which the client's buffered
  // datagrams are dropped. The client's next datagram starts a new resolution:
  //   NotFound          there is no backend now       -> no_backend
  //   InvalidArgument   the result is not an address  -> invalid_backend
  //   DeadlineExceeded  no result in time             -> resolve_timed_out
  //   any other         the backend source failed     -> resolve_failed
  virtual void Resolve(const ResolveRequest& request, Callback done) = 0;

  // OK if a call of `Resolve` would probably succeed now; otherwise the reason.
  // For readiness probes. Must not block.
  virtual absl::Status Health() const { return absl::OkStatus(); }
};

}  // namespace udpgate

#endif  // UDPGATE_BACKEND_RESOLVER_H_
