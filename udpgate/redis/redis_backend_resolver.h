// Which backend serves a new client? What a Redis key says at that moment.
#ifndef UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_
#define UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {

// What a `RedisBackendResolver` has done, and what it holds now.
struct RedisBackendResolverStats {
  // Counters: they only grow.
  uint64_t gets_sent = 0;
  // Questions answered with the last backend known, while Redis was away.
  uint64_t stale_answers = 0;
  // Questions refused, since `RedisOptions::requests_waiting_max` waited.
  uint64_t questions_refused = 0;
  // Questions put into a further GET, since the connection was closed.
  uint64_t questions_asked_again = 0;
  // Gauge: questions without an answer.
  uint64_t questions_waiting = 0;
  // Whether Redis answers, whatever it answers.
  bool is_connected = false;
};

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
// A connection that is closed in use (a restart, a failover, a proxy's
// time-out) fails no question: for `RedisOptions::reconnect_patience` those
// without an answer, and those that come, wait for the next connection, each
// within its own time. A GET changes nothing, so it is sent again: a question
// is part of 3 GETs at most. Where Redis answers an error that passes by itself
// (MASTERDOWN, LOADING), its name is looked up again, once a second at most,
// and the connection made anew where the name leads to other addresses.
//
// Floods: Redis gets no more than `RedisOptions::gets_per_second_max` GETs,
// however many clients come, and after an answer without a usable backend none
// for `RedisOptions::failure_pause`. That pause is what there is of a negative
// cache. A failure is never handed on to a question that came after it: the key
// may have been set meanwhile, and who asks now must see that. The question
// waits for the end of the pause instead and shares the next GET with all who
// came during it, so that a crowd without a backend costs Redis ten GETs a
// second, and a client that tries again at once is served as soon as the key is
// there. The one exception is a question whose own time ends sooner than the
// pause: it gets the failure at once, which says more than that its time ended.
// While there is no connection nothing is sent at all, and attempts to connect
// are `RedisOptions::reconnect_backoff_min` apart at least (less the jitter).
//
// With `RedisOptions::stale_backend_age_max`, and only then, a new client may
// get an answer that is no news: the last backend that Redis gave, while Redis
// is away:
//   not connected      at once, also after a connection was closed
//   answering errors   (LOADING, NOAUTH, what is no Redis) after the first
//                      error at once; after each `failure_pause` one GET tries
//                      again
//   not answering      when the GET has failed (`RedisOptions::command_timeout`
//                      at most), or half of the question's own time has passed
// Its age counts from when Redis last gave it. It is the answer of Redis and no
// sign of absence that the key is missing, holds no `host:port` or is of a
// wrong type, or that its host name cannot be looked up: no stale answer then,
// and none later, since the backend was taken back (not so where the name was
// the same and only its look-up fails).
//
// Threads: `Resolve`, `Health` and `GetStats` from any thread at any time. It
// has one thread of its own, "udpgate-redis-g". The destructor returns within
// 100 ms whatever Redis does; of questions without an answer `done` is not
// called, or called with Cancelled.
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
  //   InvalidArgument     the value is not `host:port`, or far too long, or the
  //                       key is of another type
  //   DeadlineExceeded    no answer within `request.timeout`
  //   FailedPrecondition  Redis refuses: no permission
  //   Unavailable         Redis cannot be reached, hangs or fails
  //   ResourceExhausted   too many questions wait already
  void Resolve(const ResolveRequest& request, Callback done) override;

  // OK while connected and the last answer was a backend; not OK while stale
  // answers are given. While the last answer was none,
  // the key is read again from time to time, so that this recovers without a
  // client.
  absl::Status Health() const override;

  RedisBackendResolverStats GetStats() const;

 private:
  class Impl;
  explicit RedisBackendResolver(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_
