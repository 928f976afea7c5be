// Takes the backend of each new session from a Redis key.
#ifndef UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_
#define UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"

namespace udpgate {

// A resolution is called a question here; the names are part of the interface.
struct UDPGATE_EXPORT RedisBackendResolverStats {
  // Counters.
  uint64_t gets_sent = 0;
  // Resolutions that returned the last known backend while Redis was
  // unavailable.
  uint64_t stale_answers = 0;
  // Resolutions rejected because `RedisOptions::requests_waiting_max` were
  // pending.
  uint64_t questions_refused = 0;
  // Resolutions repeated with another GET because the connection was closed.
  uint64_t questions_asked_again = 0;
  // Sets of keys that were forgotten at `RedisOptions::key_sets_max` although
  // their last result still counted.
  uint64_t key_sets_forgotten = 0;
  // Gauges: sets of keys whose last result is known, and pending resolutions.
  uint64_t key_sets = 0;
  uint64_t questions_waiting = 0;
  // True while connected and logged in, whatever Redis replies.
  bool is_connected = false;
  RedisProblem problem = RedisProblem::kNone;
  // With a Redis Cluster: nodes that are connected, a gauge, and GETs for which
  // `RedisOptions::node_connections_max` left no connection.
  uint64_t nodes_connected = 0;
  uint64_t nodes_refused = 0;
};

// Reads `RedisOptions::backend_key` for each new session. A result always comes
// from a GET that was sent after `Resolve` was called; pending resolutions
// with the same keys share one. GETs are pipelined on one connection. Of
// several keys the first one that exists counts; a request for which no key can
// be filled in fails with NotFound. A value may hold several backends, of which
// a client's address chooses one (`BackendList`).
//
// In a Redis Cluster (redis_cluster.h) each GET goes to the node that owns its
// key, on a connection and a thread for each such node. What is said below of
// the connection holds for each of these: while a node is away, only clients
// whose keys it owns wait or fail. A GET that is redirected, or that meets
// CLUSTERDOWN, TRYAGAIN or a lost node, is sent again within
// `RedisOptions::reconnect_patience`.
//
// Each set of keys has its own pause after a reply without a backend, and its
// own last backend. If the keys depend on the client, such a reply leaves
// `Health` as it is.
//
// Connection: the resolver starts without Redis, connects when it becomes
// reachable, and reconnects with jittered back-off. A resolution that starts
// during a connection attempt waits for its end. One that starts between two
// attempts fails at once with Unavailable, and brings the next attempt forward.
//
// If a connection is closed in use (a restart, a failover, a proxy's time-out),
// no resolution fails because of that: for `RedisOptions::reconnect_patience`
// pending and new resolutions wait for the next connection, each within its own
// timeout. The GET is sent again, since it changes nothing: at most 3 GETs per
// resolution. The attempt starts at once if the last one is
// `RedisOptions::reconnect_backoff_min` ago. A connection whose peer no longer
// acknowledges what is sent (a firewall has forgotten it) counts as closed
// after half of `RedisOptions::command_timeout`, and so does one that wants a
// new login (NOAUTH). If Redis replies with a temporary error (MASTERDOWN,
// LOADING), its host name is looked up again, at most once per second. If it
// has other addresses then, the connection is replaced. Every 15 s the role
// (INFO) and the name are looked at: a master that has become a replica counts
// as such an error, and a name whose address has changed is followed after the
// second time.
//
// Rate limit: Redis gets at most `RedisOptions::gets_per_second_max` batches of
// GETs, however many clients arrive. If all have the same keys, a batch has a
// GET for each key. If they have keys of their own, it has those of up to
// `RedisOptions::gets_in_flight_max` clients, and no client is asked for twice:
// the limit of new sessions is then that of the GETs, too. After a failure (a
// reply without a usable backend) no GET is sent for
// `RedisOptions::failure_pause`. There is no other negative cache: a later
// resolution does not get that failure, because the key may have been set
// meanwhile. It waits for the end of the pause and shares the next GET, so that
// clients without a backend cost Redis ten GETs per second, and a client that
// retries immediately is served as soon as the key is set. The exception is a
// resolution whose timeout ends before the pause: it gets the failure at once.
// Attempts to connect are at least `RedisOptions::reconnect_backoff_min` apart
// (less the jitter).
//
// Stale results: with `RedisOptions::stale_backend_age_max` greater than 0, a
// new session may get the last backend that Redis returned, while Redis is
//   not connected          immediately, also after the connection was closed
//   replying with errors   (LOADING, NOAUTH, not Redis) immediately after the
//                          first error; one GET tries again after each
//                          `failure_pause`
//   not replying           when the GET has failed (within
//                          `RedisOptions::command_timeout`), or when half of
//                          the resolution's timeout has passed
// The age counts from the reply that held the backend. A reply without a usable
// backend (the key is missing, is of another type, holds no `host:port` or an
// unknown host name) is not an outage: it gives no stale result, and discards
// the last backend, unless it holds the same text and only the lookup of its
// name fails.
//
// Threads: `Resolve`, `Health` and `GetStats` may be called from any thread at
// any time. The resolver has one thread of its own, "udpgate-redis-g". The
// destructor returns within 100 ms whatever Redis does; the callbacks of
// pending resolutions are not called, or called with Cancelled.
class UDPGATE_EXPORT RedisBackendResolver final : public BackendResolver {
 public:
  // Starts to connect. `lookup`, which must not be null, resolves the host
  // names of Redis and of the backends. Errors: InvalidArgument from
  // `RedisOptions::Validate`, ResourceExhausted if no thread or descriptor is
  // left. A Redis that cannot be reached is not an error.
  static absl::StatusOr<std::shared_ptr<RedisBackendResolver>> Create(
      RedisOptions options, std::shared_ptr<HostLookup> lookup);

  ~RedisBackendResolver() override;

  // Queues the request, within microseconds. `done` is called inline if the
  // queue is full, else on a thread of the resolver or of the HostLookup.
  // Errors:
  //   NotFound            the key is missing, or the backend's name is unknown
  //   InvalidArgument     the value is not `host:port` or is too long, or the
  //                       key is of another type
  //   DeadlineExceeded    no result within `request.timeout`
  //   FailedPrecondition  Redis denies access
  //   Unavailable         Redis cannot be reached, does not reply, or fails
  //   ResourceExhausted   too many resolutions are pending
  void Resolve(const ResolveRequest& request, Callback done) override;

  // OK while connected, if the last reply held a backend; not OK while results
  // are stale. After a reply without a backend the key is read from time to
  // time, so that the health recovers without a client.
  absl::Status Health() const override;

  RedisBackendResolverStats GetStats() const;

 private:
  class Impl;
  explicit RedisBackendResolver(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_H_
