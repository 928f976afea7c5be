// Which backend serves a new client? What a Redis key says at that moment.
#ifndef UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_
#define UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {

// Reads `RedisOptions::backend_key` for each new client. The answer always
// comes from a GET that was sent after `Resolve` was called; questions that
// wait together share one. GETs are pipelined on one connection.
//
// Redis may come and go: the resolver starts without it, connects when it
// appears, and reconnects with jittered back-off when it goes. A question that
// comes while an attempt to connect runs waits for it; one that comes between
// two attempts is answered with Unavailable at once, and makes the next one
// come soon.
//
// Threads: `Resolve` and `Health` from any thread at any time. It has one
// thread of its own, "udpgate-redis-g". The destructor returns within 100 ms
// whatever Redis does; of questions without an answer `done` is not called, or
// called with Cancelled.
class RedisBackendResolver final : public BackendResolver {
 public:
  // Begins to connect. `lookup`, which must not be null, serves the names of
  // Redis and of the backends. Errors: InvalidArgument from
  // `RedisOptions::Validate`, ResourceExhausted where there is no thread or
  // descriptor left. A Redis that cannot be reached is no error.
  static absl::StatusOr<std::shared_ptr<RedisBackendResolver>> Create(
      RedisOptions options, std::shared_ptr<HostLookup> lookup);

  ~RedisBackendResolver() override;

  // Queues the question; takes microseconds. `done` is called inline where the
  // queue is full, else on a thread of the resolver or of the HostLookup.
  // Errors:
  //   NotFound            the key is missing, or the backend's name is unknown
  //   InvalidArgument     the value is not `host:port`, or far too long
  //   DeadlineExceeded    no answer within `request.timeout`
  //   FailedPrecondition  Redis refuses: wrong type, no permission
  //   Unavailable         Redis cannot be reached, hangs or fails
  //   ResourceExhausted   too many questions wait already
  void Resolve(const ResolveRequest& request, Callback done) override;

  // OK while connected and the last answer was a backend. While it was not,
  // the key is read again from time to time, so that this recovers without a
  // client.
  absl::Status Health() const override;

 private:
  class Impl;
  explicit RedisBackendResolver(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_
