// Who serves a new client? The question that a `Proxy` asks once for each
// session.
//
// Implementations here: `StaticBackendResolver` (one fixed address, for tests
// and small set-ups), `RedisBackendResolver` (//udpgate/redis). Write another
// one to bring your own orchestrator; `MockBackendResolver` (//testing) serves
// unit tests.
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

// What is known of the client. A struct, so that it can grow without breaking
// implementations.
struct ResolveRequest {
  SocketAddress client;
  // The client's first datagram. Valid only during `Resolve`: copy what the
  // answer needs later.
  absl::Span<const char> first_datagram;
  // After this time the answer is of no more use: the client has been given
  // up.
  absl::Duration timeout;
};

struct ResolveResult {
  // Where the client's datagrams go. An identity: two names for the same
  // address are the same backend.
  SocketAddress backend;
  // What the operator wrote, for logs: `lobby-3.internal:19132`.
  std::string label;
  // Further addresses of the same backend, in the order of preference: the next
  // is used where one has just refused or fallen silent (see
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
// examples/late_resolver.cc answers later, from a thread of its own.
//
// Threads: `Resolve` and `Health` are called from several threads at once.
// Ownership: a `Proxy` holds a shared pointer and drops it in its destructor.
class BackendResolver {
 public:
  using Callback = absl::AnyInvocable<void(absl::StatusOr<ResolveResult>)>;

  virtual ~BackendResolver() = default;

  // Finds the backend of a new client and calls `done` with it.
  //
  // Called on a thread that moves datagrams, once for each session (once more
  // where a disconnect event makes a running answer stale): must return within
  // microseconds. Do not wait for a network, a disk or a contended lock; queue
  // the question and answer from another thread.
  //
  // `done` may be called inline or later, from any thread, at most once. A
  // late answer is ignored, and destroying `done` uncalled is harmless: the
  // session then ends with the resolve time-out. `done` may outlive the Proxy.
  //
  // Errors decide the reason under which the client's waiting datagrams are
  // counted as dropped; its next datagram asks again:
  //   NotFound          there is no backend now           -> no_backend
  //   InvalidArgument   the answer is not an address      -> invalid_backend
  //   DeadlineExceeded  no answer in time                 -> resolve_timed_out
  //   any other         the source of answers is failing  -> resolve_failed
  virtual void Resolve(const ResolveRequest& request, Callback done) = 0;

  // OK where a call of `Resolve` now would probably be answered; otherwise
  // says why not. For readiness probes. Must not block.
  virtual absl::Status Health() const { return absl::OkStatus(); }
};

}  // namespace udpgate

#endif  // UDPGATE_BACKEND_RESOLVER_H_
